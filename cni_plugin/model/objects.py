"""The objects podwire wants or finds in the kernel.

Two objects with the same `key` are the same thing, possibly in different shape. A None field is
the kernel's choice: it is neither set nor compared. Links are named, never numbered: the executor
resolves when it applies. `place` is HOST or POD: the node's namespace or the attachment's.
"""

from __future__ import annotations

from collections.abc import Iterable

from cni_plugin.model.rules import Hook, Rule
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress, IPInterface, IPNetwork

HOST, POD = "host", "pod"

# Ours in `ip route`: between 17 and 185 nobody has registered it in iproute2's rt_protos.
ROUTE_PROTOCOL = 112
CLUSTER_PROTOCOL = 113  # of routes to other nodes' pods, so that one dump lists just these
MAIN_TABLE = 254  # RT_TABLE_MAIN, linux/rtnetlink.h
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253  # RT_SCOPE_*, linux/rtnetlink.h


class Bridge(NamedTuple):
    """A host bridge. alias marks the ones podwire made."""

    name: str
    mtu: int | None = None  # bytes
    vlan_filtering: bool | None = None
    promisc: bool | None = None
    alias: str | None = None
    mac: str | None = None
    up: bool = True


class Veth(NamedTuple):
    """A veth pair: `name` in the host namespace, `peer` in the pod (or, for a VLAN's gateway, on
    the host too). master "" is: no bridge. up: the host's end; nothing passes before the peer is up
    too."""

    name: str
    peer: str | None = None
    mac: str | None = None
    peer_mac: str | None = None
    mtu: int | None = None  # bytes, both ends
    master: str | None = None
    alias: str | None = None
    peer_place: str = POD
    up: bool | None = None


class Vxlan(NamedTuple):
    """A VXLAN link (RFC 7348) on the host that learns nothing: where to send is told by Fdb. Only
    local, mtu, mac and alias of one that is there can be changed."""

    name: str
    vni: int
    port: int  # UDP, to and from
    local: IPAddress  # the outer source address
    mac: str | None = None
    mtu: int | None = None  # bytes
    alias: str | None = None
    learning: bool = False


class Ifb(NamedTuple):
    """A link on the host that hands what is redirected to it back to where it came from, after it
    has passed the queue (linux drivers/net/ifb.c). Down until it is set up."""

    name: str
    mtu: int | None = None  # bytes
    alias: str | None = None


class AnyLink(NamedTuple):
    """A link of any kind. Never made, only taken away: another plugin's, taken over by DEL."""

    place: str
    name: str


class Port(NamedTuple):
    """A bridge port's switches."""

    link: str
    hairpin: bool
    isolated: bool


class PortVlan(NamedTuple):
    """The VLAN a bridge port belongs to, untagged. default: it stays in VLAN 1 as well."""

    link: str
    vid: int
    default: bool


class Up(NamedTuple):
    """A link that is administratively up."""

    place: str
    link: str


class Addr(NamedTuple):
    """An address on a link. dad: with duplicate address detection (IPv6 only). connected: the
    kernel makes the route to the address's network by itself."""

    place: str
    link: str
    address: IPInterface
    dad: bool | None = None
    connected: bool = True


class Neigh(NamedTuple):
    """A permanent neighbour entry: no ARP or ND is asked, none can be forged."""

    place: str
    link: str
    address: IPAddress
    mac: str


class Fdb(NamedTuple):
    """A permanent entry of a VXLAN link's forwarding table: frames to mac go to the node dst."""

    link: str
    mac: str
    dst: IPAddress


class RouteTo(NamedTuple):
    """A route. The kernel's identity of a route is table, destination and metric. protocol None:
    ROUTE_PROTOCOL."""

    place: str
    dst: IPNetwork
    table: int
    priority: int  # metric; for IPv6 the kernel turns 0 into 1024, so we ask for 1024
    link: str
    gw: IPAddress | None = None
    scope: int | None = None  # IPv4 only; IPv6 has none
    mtu: int | None = None
    advmss: int | None = None
    onlink: bool | None = None
    protocol: int | None = None


class TxChecksum(NamedTuple):
    """Whether the host's link leaves transmit checksums to what is below it (`ethtool -K tx`)."""

    link: str
    on: bool


