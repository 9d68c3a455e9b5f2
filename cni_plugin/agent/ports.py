"""The ports of a call that the agent serves: the direct run's own, with what can be kept kept.

What differs: the namespace comes as a descriptor, the host's sockets and the validated configs are
kept, removals that arrive together are done together, and a call that cannot be served here (its
IPAM plugin is a program of the node) is declined, so that the launcher runs it itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Any

from cni_plugin.agent.stages import Stages, Timed
from cni_plugin.cni.conf_cache import Cached
from cni_plugin.cni.conf_load import KNOWN_BYTES, KNOWN_MAX, read_conf
from cni_plugin.cni.values import Attachment, NetConf, Request, Result, RuntimeConf
from cni_plugin.config_cache import ConfigCache
from cni_plugin.disk import DiskRecords
from cni_plugin.kernel.background import Background
from cni_plugin.kernel.execute import Outcome
from cni_plugin.kernel.host import Commits, Host
from cni_plugin.kernel.joint import JointRemoval
from cni_plugin.kernel.namespace import NetnsGone, open_own_netns, verify
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.port import NodeKernel, OpenNetns
from cni_plugin.model.objects import HOST
from cni_plugin.model.plan import Step
from cni_plugin.ports import Leases, Netns, Ports
from cni_plugin.wiring import node_ports
from ipam.disk import LOCK_TIMEOUT_S, DiskLeases
from ipam.errors import LockTimeout
from ipam.memory import Memory
from ipam.node import read_boot_id
from ipam.values import IPAddress, IpamConf

Warn = Callable[[str], None]


AT_ONCE_S = 0.1  # a store's lock is held for a millisecond; longer means that somebody keeps it


class Declined(BaseException):
    """Nothing was done, and nothing will be: the launcher may run the call itself. Not an
    Exception, which `handle` would answer."""


class Busy(BaseException):
    """Somebody else works on this attachment: nothing was done, try again where one may wait."""


class Shared:
    """What all workers of the agent have in common."""

    def __init__(self) -> None:
        self.confs: dict[bytes, Cached] = {}
        self.netns = open_own_netns()  # as long as the process lives
        self.commits = Commits()
        self.joint = JointRemoval(Host(self.commits, Background(), self.netns))
        # By folder. flock(2) between threads means polling; among ourselves we queue.
        self.stores: dict[tuple[str, str], Lock] = {}
        self.boot_id = read_boot_id()  # the agent ends with the boot
        self.memory = Memory()
        self.calls: dict[bytes, NetConf] = {}

    def store_lock(self, data_dir: str, network: str) -> Lock:
        """Of a network's folder."""
        return self.stores.setdefault((data_dir, network), Lock())

    def remember(self, stdin: bytes, conf: NetConf) -> None:
        """The config of a whole stdin: the runtime sends the very same for every pod that asks for
        nothing of its own."""
        if len(stdin) > KNOWN_BYTES:
            return
        while len(self.calls) >= KNOWN_MAX:
            self.calls.pop(next(iter(self.calls)), None)
        self.calls[stdin] = conf


