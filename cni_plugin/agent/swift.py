"""A quick ADD: what is always the same comes from a stencil, what the node has from a ground.

The order is every ADD's (commands.add): nothing of the attachment is there, the lease, the record,
the kernel, the record again. What does not go smoothly is no matter for this file: where nothing
was begun the call goes the general way, and what was begun is cleaned up before, as after an ADD
that was cut off there (commands.delete.clean_up).
"""

from __future__ import annotations

import errno
import re
import sys
import time
from contextlib import suppress
from fcntl import ioctl
from typing import NamedTuple

from cni_plugin.agent.calls import Call, report
from cni_plugin.agent.ground import Hear
from cni_plugin.agent.known import Known, known
from cni_plugin.agent.ports import Busy, Shared, Worker, unused
from cni_plugin.agent.report import CallReport
from cni_plugin.agent.stages import Stages
from cni_plugin.agent.stencil import Send, Write
from cni_plugin.agent.stencils import Ready, Stencils
from cni_plugin.agent.subject import (
    GENERATION,
    GENERATION_HOLE,
    INDEX,
    Kind,
    Subject,
    index_hole,
    shape,
    subject,
)
from cni_plugin.cni.env import REQUEST_ID, Environment, parse_environment
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf, Reply, Request
from cni_plugin.commands.delete import clean_up
from cni_plugin.disk import DiskRecords
from cni_plugin.filter import host_ports as filtered
from cni_plugin.filter.presence import element
from cni_plugin.kernel import host_ports, nft, sysctl
from cni_plugin.kernel.namespace import inside, netns_identity
from cni_plugin.kernel.netlink import Socket
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import HOST, POD
from cni_plugin.model.plan import Step
from ipam.disk import DiskLeases
from ipam.errors import IpamError
from ipam.values import IPAddress, IpamConf, Owner

STORE_S = 0.01  # for the store, which others keep for a fifth of a millisecond
ID_MIN = 12  # characters of a container id that nothing else in a message looks like
PLAIN = re.compile(r"[A-Za-z0-9/._:@+-]*", re.ASCII)  # JSON has it as it is, also within a string
SIOCGIFINDEX = 0x8933  # linux/sockios.h; struct ifreq is a name of 16 bytes and a union of 24
IFREQ_BYTES = 40


class _Stumble(Exception):
    """Something is not as it always is."""


