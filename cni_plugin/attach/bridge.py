"""Mode `bridge`: the pod is a port of a host bridge, which may be its gateway.

Same keys and meaning as the reference plugin `bridge`; hairpin and anti-spoofing are on by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Interface, ip_interface

from cni_plugin.attach.wiring import (
    ANY,
    DEFAULT_MTU,
    Desired,
    Facts,
    Wiring,
    forwarding,
    gateway_link,
    gateway_of,
    no_autoconfiguration,
    pod_interface,
    pod_route,
    veth,
    without_small_ipv6,
)
from cni_plugin.cni.errors import Conflict, InvalidNetworkConfig
from cni_plugin.cni.values import Interface, IPConfig, Result
from cni_plugin.model import names
from cni_plugin.model.objects import HOST, Addr, Bridge, Obj, Port, PortVlan, Sysctl, Up, Veth
from ipam.lean_typing import NamedTuple
from ipam.values import IPInterface, Route

IFNAME_MAX = 15  # IFNAMSIZ - 1, linux/if.h
POD_INTERFACE = 2  # its index in the result, after the bridge and the host's end


def desired(wiring: Wiring) -> Desired:
    """Bridge, port, gateway addresses, pod's interface and routes.

    Raises Conflict when the bridge's name belongs to another kind of link, or when it holds
    another address in the pods' network and forceAddress is not set."""
    wiring = _with_gateways(wiring)
    conf, facts = wiring.conf, wiring.facts
    if facts.bridge and not facts.bridge.is_bridge:
        raise Conflict(
            f"bridge {conf.bridge!r}: wanted a bridge, found a link of another kind",
            "give `bridge` another name, or remove that link",
        )
    gateways = _gateways(wiring) if conf.is_gateway else _Gateways((), ())
    foot = gateway_link(conf)
    if len(foot) > IFNAME_MAX:
        raise InvalidNetworkConfig(
            f"bridge {conf.bridge!r} with vlan {conf.vlan}: {foot!r} is too long for a link",
            f"shorten `bridge`: the gateway's link bears both and has {IFNAME_MAX} characters",
        )
    mtu = conf.mtu or (facts.bridge.mtu if facts.bridge else facts.uplink_mtu or DEFAULT_MTU)
    wiring = without_small_ipv6(wiring, mtu)
    if wiring.pod_mac == _bridge_mac(facts):
        raise Conflict(
            f"MAC {wiring.pod_mac} was asked for the pod, and bridge {conf.bridge!r} has it",
            "ask for another: two owners of one MAC make both unreachable",
        )
    objects = (
        *_bridge(wiring, mtu),
        *(_vlan_foot(wiring, mtu) if conf.vlan and gateways.wanted else ()),
        *(Addr(HOST, foot, address, dad=_dad(address)) for address in gateways.wanted),
        *(forwarding(wiring) if conf.is_gateway else ()),
        *_port(wiring, mtu),
        *pod_interface(wiring, connected=True),
        *_routes(wiring),
    )
    obsolete = tuple(Addr(HOST, foot, address) for address in gateways.obsolete)
    return Desired(objects, _result(wiring, mtu), obsolete)


def _with_gateways(wiring: Wiring) -> Wiring:
    """With isGateway, an address without a gateway gets the first of its network."""
    if not wiring.conf.is_gateway:
        return wiring
    ips = tuple(
        ip if ip.gateway else ip._replace(gateway=ip.address.network.network_address + 1)
        for ip in wiring.addressing.ips
    )
    return wiring._replace(addressing=wiring.addressing._replace(ips=ips))


class _Gateways(NamedTuple):
    wanted: tuple[IPInterface, ...]
    obsolete: tuple[IPInterface, ...]


def _gateways(wiring: Wiring) -> _Gateways:
    """The bridge's own addresses, and those of its present ones that stand in their way."""
    wanted = tuple(
        ip_interface((ip.gateway, ip.address.network.prefixlen))
        for ip in wiring.addressing.ips
        if ip.gateway
    )
    facts = wiring.facts.bridge
    if facts is None:
        return _Gateways(wanted, ())
    clashing = tuple(
        present
        for present in facts.addresses
        if present not in wanted and not present.is_link_local
        if any(_overlap(present, address) for address in wanted)
    )
    unused = facts.ours and facts.idle  # nobody alive needs the old address
    if clashing and not (wiring.conf.force_address or unused):
        raise Conflict(
            f"bridge {wiring.conf.bridge!r} has address {clashing[0]}, wanted {wanted[0]}",
            "set forceAddress to replace it, or give this network a bridge of its own",
        )
    return _Gateways(wanted, clashing)


