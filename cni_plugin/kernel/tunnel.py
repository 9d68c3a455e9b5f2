"""VXLAN links and their forwarding tables: model objects to messages, and answers to values.

Source: linux/if_link.h (IFLA_VXLAN_*), neighbour.h; ip-link(8), bridge(8).
"""

from __future__ import annotations

from ipaddress import ip_address

from cni_plugin.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Line,
    Message,
    Received,
    attr,
    attribute_map,
    nested,
    number,
    string,
    text,
    u8,
    u32,
)
from cni_plugin.kernel.rtnl import (
    AF_BRIDGE,
    FAMILY,
    IFINFO,
    IFLA_ADDRESS,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    NDA_DST,
    NDA_LLADDR,
    NDMSG,
    NUD_PERMANENT,
    RTM_DELNEIGH,
    RTM_GETNEIGH,
    RTM_NEWLINK,
    RTM_NEWNEIGH,
    Route,
    mac_bytes,
)
from cni_plugin.model.names import tunnel_name
from cni_plugin.model.objects import HOST, Fdb, Neigh, RouteTo, Vxlan

KIND = "vxlan"
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT = 1, 4, 7, 15
IFLA_VXLAN_LOCAL6 = 17
LOCAL = {4: IFLA_VXLAN_LOCAL, 6: IFLA_VXLAN_LOCAL6}
NDA_IFINDEX = 8
NTF_SELF = 0x02


def new_vxlan(vxlan: Vxlan, line: Line) -> Message:
    """A VXLAN link, down until it is set up. Its MAC is set here: a link whose MAC the kernel chose
    is one that udev rewrites (addr_assign_type), and every peer knows the MAC beforehand."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, vxlan.name)
    body += attr(IFLA_ADDRESS, mac_bytes(vxlan.mac)) if vxlan.mac else b""
    body += u32(IFLA_MTU, vxlan.mtu) if vxlan.mtu else b""
    port = attr(IFLA_VXLAN_PORT, vxlan.port.to_bytes(2, "big"))
    body += _info(u32(IFLA_VXLAN_ID, vxlan.vni), port, *_changeable(vxlan))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, line)


def change_vxlan(vxlan: Vxlan, line: Line) -> Message:
    """What can be changed of one that is there: the kernel refuses another VNI or port, and in the
    same message another MTU."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, vxlan.name)
    return Message(RTM_NEWLINK, 0, body + _info(*_changeable(vxlan)), line)


def _changeable(vxlan: Vxlan) -> tuple[bytes, bytes]:
    local = attr(LOCAL[vxlan.local.version], vxlan.local.packed)
    return local, u8(IFLA_VXLAN_LEARNING, vxlan.learning)


def _info(*data: bytes) -> bytes:
    return nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, KIND), nested(IFLA_INFO_DATA, *data))


def parse_own(received: Received) -> Vxlan | None:
    """RTM_NEWLINK to a tunnel of podwire's: its name follows from its outer IP version, VNI and
    port. None for any other link."""
    found = parse_vxlan(received)
    if found is None or found.name != tunnel_name(found.local.version, found.vni, found.port):
        return None
    return found


def parse_vxlan(received: Received) -> Vxlan | None:
    """RTM_NEWLINK to a Vxlan; None for a link of another kind, or without an outer address."""
    found = attribute_map(received.body, IFINFO.size)
    info = attribute_map(found.get(IFLA_LINKINFO, b""))
    if string(info.get(IFLA_INFO_KIND, b"")) != KIND:
        return None
    data = attribute_map(info.get(IFLA_INFO_DATA, b""))
    local = data.get(IFLA_VXLAN_LOCAL) or data.get(IFLA_VXLAN_LOCAL6)
    if local is None:
        return None
    return Vxlan(
        name=string(found.get(IFLA_IFNAME, b"")),
        vni=number(data.get(IFLA_VXLAN_ID, b"")),
        port=int.from_bytes(data.get(IFLA_VXLAN_PORT, b""), "big"),
        local=ip_address(local),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found.get(IFLA_MTU, b"")),
        alias=string(found.get(IFLA_IFALIAS, b"")),
        learning=bool(number(data.get(IFLA_VXLAN_LEARNING, b""))),
    )


def _fdb(kind: int, flags: int, entry: Fdb, index: int, line: Line) -> Message:
    body = NDMSG.pack(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF, 0)
    body += attr(NDA_LLADDR, mac_bytes(entry.mac)) + attr(NDA_DST, entry.dst.packed)
    return Message(kind, flags, body, line)


def new_fdb(entry: Fdb, index: int, line: Line) -> Message:
    """REPLACE: of one MAC there is one destination."""
    return _fdb(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, entry, index, line)


def delete_fdb(entry: Fdb, index: int, line: Line) -> Message:
    """Removes an entry."""
    return _fdb(RTM_DELNEIGH, 0, entry, index, line)


def dump_fdb(index: int) -> Message:
    """The forwarding table of one link."""
    body = NDMSG.pack(AF_BRIDGE, 0, 0, 0, 0) + u32(NDA_IFINDEX, index)
    return Message(RTM_GETNEIGH, 0, body, f"bridge fdb show index {index}")


def parse_fdb(received: Received, index: int, name: str) -> Fdb | None:
    """None for what podwire never makes: an entry of another link or one without a node."""
    _, ifindex, _, _, _ = NDMSG.unpack_from(received.body)
    found = attribute_map(received.body, NDMSG.size)
    dst = found.get(NDA_DST)
    if ifindex != index or dst is None or NDA_LLADDR not in found:
        return None
    return Fdb(name, found[NDA_LLADDR].hex(":"), ip_address(dst))


def dump_neighbours(version: int, index: int) -> Message:
    """The neighbours of one link."""
    body = NDMSG.pack(FAMILY[version], 0, 0, 0, 0) + u32(NDA_IFINDEX, index)
    return Message(RTM_GETNEIGH, 0, body, f"ip -{version} neighbour show index {index}")


def parse_neighbour(
    received: Received, index: int, name: str, *, permanent: bool = True
) -> Neigh | None:
    """A neighbour of the link; permanent: None for any other, which comes and goes by itself."""
    _, ifindex, state, _, _ = NDMSG.unpack_from(received.body)
    if ifindex != index or (permanent and not state & NUD_PERMANENT):
        return None
    found = attribute_map(received.body, NDMSG.size)
    return Neigh(HOST, name, ip_address(found[NDA_DST]), found.get(NDA_LLADDR, b"").hex(":"))


def cluster_route(route: Route, link: str) -> RouteTo:
    """A route to other nodes' pods; link: the name of the one it leaves by."""
    return RouteTo(
        HOST,
        route.dst,
        route.table,
        route.priority,
        link,
        route.gw,
        route.scope,
        route.mtu,
        route.advmss,
        route.onlink,
        route.protocol,
    )
