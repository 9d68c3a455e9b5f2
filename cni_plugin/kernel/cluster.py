"""What there is on this node for its peers: all that bears our mark, a dump a kind.

Ours are: VXLAN links whose name is the one that follows from what they are (model.names), with
everything on them, routes of CLUSTER_PROTOCOL, and the cluster's sets and chains in our nftables
table. Whatever else there is, is not looked at, and so cannot be taken away.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cni_plugin.cluster.values import Underlay
from cni_plugin.filter.cluster import SETS
from cni_plugin.kernel import nft, offload, rtnl, sysctl, tunnel
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.netlink import Received
from cni_plugin.kernel.observe import uplink_mtu
from cni_plugin.model.names import is_bridge_mark
from cni_plugin.model.objects import (
    CLUSTER_PROTOCOL,
    HOST,
    Addr,
    Key,
    Obj,
    RouteTo,
    RuleChain,
    Sysctl,
    TxChecksum,
    Up,
    Vxlan,
    key,
)
from ipam.values import IPInterface

VERSIONS = (4, 6)
IFF_LOOPBACK = 0x8  # linux/if.h
DEFAULT_MTU = 1500  # bytes; Ethernet's


class Look(NamedTuple):
    """One look at the node. interfaces: every address of a link that is up and not ours. indices:
    of all links, by name. objects: ours, but for those that `settings` and `chains` look up.
    gateways: the addresses of bridges that podwire made, with their names."""

    interfaces: tuple[Underlay, ...]
    indices: dict[str, int]
    objects: tuple[Obj, ...]
    gateways: tuple[tuple[str, IPInterface], ...] = ()


def look(host: Host) -> Look:
    """Raises KernelError."""
    links: dict[int, rtnl.Link] = {}
    tunnels: dict[int, Vxlan] = {}
    for received in host.route.dump(rtnl.dump_links()):
        link = rtnl.parse_link(received)
        links[link.ifindex] = link
        made = tunnel.parse_own(received) if link.kind == tunnel.KIND else None
        if made is not None:
            tunnels[link.ifindex] = made
    addresses = [rtnl.parse_address(one) for one in host.route.dump(rtnl.dump_addresses(0))]
    interfaces = tuple(_interfaces(host, addresses, links, tunnels))
    objects: list[Obj] = [*tunnels.values()]
    objects += [Up(HOST, one.name) for i, one in tunnels.items() if links[i].flags & rtnl.IFF_UP]
    objects += _addresses(addresses, tunnels)
    for version in VERSIONS:
        routes = host.route.dump(rtnl.dump_own_routes(version, CLUSTER_PROTOCOL))
        objects += _routes(routes, links)
    for index, made in tunnels.items():
        objects += _on_tunnel(host, index, made.name)
    for name in SETS:
        objects += nft.observe_set(host.filter_if_any, "inet", name)
    indices = {link.name: index for index, link in links.items()}
    return Look(interfaces, indices, tuple(objects), tuple(_gateways(addresses, links)))


def _gateways(
    addresses: Iterable[rtnl.Address], links: dict[int, rtnl.Link]
) -> Iterator[tuple[str, IPInterface]]:
    for one in addresses:
        link = links.get(one.ifindex)
        ours = link and link.kind == "bridge" and is_bridge_mark(link.alias)
        if link and ours and not one.address.is_link_local:
            yield link.name, one.address


def _interfaces(
    host: Host,
    addresses: Iterable[rtnl.Address],
    links: dict[int, rtnl.Link],
    tunnels: dict[int, Vxlan],
) -> Iterator[Underlay]:
    for one in addresses:
        link = links.get(one.ifindex)
        if not link or not link.flags & rtnl.IFF_UP or one.ifindex in tunnels:
            continue
        mtu = link.mtu
        if link.flags & IFF_LOOPBACK and not one.address.is_loopback:
            # The address of a node that routing protocols reach by several links: its packets
            # leave by another link than the one it is on.
            mtu = uplink_mtu(host.route) or DEFAULT_MTU
        yield Underlay(link.name, one.address, mtu)


def _addresses(addresses: Iterable[rtnl.Address], tunnels: dict[int, Vxlan]) -> Iterator[Addr]:
    for one in addresses:
        if one.ifindex in tunnels and not _link_local(one.address):
            dad = None if one.address.version == 4 else not one.flags & rtnl.IFA_F_NODAD
            connected = not one.flags & rtnl.IFA_F_NOPREFIXROUTE
            yield Addr(HOST, tunnels[one.ifindex].name, one.address, dad, connected)


def _link_local(address: IPInterface) -> bool:
    """The kernel's own, as a rule."""
    return address.version == 6 and address.is_link_local


def _routes(answers: Iterable[Received], links: dict[int, rtnl.Link]) -> Iterator[RouteTo]:
    for route in map(rtnl.parse_route, answers):
        if route and route.protocol == CLUSTER_PROTOCOL and route.ifindex in links:
            yield tunnel.cluster_route(route, links[route.ifindex].name)


def _on_tunnel(host: Host, index: int, name: str) -> Iterator[Obj]:
    for version in VERSIONS:
        for received in host.route.dump(tunnel.dump_neighbours(version, index)):
            neighbour = tunnel.parse_neighbour(received, index, name)
            if neighbour:
                yield neighbour
    for received in host.route.dump(tunnel.dump_fdb(index)):
        entry = tunnel.parse_fdb(received, index, name)
        if entry:
            yield entry


def settings(wanted: Iterable[Obj]) -> dict[Key, Obj]:
    """Those of the sysctls and offloads that exist, as they are."""
    found: dict[Key, Obj] = {}
    for obj in wanted:
        if isinstance(obj, Sysctl):
            value = sysctl.read(obj.path)
            if value is not None:
                found[key(obj)] = obj._replace(value=value)
        elif isinstance(obj, TxChecksum):
            on = offload.tx_checksum(obj.link)
            if on is not None:
                found[key(obj)] = TxChecksum(obj.link, on)
    return found


def chains(host: Host, wanted: Iterable[Obj]) -> dict[Key, Obj]:
    """Those of the chains that exist, see RuleChain. Raises KernelError."""
    host.look_again()
    found = host.chains(obj for obj in wanted if isinstance(obj, RuleChain))
    return {key(chain): chain for chain in found}


def has_ipv6() -> bool:
    """Whether the kernel has IPv6 at all."""
    return os.path.exists("/proc/sys/net/ipv6")