class Worker:
    """What one thread keeps from call to call. patient: it may wait for other processes."""

    def __init__(self, shared: Shared, *, patient: bool, together: bool, host: Host) -> None:
        self._shared = shared
        self._patient = patient
        self._together = together
        self.host = host
        self._cache = ConfigCache()

    def ports(self, netns_fd: int | None, netns_errno: int, stages: Stages, warn: Warn) -> Ports:
        """The ports of one call. netns_fd stays the caller's to close."""
        plain = node_ports(warn)
        limit_s = LOCK_TIMEOUT_S if self._patient else AT_ONCE_S
        leases: Any = DiskLeases(
            self._address_in_use,
            boot_id=lambda: self._shared.boot_id,
            warn=warn,
            lock_timeout_s=limit_s,
            memory=self._shared.memory,
        )
        if not self._patient:
            leases = _OneAtATime(leases, self._shared.stores)
        timed: Any = Timed(leases, stages)
        records: Any = Timed(_Records(patient=self._patient), stages)
        return plain._replace(
            leases=timed,
            records=records,
            delegate=_decline,
            netns=lambda path: _given_netns(path, netns_fd, netns_errno, self.host),
            kernel=lambda netns: self._kernel(netns, stages),
        )

    def _address_in_use(self, network: str, address: IPAddress) -> bool:
        """As wiring's, with the worker's own sockets."""
        return NodeKernel(Places(host=self.host)).holds(network, address)

    @contextmanager
    def _kernel(self, netns: Netns | None, stages: Stages) -> Iterator[Any]:
        places = Places(netns.fd if netns else None, self.host)
        made = _Together(places, self._shared.joint) if self._together else NodeKernel(places)
        try:
            yield Timed(made, stages)
        except BaseException:
            self.host.close()  # after a failure nobody knows what the sockets still hold
            raise
        finally:
            places.close()

    def load_conf(
        self, document: dict[str, Any], stdin: bytes, warn: Warn, *, lenient: bool
    ) -> NetConf:
        """The config, from memory when it has been seen. stdin: what the document was made of.
        Raises Declined for one whose addresses come from a program of the node, which the agent
        may not see."""
        lines: list[str] = []
        conf = self._shared.calls.get(stdin) if not lenient else None
        if conf is None:
            conf = read_conf(
                document,
                lines.append,
                lenient=lenient,
                read=self._cache.read,
                write=self._cache.write,
                known=self._shared.confs,
            )
            for line in lines:
                warn(line)
            plain = conf.runtime == RuntimeConf()  # of pods that ask there are as many as pods
            if plain and not lenient and not lines and "prevResult" not in document:
                self._shared.remember(stdin, conf)
        if conf.ipam is not None and not conf.ipam.in_process:
            raise Declined
        return conf


class _OneAtATime:
    """The store's port, for one thread of this process at a time. Raises Busy where another one,
    or another process, keeps it: whoever may wait takes the call then."""

    def __init__(self, leases: DiskLeases, locks: dict[tuple[str, str], Lock]) -> None:
        self._leases = leases
        self._locks = locks

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._leases, name)

        def call(conf: IpamConf, network: str, *arguments: Any, **named: Any) -> Any:
            lock = self._locks.setdefault((conf.data_dir, network), Lock())
            if not lock.acquire(timeout=AT_ONCE_S):
                raise Busy
            try:
                return method(conf, network, *arguments, **named)
            except LockTimeout as error:
                raise Busy from error
            finally:
                lock.release()

        return call


def unused(leases: Leases) -> Any:
    """The store's port for what nobody was told of: a release of it needs no cooldown."""
    return _Unused(leases)


class _Unused:
    def __init__(self, leases: Leases) -> None:
        self._leases = leases

    def __getattr__(self, name: str) -> Any:
        return getattr(self._leases, name)

    def release(self, *arguments: Any) -> Any:
        return self._leases.release(*arguments, unused=True)


class _Records(DiskRecords):
    """The records; one who may not wait for an attachment's lock raises Busy."""

    def __init__(self, *, patient: bool) -> None:
        super().__init__()
        self._patient = patient

    def lock(self, network: str, attachment: Attachment) -> AbstractContextManager[None]:
        patiently = super().lock
        return (patiently if self._patient else self._at_once)(network, attachment)

    @contextmanager
    def _at_once(self, network: str, attachment: Attachment) -> Iterator[None]:
        with self.try_lock(network, attachment) as free:
            if not free:
                raise Busy
            yield


class _Together(NodeKernel):
    """A kernel whose removals on the host wait for those of others."""

    def __init__(self, places: Places, joint: JointRemoval) -> None:
        super().__init__(places)
        self._joint = joint

    def apply(self, steps: Sequence[Step], *, stop: bool) -> Outcome:
        shared = not stop and all(
            step.wanted is None and getattr(step.subject, "place", HOST) == HOST for step in steps
        )
        return self._joint.apply(steps) if shared and steps else super().apply(steps, stop=stop)


@contextmanager
def _given_netns(path: str, descriptor: int | None, number: int, host: Host) -> Iterator[OpenNetns]:
    """The namespace that the launcher has opened. Raises InvalidNetns, NetnsGone without one."""
    if descriptor is None:
        raise NetnsGone(
            f"CNI_NETNS {path!r} cannot be opened: {os.strerror(number)}",
            "it must be the path of a network namespace, for example /var/run/netns/NAME",
        )
    verify(descriptor, path, host.netns)
    yield OpenNetns(descriptor)


def _decline(request: Request, plugin: str, command: str) -> Result | None:
    raise Declined(request.command, plugin, command)