def _overlap(one: IPInterface, other: IPInterface) -> bool:
    """One gateway a network; several networks on one bridge are fine."""
    return one.version == other.version and one.network.overlaps(other.network)


def _dad(address: IPInterface) -> bool | None:
    return False if isinstance(address, IPv6Interface) else None


def _bridge(wiring: Wiring, mtu: int) -> Iterator[Obj]:
    """A bridge that is there keeps its MTU; one that we did not make keeps its sysctls too: it
    may be the node's uplink, which lives by router advertisements."""
    conf, facts = wiring.conf, wiring.facts
    new = facts.bridge is None
    yield Bridge(
        conf.bridge,
        mtu=mtu if new else None,
        vlan_filtering=True if conf.vlan else None,
        promisc=True if conf.promisc else None,
        alias=f"podwire {conf.name}"[: names.ALIAS_MAX] if new else None,
        mac=facts.fresh_mac if new else None,
    )
    if new or (facts.bridge and facts.bridge.ours):
        yield from no_autoconfiguration(HOST, conf.bridge, facts)
        if facts.ipv6:
            yield Sysctl(HOST, ("ipv6", "conf", conf.bridge, "accept_dad"), "0")


def _vlan_foot(wiring: Wiring, mtu: int) -> Iterator[Obj]:
    """The host's own port in the pods' VLAN: a veth pair, because the bridge itself is in VLAN 1.
    Shared by the network's pods, and kept as the bridge is."""
    conf, foot = wiring.conf, gateway_link(wiring.conf)
    port = names.host_link("gateway", conf.bridge, str(conf.vlan))
    yield Veth(
        port,
        peer=foot,
        mac=names.mac_address("gateway port", port),
        peer_mac=names.mac_address("gateway", _bridge_mac(wiring.facts), foot),
        mtu=mtu,
        master=conf.bridge,
        alias=f"podwire-gateway {conf.vlan} {conf.name}"[: names.ALIAS_MAX],
        peer_place=HOST,
        up=True,
    )
    yield PortVlan(port, conf.vlan, default=False)
    yield from no_autoconfiguration(HOST, foot, wiring.facts)
    yield Up(HOST, foot)


def _bridge_mac(facts: Facts) -> str:
    return facts.bridge.mac if facts.bridge else facts.fresh_mac


def _port(wiring: Wiring, mtu: int) -> Iterator[Obj]:
    conf, link = wiring.conf, wiring.host_link
    yield veth(wiring, master=conf.bridge, mtu=mtu)
    yield Port(link, hairpin=conf.hairpin, isolated=conf.port_isolation)
    if conf.vlan:
        yield PortVlan(link, conf.vlan, default=conf.preserve_default_vlan)
    if wiring.facts.ipv6:  # a port speaks no IP of its own, and has no IPv4 without an address
        yield Sysctl(HOST, ("ipv6", "conf", link, "disable_ipv6"), "1")


def _routes(wiring: Wiring) -> Iterator[Obj]:
    ips = wiring.addressing.ips
    for route in _result_routes(wiring):
        gateway = gateway_of(ips, route.dst.version)
        yield pod_route(wiring.attachment.ifname, route, gateway, onlink=False)


def _result_routes(wiring: Wiring) -> tuple[Route, ...]:
    """IPAM's routes, and with isDefaultGateway a default route in each version that has a
    gateway and no default route yet."""
    routes = wiring.addressing.routes
    if not wiring.conf.is_default_gateway:
        return routes
    present = {route.dst for route in routes}
    added = []
    for version in wiring.versions:
        gateway = gateway_of(wiring.addressing.ips, version)
        if gateway and ANY[version] not in present:
            added.append(Route(ANY[version], gw=gateway))
    return (*routes, *added)


def _result(wiring: Wiring, mtu: int) -> Result:
    conf, facts = wiring.conf, wiring.facts
    bridge_mtu = facts.bridge.mtu if facts.bridge else mtu
    interfaces = (
        Interface(conf.bridge, _bridge_mac(facts), bridge_mtu),
        Interface(wiring.host_link, wiring.host_mac, mtu),
        Interface(wiring.attachment.ifname, wiring.pod_mac, mtu, sandbox=wiring.netns),
    )
    ips = tuple(IPConfig(ip.address, ip.gateway, POD_INTERFACE) for ip in wiring.addressing.ips)
    dns = conf.dns if any(conf.dns) else wiring.addressing.dns
    return Result(interfaces, ips, _result_routes(wiring), dns)
