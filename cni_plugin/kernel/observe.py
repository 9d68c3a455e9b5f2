"""What is there now, for the objects somebody wants: the same identities, the found shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import ip_address

from cni_plugin.filter.tables import RANGE_SETS
from cni_plugin.kernel import nft, rtnl, sysctl
from cni_plugin.kernel.netlink import KernelError, Socket
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import (
    HOST,
    POD,
    Addr,
    AnyLink,
    Bridge,
    Element,
    ForwardAccept,
    Ifb,
    Key,
    Neigh,
    Obj,
    Port,
    PortVlan,
    Redirect,
    RouteTo,
    RuleChain,
    Sysctl,
    Tbf,
    Tuned,
    Up,
    Veth,
    key,
)
from ipam.lean_typing import Any

DEFAULT_VLAN = 1
NO_LINKS = ("all", "default")  # below /proc/sys/net/ipv4/conf, but no links
MANY = 16  # elements asked for one by one; a reading of a whole set costs 1 to 10 ms
# Destinations of no one (RFC 5737, RFC 3849): asking for the route to them finds the default. The
# second is for a node that has the first one as its own after all.
PROBES = tuple(
    map(ip_address, ("192.0.2.1", "198.51.100.1", "2001:db8::1", "2001:db8:ffff::1")),
)


def observe(places: Places, objects: Iterable[Obj], *, fresh: bool = False) -> dict[Key, Obj]:
    """The objects that exist, by key. A pod namespace that is gone holds nothing.

    What only a newer podwire knows is not looked for. fresh: elements whose link is not there are
    taken to be absent too, unasked, and the node's own settings may be those of a second ago."""
    wanted = [
        obj for obj in objects if not (_is_strange(obj) or (fresh and _is_orphan(places, obj)))
    ]
    found: list[Obj] = []
    chains = [obj for obj in wanted if isinstance(obj, RuleChain)]
    if chains:
        found += places.on_host.chains(chains)
    found += _routes(places, [obj for obj in wanted if isinstance(obj, RouteTo)])
    elements = [obj for obj in wanted if isinstance(obj, Element)]
    many = _crowded(elements)
    found += _from_dumps(places, many)
    crowded = set(map(id, many))
    few = [obj for obj in elements if id(obj) not in crowded]
    found += nft.observe_elements(places.filter_if_any, few) if few else []
    for obj in wanted:
        reader = _READERS.get(type(obj))
        if reader and (seen := reader(places, obj)) is not None:
            found.append(seen)
    sysctls = [obj for obj in wanted if isinstance(obj, Sysctl)]
    found += _sysctls(places, sysctls, fresh=fresh)
    return {key(obj): obj for obj in found}


def _is_strange(obj: Obj) -> bool:
    return isinstance(obj, (Element, RuleChain)) and not nft.is_known(obj)


def _is_orphan(places: Places, obj: Obj) -> bool:
    return isinstance(obj, Element) and bool(obj.owner) and not places.link(HOST, obj.owner or "")


def _crowded(elements: list[Element]) -> list[Element]:
    """The elements of those sets of which so many are wanted that reading the set is quicker, or
    which tell only as a whole what they hold."""
    ranges = [obj for obj in elements if obj.set in RANGE_SETS]
    if len(elements) <= MANY:
        return ranges
    count = Counter(obj[:2] for obj in elements)
    return [obj for obj in elements if obj.set in RANGE_SETS or count[obj[:2]] > MANY]


def _from_dumps(places: Places, wanted: list[Element]) -> Iterator[Element]:
    """Those of the elements that are there, one reading a set."""
    keys = {key(obj) for obj in wanted}
    for family, name in dict.fromkeys((obj.family, obj.set) for obj in wanted):
        found = nft.observe_set(places.filter_if_any, family, name)
        yield from (element for element in found if key(element) in keys)