class Sysctl(NamedTuple):
    """A value below /proc/sys/net, e.g. ("ipv6", "conf", "eth0", "accept_ra"): "0"."""

    place: str
    path: tuple[str, ...]
    value: str


class Tbf(NamedTuple):
    """A token bucket filter (tc-tbf(8)) as the queue of a link of the host: what leaves by it has
    this rate, and waits while limit holds it."""

    link: str
    rate: int  # bytes per second, headers of Ethernet included
    burst: int  # bytes
    limit: int  # bytes, what may wait and the burst


class Redirect(NamedTuple):
    """What enters a link of the host (hook "ingress") or leaves by it ("egress") goes through the
    queue of another one first: all but what unshaped holds, or only what shaped holds. The
    networks are those of the peer, not of the pod. to "": nothing is redirected."""

    link: str
    hook: str
    to: str
    unshaped: tuple[IPNetwork, ...] = ()
    shaped: tuple[IPNetwork, ...] = ()


class Tuned(NamedTuple):
    """Settings of a link that has to be there (`ip link set`)."""

    place: str
    link: str
    queue_length: int | None = None  # packets, txqueuelen
    allmulti: bool | None = None
    promisc: bool | None = None


class Element(NamedTuple):
    """One element of an nftables set or map of ours. key: one text a field of the set's type;
    goto: the chain of a verdict map; to: what another map leads to, one text a field. owner is the
    host link's name, kept with the element."""

    family: str  # inet | bridge
    set: str
    key: tuple[str, ...]
    goto: str = ""
    owner: str | None = None
    to: tuple[str, ...] = ()


class RuleChain(NamedTuple):
    """A chain of our table with exactly these rules; hook None: entered by jump or goto only.

    Found with the wanted rules when their marks in the kernel are the wanted ones, otherwise
    with no rules: the kernel's own expressions are not read back."""

    family: str  # inet | bridge
    name: str
    hook: Hook | None
    rules: tuple[Rule, ...]


class FilterTable(NamedTuple):
    """Our nftables table of one family with all that is in it. Only taken away: it is made with the
    first chain."""

    family: str  # inet | bridge


class ForwardChain(NamedTuple):
    """Our chain in a flavour of iptables with the rule that leads into it. Only taken away: it is
    made with the first range."""

    program: str  # e.g. iptables-nft


class ForwardAccept(NamedTuple):
    """Forwarding from and to a pod range accepted in iptables' filter table (policy DROP)."""

    range: IPNetwork


Obj = (
    Bridge | Veth | Vxlan | Ifb | AnyLink | Port | PortVlan | Up | Addr | Neigh | Fdb | RouteTo
    | TxChecksum | Sysctl | Tbf | Redirect | Tuned | Element | RuleChain | FilterTable
    | ForwardAccept | ForwardChain
)  # fmt: skip
Key = tuple[object, ...]

# How many leading fields are the identity.
_IDENTITY: dict[type, int] = {
    Bridge: 1, Veth: 1, Vxlan: 1, Ifb: 1, AnyLink: 2, Port: 1, PortVlan: 1, Up: 2, Addr: 3,
    Neigh: 3, Fdb: 2, RouteTo: 4, TxChecksum: 1, Sysctl: 2, Tbf: 1, Redirect: 2, Tuned: 2,
    Element: 3, RuleChain: 2, FilterTable: 1, ForwardAccept: 1, ForwardChain: 1,
}  # fmt: skip


def key(obj: Obj) -> Key:
    """The identity of an object: its type and its leading fields."""
    return (type(obj).__name__, *obj[: _IDENTITY[type(obj)]])


def distinct(objects: Iterable[Obj]) -> tuple[Obj, ...]:
    """Each once. A chain is told by its key: its rules would take long to hash, and follow from
    it."""
    found: dict[Key, Obj] = {}
    for obj in objects:
        found.setdefault(key(obj) if isinstance(obj, RuleChain) else obj, obj)
    return tuple(found.values())


def satisfied(wanted: Obj, found: Obj) -> bool:
    """Whether found is what is wanted; None in wanted accepts anything."""
    return all(w is None or w == f for w, f in zip(wanted, found, strict=True))