class Swift:
    """For one thread, with a worker of its own."""

    def __init__(self, shared: Shared, worker: Worker, hear: Hear) -> None:
        """hear: see ground.Lookout."""
        self._shared = shared
        self._worker = worker
        self._host = worker.host
        self._records = DiskRecords()
        self._lines: list[str] = []  # what the store has said of the lease under way
        self._leases = DiskLeases(
            self._in_use,
            boot_id=lambda: shared.boot_id,
            warn=self._lines.append,
            lock_timeout_s=0.0,
            memory=shared.memory,
        )
        self._own_netns = netns_identity(shared.netns)
        self._stencils = Stencils(worker.host, hear)

    def add(self, call: Call) -> tuple[Reply, CallReport] | None:
        """None: it is for the general way, as if it had not been here."""
        begun_s = time.perf_counter()
        seen = known(self._shared, call.stdin)
        if seen is None or not self._stencils.fits(seen):
            return None
        who = _caller(call)
        inode = self._pod_inode(call) if who else 0
        if who is None or not inode:
            return None
        stages = Stages()
        kind = Kind(len(who.attachment.container_id), who.attachment.ifname, shape(seen.asked))
        try:
            ready = self._stencils.get(seen.conf, kind)
        except (CNIError, OSError):
            self._host.close()
            return None
        stages.add("observe", begun_s)
        network = seen.conf.name
        release = self._records.lock_now(network, who.attachment) if ready else None
        if ready is None or release is None:
            return None
        try:
            reply = self._locked(_Add(call, seen, who, inode, stages), ready)
        finally:
            release()
        if reply is None:
            return None
        call.network = network
        waited_s = begun_s - call.arrived_s
        return reply, report(call, reply, waited_s, time.perf_counter() - begun_s, stages)

    def close(self) -> None:
        """Gives back what it listens with."""
        self._stencils.close()
        self._host.close()

    # whether it is for us

    def _pod_inode(self, call: Call) -> int:
        """0: it is no namespace of a pod."""
        identity = None if call.netns_fd is None else netns_identity(call.netns_fd)
        return 0 if identity is None or identity == self._own_netns else identity[1]

    # the call

    def _locked(self, add: _Add, ready: Ready) -> Reply | None:
        """With the attachment's lock."""
        if self._records.has(add.conf.name, add.who.attachment):
            return None
        try:
            pod = inside(add.netns_fd, lambda: Socket(plain=True), self._shared.netns)
        except CNIError:
            return None
        try:
            made = add.subject()
            if _index(self._host.route, made.link) or _index(pod, made.attachment.ifname):
                return None
            return self._wire(add, ready, made, pod)
        except (CNIError, OSError):
            self._host.close()
            return None
        finally:
            pod.close()

    def _wire(self, add: _Add, ready: Ready, made: Subject, pod: Socket) -> Reply | None:
        with add.stages.timed("reserve"):
            addresses = self._take(add, made)
        if addresses is None:
            return None
        made = made._replace(addresses=addresses)
        texts = made.texts()
        try:
            self._write(add, ready.stencil.pending.fill(texts))
        except CNIError:
            owner = Owner(*made.attachment)
            self._leases.release(_ipam_of(add.conf), add.conf.name, owner, addresses, unused=True)
            return None
        try:
            with add.stages.timed("apply"):
                self._apply(ready, made, texts, pod)
            self._write(add, ready.stencil.done.fill(texts))
        except (_Stumble, CNIError, OSError):
            self._host.close()
            self._clean_up(add)
            self._stencils.stumbled(ready.name)
            return None
        self._stencils.went_well(ready.name)
        lines = (*ready.ground.warnings, *self._lines)
        log = "".join(f"podwire: {line}\n" for line in lines)
        return Reply(0, ready.stencil.reply.fill(texts), log.encode(errors="replace"))

    def _take(self, add: _Add, made: Subject) -> tuple[IPAddress, ...] | None:
        ipam, network = _ipam_of(add.conf), add.conf.name
        self._lines.clear()
        lock = self._shared.store_lock(ipam.data_dir, network)
        if not lock.acquire(timeout=STORE_S):
            return None
        try:
            return self._leases.take(ipam, network, Owner(*made.attachment, pod=str(made.pod)))
        except IpamError:
            return None  # the general way meets it too, and tells of it
        finally:
            lock.release()

    def _in_use(self, network: str, address: IPAddress) -> bool:
        found = nft.observe_elements(self._host.filter_if_any, [element(network, address)])
        return bool(found)

    def _write(self, add: _Add, data: bytes) -> None:
        with add.stages.timed("record"):
            self._records.write(add.conf.name, add.who.attachment, data)

    def _clean_up(self, add: _Add) -> None:
        """What fails here is found by the record, and done by the general way."""
        ports = self._worker.ports(add.netns_fd, 0, add.stages, lambda _line: None)
        ports = ports._replace(leases=unused(ports.leases))
        request = add.request()
        with (
            suppress(CNIError, IpamError, Busy),
            ports.netns(request.netns) as netns,
            ports.kernel(netns) as kernel,
        ):
            clean_up(request, ports, kernel)

    # the kernel

    def _apply(self, ready: Ready, made: Subject, texts: dict[str, bytes], pod: Socket) -> None:
        """Raises _Stumble, OSError, CNIError where anything is not done."""
        values = made.numbers()
        for step in ready.stencil.steps:
            if isinstance(step, Write):
                self._write_values(step, made.netns_fd, texts)
            elif not step.place:
                self._transact(ready, step, values)
                if step.ports:
                    self._settle(made)
            else:
                self._send(step, made, values, pod)

    def _send(self, step: Send, made: Subject, values: dict[str, bytes], pod: Socket) -> None:
        sockets = {POD: pod, HOST: self._host.route}
        for name, (place, link) in made.links().items():
            hole = index_hole(name)
            if hole in step.sheet.needs and hole not in values:
                values[hole] = INDEX.pack(_index(sockets[place], link))
        if not sockets[step.place].exchange(step.sheet.fill(values), step.last):
            raise _Stumble

    def _settle(self, made: Subject) -> None:
        """As the executor does after a transaction with host ports."""
        elements = filtered.ports(made.link, made.addresses, made.asked.port_mappings)
        places = Places(host=self._host)
        if host_ports.settle(places, [Step(one, None) for one in elements], gaining=True):
            raise _Stumble

    def _transact(self, ready: Ready, step: Send, values: dict[str, bytes]) -> None:
        """Once more where somebody else has changed the rules, and left what we count on."""

        def datagram(generation: int) -> bytes:
            return step.sheet.fill({**values, GENERATION_HOLE: GENERATION.pack(generation)})

        if self._host.exchange_filter(datagram, step.last, step.chains):
            return
        self._host.close()
        ground = ready.lookout.look()
        if ground is None or not ground.like(ready.ground):
            raise _Stumble
        if not self._host.exchange_filter(datagram, step.last, step.chains):
            raise _Stumble

    def _write_values(self, step: Write, netns_fd: int, texts: dict[str, bytes]) -> None:
        def write() -> None:
            for sheet, value in step.files:
                sysctl.put(sheet.fill(texts).decode(), value)

        if step.place == POD:
            inside(netns_fd, write, self._shared.netns)
        else:
            write()


