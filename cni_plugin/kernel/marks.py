"""All in the node's kernel that bears one of podwire's marks: what would be left if podwire went.

The marks are the alias of links, the tunnels' names, the two route protocols, the
names of our nftables table and of our chain in iptables. What bears none is not looked at. Settings
that others may rely on by now (forwarding, for one) have no mark and stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cni_plugin.filter.tables import FAMILY_SETS
from cni_plugin.kernel import iptables, nft, rtnl, tunnel
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.netlink import Received
from cni_plugin.kernel.port import MARK
from cni_plugin.model.names import IFB_ALIAS
from cni_plugin.model.objects import (
    CLUSTER_PROTOCOL,
    HOST,
    ROUTE_PROTOCOL,
    AnyLink,
    Bridge,
    FilterTable,
    ForwardChain,
    Ifb,
    Obj,
    RouteTo,
    Veth,
)

# The alias of each kind of link, whole (model.names, attach.bridge): somebody may begin one so too.
_FORMS = {
    "bridge": re.compile(r"podwire \S+"),
    "ifb": re.compile(rf"{IFB_ALIAS}( \S+){{3}}|{IFB_ALIAS}-long \S+"),
    "veth": re.compile(r"podwire( \S+){3}|podwire-long \S+|podwire-gateway \d+ \S+"),
}
VERSIONS = (4, 6)


def marked(host: Host) -> tuple[Obj, ...]:
    """The objects, by what they are known by. Raises CNIError, KernelError among them."""
    seen = [(rtnl.parse_link(one), one) for one in host.route.dump(rtnl.dump_links())]
    ours = {link.ifindex: obj for link, one in seen if (obj := _link(link, one)) is not None}
    names = {link.ifindex: link.name for link, _ in seen}
    return (
        *ours.values(),
        *(route for route in _routes(host, names) if route.link not in _gone_with(ours, names)),
        *(
            FilterTable(family)
            for family in FAMILY_SETS
            if nft.has_table(host.filter_if_any, family)
        ),
        *map(ForwardChain, iptables.forward_chains(host.filter_if_any)),
    )


def attached(host: Host) -> tuple[str, ...]:
    """Whose links there are: network, container id and ifname of each pod. Raises KernelError."""
    received = host.route.dump(rtnl.dump_links())
    linked = (_link(rtnl.parse_link(one), one) for one in received)
    found = (obj for obj in linked if isinstance(obj, Veth))
    return tuple((obj.alias or obj.name).removeprefix(MARK) for obj in found)


def _link(link: rtnl.Link, received: Received) -> Obj | None:
    if link.kind == tunnel.KIND:
        return AnyLink(HOST, link.name) if tunnel.parse_own(received) else None
    form = _FORMS.get(link.kind)
    if form is None or not form.fullmatch(link.alias):
        return None
    if link.kind == "bridge":
        return Bridge(link.name, alias=link.alias)
    if link.kind == "ifb":
        return Ifb(link.name, alias=link.alias)
    if link.alias.startswith((MARK, "podwire-long ")):
        return Veth(link.name, alias=link.alias)
    return AnyLink(HOST, link.name)


def _gone_with(ours: dict[int, Obj], names: dict[int, str]) -> set[str]:
    return {names[index] for index in ours}


def _routes(host: Host, names: dict[int, str]) -> Iterator[RouteTo]:
    for version in VERSIONS:
        for protocol in (ROUTE_PROTOCOL, CLUSTER_PROTOCOL):
            for received in host.route.dump(rtnl.dump_own_routes(version, protocol)):
                route = rtnl.parse_route(received)
                if route and route.protocol == protocol and route.ifindex in names:
                    yield tunnel.cluster_route(route, names[route.ifindex])
