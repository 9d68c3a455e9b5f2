"""What a mode needs to know, what it answers, and what all modes have in common."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

from cni_plugin.cni.values import Attachment, IPConfig, NetConf, Pod, Result
from cni_plugin.model import names
from cni_plugin.model.addresses import link_local
from cni_plugin.model.objects import (
    HOST,
    MAIN_TABLE,
    POD,
    SCOPE_LINK,
    Addr,
    Obj,
    RouteTo,
    Sysctl,
    Up,
    Veth,
)
from ipam.lean_typing import NamedTuple, Protocol
from ipam.values import IPAddress, IPInterface, Route

IPV6_DEFAULT_METRIC = 1024  # IP6_RT_PRIO_USER: what the kernel makes of 0, linux/ipv6_route.h
IPV6_MIN_MTU = 1280  # bytes, RFC 8200 section 5
DEFAULT_MTU = 1500  # ETH_DATA_LEN, for a node without a default route
ROUTE_MTU_MAX, ROUTE_ADVMSS_MAX = 65520, 65495  # bytes, net/ipv4/metrics.c
ANY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
# Next hops that need no address on the host's end: the pod has a permanent neighbour for them.
LINK_LOCAL_HOP = {4: ip_address("169.254.1.1"), 6: ip_address("fe80::1")}


class BridgeFacts(NamedTuple):
    """The host bridge as found. ours: podwire made it. idle: no port is up, no pod uses it."""

    mtu: int
    is_bridge: bool
    ours: bool
    addresses: tuple[IPInterface, ...]
    idle: bool
    mac: str


class Facts(NamedTuple):
    """What the desired state depends on and only the node knows."""

    bridge: BridgeFacts | None = None
    uplink_mtu: int | None = None  # bytes; None: no default route
    ipv6: bool = True  # the kernel has it
    fresh_mac: str = "02:00:00:00:00:01"  # for a bridge that is made now
    forward_drops: tuple[int, ...] = ()  # IP versions whose iptables FORWARD policy is DROP


class Wiring(NamedTuple):
    """One attachment to be wired: the config, who, the addresses it got, and the node's facts."""

    conf: NetConf
    attachment: Attachment
    pod: Pod
    netns: str
    addressing: Result  # an IPAM result: ips, routes, dns; no interfaces
    facts: Facts

    @property
    def _identity(self) -> tuple[str, str, str]:
        return (self.conf.name, *self.attachment)

    @property
    def host_link(self) -> str:
        return names.host_link(*self._identity)

    @property
    def host_mac(self) -> str:
        return names.mac_address("host", *self._identity)

    @property
    def pod_mac(self) -> str:
        """Asked for; or, with stableMac, following from the first address, so that neighbours'
        ARP entries for a reused address stay true; or following from the attachment."""
        if self.conf.runtime.mac:
            return self.conf.runtime.mac
        if self.conf.stable_mac and self.addressing.ips:
            return names.mac_address("address", str(self.addressing.ips[0].address.ip))
        return names.mac_address("pod", *self._identity)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions the pod gets addresses of."""
        return tuple(
            v for v in (4, 6) if any(ip.address.version == v for ip in self.addressing.ips)
        )


def gateway_link(conf: NetConf) -> str:
    """The host's link that holds the gateway addresses: the bridge, or its foot in a VLAN."""
    return f"{conf.bridge}.{conf.vlan}" if conf.vlan else conf.bridge


class Desired(NamedTuple):
    """objects: the state wanted. result: what ADD answers once it is there. obsolete: what the
    state replaces and has to go (an old gateway address with forceAddress)."""

    objects: tuple[Obj, ...]
    result: Result
    obsolete: tuple[Obj, ...] = ()


class Mode(Protocol):
    """What a file in attach/ is."""

    def desired(self, wiring: Wiring) -> Desired: ...


def without_small_ipv6(wiring: Wiring, mtu: int) -> Wiring:
    """Below 1280 bytes the kernel gives a link no IPv6 at all, and no IPv6 settings either
    (RFC 8200 section 5; net/ipv6/addrconf.c)."""
    if mtu >= IPV6_MIN_MTU:
        return wiring
    return wiring._replace(facts=wiring.facts._replace(ipv6=False))


def veth(wiring: Wiring, *, master: str, mtu: int) -> Veth:
    """The pair of one attachment, named and addressed by what it belongs to."""
    return Veth(
        name=wiring.host_link,
        peer=wiring.attachment.ifname,
        mac=wiring.host_mac,
        peer_mac=wiring.pod_mac,
        mtu=mtu,
        master=master,
        alias=names.alias(wiring.conf.name, *wiring.attachment),
        up=True,
    )