class _Add(NamedTuple):
    """The call under way."""

    call: Call
    known: Known
    who: Environment
    inode: int
    stages: Stages

    @property
    def conf(self) -> NetConf:
        """Without what was asked for this one."""
        return self.known.conf

    @property
    def netns_fd(self) -> int:
        assert self.call.netns_fd is not None  # noqa: S101  see `Swift.add`
        return self.call.netns_fd

    def subject(self) -> Subject:
        """Without addresses yet."""
        who, netns = self.who, (self.who.netns, self.netns_fd, self.inode)
        name = self.call.environ.get(REQUEST_ID, "")
        return subject(self.conf, who.attachment, who.pod, netns, name, (), self.known.asked)

    def request(self) -> Request:
        """As the general way has it, as far as cleaning up needs it."""
        who = self.who
        conf = self.conf._replace(runtime=self.known.asked)
        return Request("ADD", conf, who.attachment, who.netns, pod=who.pod)


def _caller(call: Call) -> Environment | None:
    """None for who asks for more than others, or for what is to be refused."""
    try:
        who = parse_environment(call.environ, lambda _line: None)
    except CNIError:
        return None
    if who.args.get("IP") or who.args.get("MAC") or len(who.attachment.container_id) < ID_MIN:
        return None
    texts = who.netns, str(who.pod), call.environ.get(REQUEST_ID, "")
    return who if all(map(PLAIN.fullmatch, texts)) else None


def _ipam_of(conf: NetConf) -> IpamConf:
    assert conf.ipam is not None  # noqa: S101  see `_is_plain`
    return conf.ipam


def _index(socket: Socket, name: str) -> int:
    """A link's index where the socket is; 0: there is none. Raises OSError."""
    try:
        answer = ioctl(socket.fileno(), SIOCGIFINDEX, name.encode().ljust(IFREQ_BYTES, b"\0"))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return 0
        raise
    return int.from_bytes(answer[16:20], sys.byteorder)
