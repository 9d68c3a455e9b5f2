"""Mode `ptp`: a veth pair of its own for each pod, every packet routed by the host.

The pod reaches everything, its own subnet included, through the gateway address, which each host
end carries (as the reference plugin does); without a gateway from IPAM the next hop is a
link-local address that only the pod's neighbour table knows. Both ends have permanent neighbour
entries: nothing is asked by ARP or ND, so nothing can be forged and the first packet need not wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network

from cni_plugin.attach.wiring import (
    DEFAULT_MTU,
    IPV6_DEFAULT_METRIC,
    LINK_LOCAL_HOP,
    Desired,
    Wiring,
    forwarding,
    gateway_of,
    no_autoconfiguration,
    pod_interface,
    pod_route,
    veth,
    without_small_ipv6,
)
from cni_plugin.cni.values import Interface, IPConfig, Result
from cni_plugin.model.objects import (
    HOST,
    MAIN_TABLE,
    POD,
    SCOPE_LINK,
    Addr,
    Neigh,
    Obj,
    RouteTo,
    Sysctl,
)
from ipam.values import IPAddress, IPNetwork, Route

POD_INTERFACE = 1  # its index in the result, after the host's end


def desired(wiring: Wiring) -> Desired:
    """The pair, both ends' addresses, neighbours and routes."""
    mtu = wiring.conf.mtu or wiring.facts.uplink_mtu or DEFAULT_MTU
    wiring = without_small_ipv6(wiring, mtu)
    objects = (
        veth(wiring, master="", mtu=mtu),
        *_host_end(wiring),
        *forwarding(wiring),
        *pod_interface(wiring, connected=False),
        *(obj for ip in wiring.addressing.ips for obj in _address(wiring, ip)),
        *_pod_routes(wiring),
    )
    return Desired(tuple(dict.fromkeys(objects)), _result(wiring, mtu))


def _host_end(wiring: Wiring) -> Iterator[Obj]:
    link = wiring.host_link
    yield from no_autoconfiguration(HOST, link, wiring.facts)
    if wiring.facts.ipv6:
        yield Sysctl(HOST, ("ipv6", "conf", link, "accept_dad"), "0")


def _hop(ip: IPConfig) -> IPAddress:
    return ip.gateway or LINK_LOCAL_HOP[ip.address.version]


def _single(address: IPAddress) -> IPNetwork:
    return ip_network(address)


def _metric(version: int) -> int:
    return IPV6_DEFAULT_METRIC if version == 6 else 0


def _on_link(place: str, destination: IPNetwork, link: str) -> RouteTo:
    version = destination.version
    scope = SCOPE_LINK if version == 4 else None
    return RouteTo(place, destination, MAIN_TABLE, _metric(version), link, scope=scope)


def _address(wiring: Wiring, ip: IPConfig) -> Iterator[Obj]:
    """What one address of the pod needs on both sides."""
    link, ifname = wiring.host_link, wiring.attachment.ifname
    version, hop = ip.address.version, _hop(ip)
    if ip.gateway:
        dad = False if version == 6 else None
        yield Addr(HOST, link, ip_interface(ip.gateway), dad=dad, connected=version == 4)
    yield Neigh(HOST, link, ip.address.ip, wiring.pod_mac)
    yield _on_link(HOST, _single(ip.address.ip), link)
    yield Neigh(POD, ifname, hop, wiring.host_mac)
    yield _on_link(POD, _single(hop), ifname)
    if ip.gateway and ip.address.network.num_addresses > 1:
        yield RouteTo(
            POD,
            ip.address.network,
            MAIN_TABLE,
            _metric(version),
            ifname,
            gw=hop,
            scope=0 if version == 4 else None,
        )


def _pod_routes(wiring: Wiring) -> Iterator[Obj]:
    for route in wiring.addressing.routes:
        yield _pod_route(wiring, route)


def _pod_route(wiring: Wiring, route: Route) -> RouteTo:
    version = route.dst.version
    hop = gateway_of(wiring.addressing.ips, version)
    if hop is None and version in wiring.versions:
        hop = LINK_LOCAL_HOP[version]
    return pod_route(wiring.attachment.ifname, route, hop, onlink=False)


def _result(wiring: Wiring, mtu: int) -> Result:
    interfaces = (
        Interface(wiring.host_link, wiring.host_mac, mtu),
        Interface(wiring.attachment.ifname, wiring.pod_mac, mtu, sandbox=wiring.netns),
    )
    ips = tuple(IPConfig(ip.address, ip.gateway, POD_INTERFACE) for ip in wiring.addressing.ips)
    dns = wiring.conf.dns if any(wiring.conf.dns) else wiring.addressing.dns
    return Result(interfaces, ips, wiring.addressing.routes, dns)
