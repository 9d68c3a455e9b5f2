"""The few things the core needs from the world, as protocols. `wiring` connects them.

Protocols rather than classes, so that `commands` can be read without knowing netlink or files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from cni_plugin.attach.wiring import Facts
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, Dns, NetConf, Request, Result
from cni_plugin.model.objects import Element, Key, Obj
from cni_plugin.model.plan import Step
from cni_plugin.record import Record
from ipam.lean_typing import NamedTuple, Protocol
from ipam.values import IPAddress, IpamConf, IPInterface, Lease, Owner, SetUsage


class Leases(Protocol):
    """Address management for one node. `network` is the config's name; the store's folder is
    data_dir/network. All methods take the store's lock themselves, at most 30 s, and raise
    ipam.errors only."""

    def reserve(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface]
    ) -> tuple[Lease, ...]:
        """One address from each range set, all or none, durable when this returns.

        requested: addresses the user wants; each must lie in one set. An owner that already
        holds addresses gets the same ones (a repeated ADD must not leak)."""

    def release(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = (), *,
        unused: bool = False,
    ) -> tuple[IPAddress, ...]:  # fmt: skip
        """Free all that the owner holds, whatever the ranges are now; nothing held is success.
        unused: nobody was told of them, so they need not cool down."""

    def held(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = ()
    ) -> tuple[IPAddress, ...]:
        """What the owner holds."""

    def usage(self, conf: IpamConf, network: str) -> tuple[SetUsage, ...]:
        """How full each range set is, in order."""

    def owners(self, conf: IpamConf, network: str) -> dict[IPAddress, Owner]:
        """Who holds which address."""

    def retain(
        self,
        conf: IpamConf,
        network: str,
        valid: Collection[tuple[str, str]],
        snapshot: Mapping[IPAddress, Owner] | None = None,
    ) -> Iterable[object]:
        """Free what none of the (container id, ifname) holds; with a snapshot only what was held
        then."""


class Delegate(Protocol):
    """Runs another plugin by name with the same environment and config. SPEC 1.1.0 section 4."""

    def __call__(self, request: Request, plugin: str, command: str) -> Result | None: ...


class Applied(Protocol):
    """What became of a plan: the steps done, and why the others were not."""

    @property
    def done(self) -> tuple[Step, ...]: ...

    @property
    def failures(self) -> tuple[CNIError, ...]: ...


class Kernel(Protocol):
    """The node's kernel, and the pod's namespace when the call has one."""

    def facts(self, conf: NetConf) -> Facts:
        """What the wanted state depends on."""

    def observe(self, objects: Iterable[Obj], *, fresh: bool = False) -> dict[Key, Obj]:
        """Those of the objects that exist, as they are. fresh: what belongs to a link that is not
        there is taken to be absent too; applying tells where that is wrong (EEXIST)."""

    def apply(self, steps: Sequence[Step], *, stop: bool) -> Applied:
        """stop: give up at the first failure; otherwise go on and report them all."""

    def owned_elements(self, *host_links: str) -> tuple[Element, ...]:
        """Every set element that belongs to one of the host links, whatever the records say."""

    def ports(self, bridge: str) -> tuple[str, ...]:
        """The links in a bridge."""

    def links(self) -> dict[str, str]:
        """Every host link that bears the mark of an attachment: name -> alias."""

    def host_has(self, name: str) -> bool:
        """Whether there is a link of that name on the host."""

    def pod_has(self, ifname: str) -> bool:
        """Whether there is an interface of that name in the pod."""

    def settled(self, ifname: str) -> None:
        """Waits until no address of the pod's interface is tentative. Raises when one is a
        duplicate."""

    def bridged_packets_filtered(self) -> bool:
        """Whether bridged packets pass iptables (br_netfilter), which Services need."""


class Records(Protocol):
    """The attachments on this node, on tmpfs: gone after a reboot, as the kernel's objects are."""

    def lock(self, network: str, attachment: Attachment) -> AbstractContextManager[None]:
        """One call at a time for an attachment; waits at most 30 s, then LockTimeout (code 11)."""

    def try_lock(self, network: str, attachment: Attachment) -> AbstractContextManager[bool]:
        """The same without waiting; False: a call for the attachment is under way."""

    def drop_stale_locks(self) -> None:
        """Takes away what killed calls have left of their locks."""

    def load(self, network: str, attachment: Attachment) -> Record | None: ...

    def save(self, record: Record) -> None: ...

    def remove(self, network: str, attachment: Attachment) -> None: ...

    def of_network(self, network: str) -> tuple[Record, ...]: ...


class Netns(Protocol):
    """An open pod namespace."""

    @property
    def fd(self) -> int: ...

    @property
    def inode(self) -> int: ...


class Ports(NamedTuple):
    """Everything a verb may touch."""

    leases: Leases
    delegate: Delegate
    records: Records
    # Verified namespace of a path; raises kernel.namespace.InvalidNetns.
    netns: Callable[[str], AbstractContextManager[Netns]]
    # The kernel seen from the host, and from the pod's namespace when there is one.
    kernel: Callable[[Netns | None], AbstractContextManager[Kernel]]
    resolv_conf: Callable[[str], Dns]  # reads a resolv.conf file
    warn: Callable[[str], None]  # one line for the log (stderr), never stdout
