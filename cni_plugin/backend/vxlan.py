"""Backend vxlan: pods' packets travel in UDP between the nodes (RFC 7348).

One link an underlay's IP version, which learns nothing and is never asked: of each peer three
things are written down. A route to its pods by way of an address that stands for the peer, a
neighbour that says which MAC that address has, and a forwarding entry that says on which node that
MAC is. So a broadcast is never sent, and no node can claim another's pods.

MACs follow from the nodes' names: each peer knows them before the link exists, and a link that is
made again has the one it had. The node's own address on the link is the first of its own range, so
that answers to what the node itself sends to a pod come back through the tunnel.

With directRouting peers on the same network get plain routes, as in host-gw.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

from cni_plugin.backend.view import View, direct_route, forwarding, on_link, route
from cni_plugin.cluster.values import AUTO, VXLAN, Node, Underlay
from cni_plugin.model.addresses import link_local
from cni_plugin.model.names import TUNNEL_PREFIX, mac_address, tunnel_name
from cni_plugin.model.objects import (
    HOST,
    Addr,
    Fdb,
    Neigh,
    Obj,
    Sysctl,
    TxChecksum,
    Up,
    Vxlan,
)
from ipam.values import IPAddress, IPNetwork

# Inner Ethernet 14, VXLAN 8, UDP 8, and the outer IP header; RFC 7348 section 5.
OVERHEAD = {4: 14 + 8 + 8 + 20, 6: 14 + 8 + 8 + 40}


def overhead(version: int) -> int:
    """Bytes of the headers around a pod's packet."""
    return OVERHEAD[version]


def common(view: View) -> tuple[Obj, ...]:
    """Forwarding, and a tunnel over each IP version that this node has an address of."""
    tunnels = (obj for underlay in view.underlays for obj in _tunnel(view, underlay))
    return (*forwarding(view), *tunnels)


def of_peer(view: View, peer: Node) -> tuple[Obj, ...]:
    """What leads to a peer's pods."""
    return tuple(obj for cidr in peer.pod_cidrs for obj in _way(view, peer, cidr))


def vtep_mac(node: str, version: int) -> str:
    """The MAC of a node's tunnel over an IP version."""
    return mac_address("vtep", node, str(version))


def _tunnel(view: View, underlay: Underlay) -> Iterator[Obj]:
    settings, version = view.settings, underlay.address.version
    name = tunnel_name(version, settings.vni, settings.port)
    room = underlay.mtu - overhead(version)
    yield Vxlan(
        name,
        settings.vni,
        settings.port,
        local=underlay.address.ip,
        mac=vtep_mac(view.me.name, version),
        mtu=min(room, settings.mtu or room),
        alias=f"cluster over IPv{version}, {TUNNEL_PREFIX}",  # the pods' links have others
    )
    yield from _switches(view, name)
    for cidr in view.me.pod_cidrs:
        own = ip_interface((cidr.network_address, cidr.max_prefixlen))
        yield Addr(HOST, name, own, dad=None if cidr.version == 4 else False)
    yield Up(HOST, name)


def _switches(view: View, name: str) -> Iterator[Obj]:
    yield Sysctl(HOST, ("ipv4", "conf", name, "accept_redirects"), "0")
    # Loose, RFC 3704 section 2.4: while backends change, a peer may already send by the tunnel to
    # whom this node still sends directly.
    yield Sysctl(HOST, ("ipv4", "conf", name, "rp_filter"), "2")
    if view.ipv6:
        yield Sysctl(HOST, ("ipv6", "conf", name, "accept_ra"), "0")
        yield Sysctl(HOST, ("ipv6", "conf", name, "addr_gen_mode"), "1")  # none: nobody asks for it
    if view.settings.tx_checksum is not None:
        yield TxChecksum(name, view.settings.tx_checksum)


def _way(view: View, peer: Node, cidr: IPNetwork) -> Iterator[Obj]:
    direct = direct_route(view, peer, cidr)
    if direct and (view.settings.direct_routing or not _listens(peer, near=True)):
        yield direct
        return
    version = _outer_version(view, peer, cidr)
    outer = peer.address(version) if version else None
    if outer is None or not _listens(peer, near=on_link(view, outer) is not None):
        return
    link = tunnel_name(outer.version, view.settings.vni, view.settings.port)
    mac = dict(peer.vtep_macs).get(outer.version) or vtep_mac(peer.name, outer.version)
    gateway = _gateway(cidr, mac)
    yield Neigh(HOST, link, gateway, mac)
    yield Fdb(link, mac, outer)
    yield route(cidr, link, gateway, onlink=cidr.version == 4)


def _gateway(cidr: IPNetwork, mac: str) -> IPAddress:
    """Which address stands for a peer. For IPv6 the link-local one of its MAC: the kernel takes no
    other while the range has another way (net/ipv6/route.c, ip6_route_check_nh_onlink)."""
    return cidr.network_address if cidr.version == 4 else link_local(mac)


def _listens(peer: Node, *, near: bool) -> bool:
    """Whether a peer has a tunnel, as far as it tells; with `auto` it has none for near ones."""
    return peer.backend in ("", VXLAN) or (peer.backend == AUTO and not near)


def _outer_version(view: View, peer: Node, cidr: IPNetwork) -> int | None:
    """The IP version between the nodes: the pods' own where both have it, otherwise the other."""
    versions = (cidr.version, 10 - cidr.version)
    return next((v for v in versions if view.underlay(v) and peer.address(v)), None)