def _bridge(places: Places, wanted: Bridge) -> Bridge | None:
    link = places.link("host", wanted.name)
    if link is None:
        return None
    return Bridge(
        name=link.name,
        mtu=link.mtu,
        vlan_filtering=link.vlan_filtering if link.kind == "bridge" else None,
        promisc=bool(link.flags & rtnl.IFF_PROMISC),
        alias=link.alias,
        mac=link.mac,
        up=bool(link.flags & rtnl.IFF_UP),
    )


def _veth(places: Places, wanted: Veth) -> Veth | None:
    link = places.link("host", wanted.name)
    if link is None:
        return None
    peer = places.link(wanted.peer_place, wanted.peer) if wanted.peer else None
    return Veth(
        name=link.name,
        peer=peer.name if peer else None,
        mac=link.mac,
        peer_mac=peer.mac if peer else None,
        mtu=link.mtu,  # the host's end: the pod and later plugins may lower their own
        master=places.name_of("host", link.master) if link.master else "",
        alias=link.alias,
        peer_place=wanted.peer_place,
        up=bool(link.flags & rtnl.IFF_UP),
    )


def _ifb(places: Places, wanted: Ifb) -> Ifb | None:
    link = places.link(HOST, wanted.name)
    return Ifb(link.name, link.mtu, link.alias) if link else None


def _tbf(places: Places, wanted: Tbf) -> Tbf | None:
    link = places.link(HOST, wanted.link)
    if link is None or link.queue != "tbf":
        return None
    from cni_plugin.kernel import shaping

    received = places.host.get(shaping.get_root(link.ifindex))
    return shaping.parse_tbf(received, wanted) if received else None


def _redirect(places: Places, wanted: Redirect) -> Redirect | None:
    link = places.link(HOST, wanted.link)
    if link is None:
        return None
    from cni_plugin.kernel import shaping

    filters = places.host.dump(shaping.dump_filters(link.ifindex, wanted.hook))
    return shaping.parse_redirect(filters, wanted, partial(places.name_of, HOST))


def _tuned(places: Places, wanted: Tuned) -> Tuned | None:
    link = places.link(wanted.place, wanted.link)
    if link is None:
        return None
    return Tuned(
        wanted.place,
        wanted.link,
        queue_length=link.queue_length,
        allmulti=bool(link.flags & rtnl.IFF_ALLMULTI),
        promisc=bool(link.flags & rtnl.IFF_PROMISC),
    )


def _any_link(places: Places, wanted: AnyLink) -> AnyLink | None:
    return wanted if places.link(wanted.place, wanted.name) else None


def _port(places: Places, wanted: Port) -> Port | None:
    link = places.link("host", wanted.link)
    if link is None or link.hairpin is None:
        return None
    return Port(link.name, hairpin=link.hairpin, isolated=bool(link.isolated))


def _port_vlan(places: Places, wanted: PortVlan) -> PortVlan | None:
    link = places.link("host", wanted.link)
    if link is None:
        return None
    for received in places.host.dump(rtnl.dump_port_vlans(link.ifindex)):
        index, vlans = rtnl.parse_port_vlans(received)
        if index == link.ifindex and wanted.vid in vlans:
            return PortVlan(wanted.link, wanted.vid, default=DEFAULT_VLAN in vlans)
    return None


def _up(places: Places, wanted: Up) -> Up | None:
    link = places.link(wanted.place, wanted.link)
    return wanted if link and link.flags & rtnl.IFF_UP else None


def _addr(places: Places, wanted: Addr) -> Addr | None:
    link = places.link(wanted.place, wanted.link)
    if link is None:
        return None
    for found in places.addresses(wanted.place, link.ifindex):
        if found.address == wanted.address:
            dad = None if wanted.address.version == 4 else not found.flags & rtnl.IFA_F_NODAD
            connected = not found.flags & rtnl.IFA_F_NOPREFIXROUTE
            return Addr(wanted.place, wanted.link, found.address, dad=dad, connected=connected)
    return None