def no_autoconfiguration(place: str, link: str, facts: Facts) -> Iterator[Sysctl]:
    """Router advertisements and redirects are ignored on every link we make (CVE-2020-10749)."""
    yield Sysctl(place, ("ipv4", "conf", link, "accept_redirects"), "0")
    if facts.ipv6:
        for name in ("accept_ra", "accept_redirects"):
            yield Sysctl(place, ("ipv6", "conf", link, name), "0")


def forwarding(wiring: Wiring) -> Iterator[Sysctl]:
    """Routing on the node, for the IP versions the pod uses."""
    if 4 in wiring.versions:
        yield Sysctl(HOST, ("ipv4", "ip_forward"), "1")
    if 6 in wiring.versions:
        yield Sysctl(HOST, ("ipv6", "conf", "all", "forwarding"), "1")


def pod_interface(wiring: Wiring, *, connected: bool) -> Iterator[Obj]:
    """The pod's end: sysctls, addresses, up. connected: with the routes to the addresses' own
    networks (bridge); without, everything goes through the host (ptp)."""
    ifname = wiring.attachment.ifname
    dad = wiring.conf.enable_dad
    yield from no_autoconfiguration(POD, ifname, wiring.facts)
    if wiring.facts.ipv6:
        yield from _pod_ipv6(wiring, ifname, dad=dad)
    if 4 in wiring.versions:  # announces the addresses when the link comes up (gratuitous ARP)
        yield Sysctl(POD, ("ipv4", "conf", ifname, "arp_notify"), "1")
    for ip in wiring.addressing.ips:
        with_dad = dad if ip.address.version == 6 else None
        yield Addr(POD, ifname, ip.address, dad=with_dad, connected=connected)
    if not wiring.conf.disable_container_interface:
        yield Up(POD, ifname)


def _pod_ipv6(wiring: Wiring, ifname: str, *, dad: bool) -> Iterator[Obj]:
    """No waiting for duplicate address detection: the addresses are ours to give. The link-local
    one is set by us too, because the kernel's own would be tentative for a second."""
    setting = ("ipv6", "conf", ifname)
    if 6 in wiring.versions:
        yield Sysctl(POD, (*setting, "disable_ipv6"), "0")
    if dad:
        yield Sysctl(POD, (*setting, "addr_gen_mode"), "0")  # EUI-64: the guard knows it
    elif 6 in wiring.versions:
        yield Sysctl(POD, (*setting, "accept_dad"), "0")
        yield Sysctl(POD, (*setting, "addr_gen_mode"), "1")  # none
        yield Addr(POD, ifname, ip_interface(f"{link_local(wiring.pod_mac)}/64"), dad=False)
    else:
        yield Sysctl(POD, (*setting, "accept_dad"), "0")
        yield Sysctl(POD, (*setting, "addr_gen_mode"), "0")


def gateway_of(ips: tuple[IPConfig, ...], version: int) -> IPAddress | None:
    """The first gateway of an IP version: what routes without a next hop use."""
    gateways = (ip.gateway for ip in ips if ip.address.version == version)
    return next((gateway for gateway in gateways if gateway), None)


def pod_route(ifname: str, route: Route, gateway: IPAddress | None, *, onlink: bool) -> RouteTo:
    """An IPAM route as the kernel's: the gateway is the default next hop, except for a route
    whose scope says that there is none."""
    hop = route.gw
    if hop is None and route.scope != SCOPE_LINK:
        hop = gateway
    v6 = route.dst.version == 6
    # Zero is the kernel's own "not given" for these, and larger metrics it cuts down itself.
    mtu = min(route.mtu or 0, ROUTE_MTU_MAX) or None
    advmss = min(route.advmss or 0, ROUTE_ADVMSS_MAX) or None
    scope = route.scope if hop or route.scope is not None else SCOPE_LINK
    return RouteTo(
        POD,
        route.dst,
        route.table or MAIN_TABLE,  # RT_TABLE_UNSPEC is the main table
        route.priority or (IPV6_DEFAULT_METRIC if v6 else 0),
        ifname,
        gw=hop,
        scope=None if v6 else scope or 0,
        mtu=mtu,
        advmss=advmss,
        onlink=True if onlink and hop else None,
    )