def _neigh(places: Places, wanted: Neigh) -> Neigh | None:
    link = places.link(wanted.place, wanted.link)
    if link is None:
        return None
    socket = places.socket(wanted.place)
    received = socket.get(rtnl.get_neigh(wanted.address, link.ifindex))
    if received is None:
        return None
    address, mac, permanent = rtnl.parse_neigh(received)
    # A learned entry is not ours: shown without its MAC it differs from any that is wanted.
    return Neigh(wanted.place, wanted.link, address, mac if permanent else "")


def _routes(places: Places, wanted: list[RouteTo]) -> list[RouteTo]:
    """One dump a link and family: the kernel has no lookup of one route by its identity. In the
    pod all links are looked at, because another one may have the route (plan.ceded)."""
    found: list[RouteTo] = []
    identities = {key(obj) for obj in wanted}
    for place, name, version in {(obj.place, obj.link, obj.dst.version) for obj in wanted}:
        link = places.link(place, name)
        if link is None:
            continue
        routes = places.routes(place, version, 0 if place == POD else link.ifindex)
        # Own routes last: of two with one identity the own one counts.
        for route in sorted(routes, key=lambda route: route.ifindex == link.ifindex):
            seen = _route_to(place, name, route)
            if key(seen) not in identities:
                continue
            if route.ifindex != link.ifindex:
                seen = seen._replace(link=places.name_of(place, route.ifindex))
            found.append(seen)
    return found


def _route_to(place: str, name: str, route: rtnl.Route) -> RouteTo:
    return RouteTo(
        place=place,
        dst=route.dst,
        table=route.table,
        priority=route.priority,
        link=name,
        gw=route.gw,
        scope=route.scope,
        mtu=route.mtu,
        advmss=route.advmss,
        onlink=route.onlink,
    )


def _sysctls(places: Places, wanted: list[Sysctl], *, fresh: bool) -> Iterator[Sysctl]:
    """Those of a link that is not there are not looked for; the pod is entered once."""
    there = [obj for obj in wanted if _may_be_there(places, obj)]
    for place in dict.fromkeys(obj.place for obj in there):
        here = [obj for obj in there if obj.place == place]
        recent = fresh and place == HOST
        for obj, value in zip(here, _values(places, place, here, recent=recent), strict=True):
            if value is not None:
                yield obj._replace(value=value)


def _values(places: Places, place: str, wanted: list[Sysctl], *, recent: bool) -> list[str | None]:
    paths = [obj.path for obj in wanted]
    if recent:
        return [places.on_host.recent(path, partial(sysctl.read, path)) for path in paths]
    return places.run(place, lambda: [sysctl.read(path) for path in paths])


def _may_be_there(places: Places, wanted: Sysctl) -> bool:
    if wanted.place == POD and not places.has_pod:
        return False
    match wanted.path:
        case (_, "conf", link, _) if link not in NO_LINKS:
            return places.link(wanted.place, link) is not None
    return True


def _forward(places: Places, wanted: ForwardAccept) -> ForwardAccept | None:
    from cni_plugin.kernel import iptables

    return wanted if iptables.forward_accepted(places.filter, wanted.range) else None


_READERS: dict[type, Callable[[Places, Any], Obj | None]] = {
    Bridge: _bridge, Veth: _veth, Ifb: _ifb, AnyLink: _any_link, Port: _port,
    PortVlan: _port_vlan, Tbf: _tbf, Redirect: _redirect, Tuned: _tuned, Up: _up, Addr: _addr,
    Neigh: _neigh, ForwardAccept: _forward,
}  # fmt: skip


def uplink_mtu(socket: Socket) -> int | None:
    """The MTU (bytes) of the link with the default route, IPv4 first; None without one."""
    for probe in PROBES:
        try:
            received = socket.get(rtnl.lookup_route(probe))
        except KernelError:  # ENETUNREACH: no default route in this family
            continue
        route = rtnl.parse_route(received) if received else None
        if route:
            link = socket.get(rtnl.get_link_by_index(route.ifindex))
            return rtnl.parse_link(link).mtu if link else None
    return None
