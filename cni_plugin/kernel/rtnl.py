"""Rtnetlink messages: model objects to bytes, and the kernel's answers to values.

Source: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, if_bridge.h, veth.h.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface, ip_network

from cni_plugin.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Attrs,
    Line,
    Message,
    Received,
    attr,
    attribute_map,
    attributes,
    nested,
    number,
    string,
    text,
    u8,
    u32,
)
from cni_plugin.model.objects import (
    ROUTE_PROTOCOL,
    SCOPE_LINK,
    Addr,
    Bridge,
    Neigh,
    Port,
    RouteTo,
    Veth,
)
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress, IPInterface, IPNetwork

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30

IFINFO = struct.Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
IFADDR = struct.Struct("=BBBBi")  # ifaddrmsg: family, prefixlen, flags, scope, index
RTMSG = struct.Struct(
    "=BBBBBBBBI"
)  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

AF_BRIDGE = 7
FAMILY = {4: 2, 6: 10}  # AF_INET, AF_INET6
IFF_UP, IFF_PROMISC, IFF_ALLMULTI, IFF_LOWER_UP = 0x1, 0x100, 0x200, 0x10000
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_QDISC, IFLA_TXQLEN = 6, 13
IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD = 20, 26, 27, 28
IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN, RTEXT_FILTER_SKIP_STATS = 29, 0x2, 0x8
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_BR_VLAN_FILTERING = 7
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33  # MODE is hairpin
VETH_INFO_PEER = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_NOPREFIXROUTE = 0x02, 0x08, 0x40, 0x200
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS, RTA_TABLE = 1, 4, 5, 6, 8, 15
RTAX_MTU, RTAX_ADVMSS = 2, 8
RTN_UNICAST, RTNH_F_ONLINK = 1, 4
NDA_DST, NDA_LLADDR = 1, 2
NUD_PERMANENT = 0x80


# A veth uses one queue each way, but the kernel makes one a CPU and takes the others away again: a
# wait for all readers for each end (veth_init_queues; netif_set_real_num_tx_queues), a third of
# all that making a pair costs with two CPUs.
ONE_QUEUE = u32(IFLA_NUM_TX_QUEUES, 1) + u32(IFLA_NUM_RX_QUEUES, 1)
WITHOUT_STATISTICS = u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)  # they are half of an answer


class Link(NamedTuple):
    """A link as the kernel shows it."""

    ifindex: int
    name: str
    kind: str
    mac: str
    mtu: int
    master: int  # index, 0: none
    flags: int
    alias: str
    vlan_filtering: bool | None = None  # bridges
    hairpin: bool | None = None  # bridge ports
    isolated: bool | None = None
    queue: str = ""  # the root qdisc's kind
    queue_length: int = 0  # packets


class Address(NamedTuple):
    """An address of a link as the kernel shows it."""

    ifindex: int
    address: IPInterface
    flags: int


def mac_bytes(mac: str) -> bytes:
    """Six bytes of a MAC written with colons."""
    return bytes.fromhex(mac.replace(":", ""))


def _new(kind: int, flags: int, body: bytes, line: Line) -> Message:
    return Message(kind, flags, body, line)


# links -----------------------------------------------------------------------------------------


def new_bridge(bridge: Bridge, line: Line) -> Message:
    """A bridge, up at once. Its MAC is set here: otherwise it would follow its ports and pods'
    ARP entries for the gateway would go stale whenever a pod comes or goes."""
    options = b"" if not bridge.vlan_filtering else u8(IFLA_BR_VLAN_FILTERING, 1)
    flags = IFF_UP | (IFF_PROMISC if bridge.promisc else 0)
    body = IFINFO.pack(0, 0, 0, flags, flags) + text(IFLA_IFNAME, bridge.name)
    body += attr(IFLA_ADDRESS, mac_bytes(bridge.mac)) if bridge.mac else b""
    body += u32(IFLA_MTU, bridge.mtu) if bridge.mtu else b""
    info = text(IFLA_INFO_KIND, "bridge") + (nested(IFLA_INFO_DATA, options) if options else b"")
    return _new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body + nested(IFLA_LINKINFO, info), line)


def new_veth(veth: Veth, netns_fd: int | None, master: int, line: Line) -> Message:
    """Both ends in one message: this one here, in the bridge, the peer in the pod. The peer stays
    down, so nothing passes and no address is made up yet."""
    peer = IFINFO.pack(0, 0, 0, 0, 0)
    peer += text(IFLA_IFNAME, veth.peer or "")
    peer += attr(IFLA_ADDRESS, mac_bytes(veth.peer_mac)) if veth.peer_mac else b""
    peer += (u32(IFLA_MTU, veth.mtu) if veth.mtu else b"") + ONE_QUEUE
    peer += u32(IFLA_NET_NS_FD, netns_fd) if netns_fd is not None else b""
    up = IFF_UP if veth.up else 0
    body = IFINFO.pack(0, 0, 0, up, up) + text(IFLA_IFNAME, veth.name)
    body += attr(IFLA_ADDRESS, mac_bytes(veth.mac)) if veth.mac else b""
    body += u32(IFLA_MTU, veth.mtu) if veth.mtu else b""
    body += (u32(IFLA_MASTER, master) if master else b"") + ONE_QUEUE
    info = nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, peer))
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), info)
    return _new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, line)


class LinkChange(NamedTuple):
    """What to change on a link; None leaves it."""

    up: bool | None = None
    promisc: bool | None = None
    mtu: int | None = None
    master: int | None = None
    alias: str | None = None
    mac: str | None = None
    vlan_filtering: bool | None = None
    allmulti: bool | None = None
    queue_length: int | None = None


def change_link(name: str, change: LinkChange, line: Line) -> Message:
    """One RTM_NEWLINK on an existing link, found by name: it may have been made by the message
    before in the same batch. (RTM_SETLINK would take no IFLA_LINKINFO.)"""
    wanted = (
        (IFF_UP, change.up), (IFF_PROMISC, change.promisc), (IFF_ALLMULTI, change.allmulti),
    )  # fmt: skip
    flags = sum(flag for flag, value in wanted if value)
    mask = sum(flag for flag, value in wanted if value is not None)
    body = IFINFO.pack(0, 0, 0, flags, mask) + text(IFLA_IFNAME, name)
    body += u32(IFLA_MTU, change.mtu) if change.mtu is not None else b""
    body += u32(IFLA_MASTER, change.master) if change.master is not None else b""
    body += text(IFLA_IFALIAS, change.alias) if change.alias is not None else b""
    body += attr(IFLA_ADDRESS, mac_bytes(change.mac)) if change.mac is not None else b""
    body += u32(IFLA_TXQLEN, change.queue_length) if change.queue_length is not None else b""
    if change.vlan_filtering is not None:
        data = nested(IFLA_INFO_DATA, u8(IFLA_BR_VLAN_FILTERING, change.vlan_filtering))
        body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"), data)
    return _new(RTM_NEWLINK, 0, body, line)


def change_port(port: Port, line: Line) -> Message:
    """Sets the switches of a bridge port."""
    data = u8(IFLA_BRPORT_MODE, port.hairpin) + u8(IFLA_BRPORT_ISOLATED, port.isolated)
    info = text(IFLA_INFO_SLAVE_KIND, "bridge") + nested(IFLA_INFO_SLAVE_DATA, data)
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, port.link) + nested(IFLA_LINKINFO, info)
    return _new(RTM_NEWLINK, 0, body, line)


def port_vlan(index: int, vid: int, line: Line, *, remove: bool = False) -> Message:
    """Adds (or removes) a VLAN on a bridge port, as PVID and untagged. linux/if_bridge.h"""
    pvid_untagged = 0x2 | 0x4  # BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED
    info = attr(2, struct.pack("=HH", pvid_untagged, vid))  # IFLA_BRIDGE_VLAN_INFO
    body = IFINFO.pack(AF_BRIDGE, 0, index, 0, 0) + nested(IFLA_AF_SPEC, info)
    return _new(RTM_DELLINK if remove else RTM_SETLINK, 0, body, line)


def delete_link(name: str, line: Line) -> Message:
    """Deletes a link by name, and with it all that hangs on it."""
    return _new(RTM_DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name), line)


def join_group(name: str, group: int, line: Line) -> Message:
    """Puts a link into a group (a number that stands for nothing but itself)."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + u32(IFLA_GROUP, group)
    return _new(RTM_NEWLINK, 0, body, line)


def delete_group(group: int, line: Line) -> Message:
    """Deletes every link of a group at once; ENODEV when it has none."""
    return _new(RTM_DELLINK, 0, IFINFO.pack(0, 0, 0, 0, 0) + u32(IFLA_GROUP, group), line)


def get_link(name: str) -> Message:
    """Asks for one link by name."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + WITHOUT_STATISTICS
    return Message(RTM_GETLINK, 0, body, f"ip link show {name}")


def get_link_by_index(index: int) -> Message:
    """Asks for one link by index."""
    body = IFINFO.pack(0, 0, index, 0, 0) + WITHOUT_STATISTICS
    return Message(RTM_GETLINK, 0, body, f"ip link show index {index}")


def dump_links(master: int = 0) -> Message:
    """All links, or the ports of one bridge."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + (u32(IFLA_MASTER, master) if master else b"")
    return Message(RTM_GETLINK, 0, body, "ip link show")


def parse_link(received: Received) -> Link:
    """RTM_NEWLINK to a Link."""
    _, _, index, flags, _ = IFINFO.unpack_from(received.body)
    found = attribute_map(received.body, IFINFO.size)
    info = attribute_map(found.get(IFLA_LINKINFO, b""))
    kind = string(info.get(IFLA_INFO_KIND, b""))
    data = attribute_map(info.get(IFLA_INFO_DATA, b"")) if kind == "bridge" else {}
    is_port = string(info.get(IFLA_INFO_SLAVE_KIND, b"")) == "bridge"
    port = attribute_map(info.get(IFLA_INFO_SLAVE_DATA, b"")) if is_port else {}
    return Link(
        ifindex=index,
        name=string(found.get(IFLA_IFNAME, b"")),
        kind=kind,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found.get(IFLA_MTU, b"")),
        master=number(found.get(IFLA_MASTER, b"")),
        flags=flags,
        alias=string(found.get(IFLA_IFALIAS, b"")),
        vlan_filtering=_flag(data, IFLA_BR_VLAN_FILTERING),
        hairpin=_flag(port, IFLA_BRPORT_MODE),
        isolated=_flag(port, IFLA_BRPORT_ISOLATED),
        queue=string(found.get(IFLA_QDISC, b"")),
        queue_length=number(found.get(IFLA_TXQLEN, b"")),
    )


def _flag(found: Attrs, kind: int) -> bool | None:
    return bool(number(found[kind])) if kind in found else None


def dump_port_vlans(index: int) -> Message:
    """Links of AF_BRIDGE with their VLANs."""
    body = IFINFO.pack(AF_BRIDGE, 0, 0, 0, 0) + u32(IFLA_EXT_MASK, RTEXT_FILTER_BRVLAN)
    return Message(RTM_GETLINK, 0, body, f"bridge vlan show (index {index})")


def parse_port_vlans(received: Received) -> tuple[int, dict[int, int]]:
    """(link index, {vid: flags})."""
    _, _, index, _, _ = IFINFO.unpack_from(received.body)
    spec = attribute_map(received.body, IFINFO.size).get(IFLA_AF_SPEC, b"")
    vlans = {}
    for kind, data in attributes(spec):
        if kind == 2:  # IFLA_BRIDGE_VLAN_INFO
            flags, vid = struct.unpack("=HH", data[:4])
            vlans[vid] = flags
    return index, vlans


# addresses -------------------------------------------------------------------------------------


def _address(kind: int, flags: int, addr: Addr, index: int, line: Line) -> Message:
    address = addr.address
    scope = SCOPE_LINK if address.is_link_local else 0
    body = IFADDR.pack(FAMILY[address.version], address.network.prefixlen, 0, scope, index)
    body += attr(IFA_LOCAL, address.packed) + attr(IFA_ADDRESS, address.packed)
    if address.version == 4 and address.network.prefixlen < 31:
        body += attr(IFA_BROADCAST, address.network.broadcast_address.packed)
    address_flags = IFA_F_NODAD if address.version == 6 and addr.dad is False else 0
    address_flags |= 0 if addr.connected else IFA_F_NOPREFIXROUTE
    body += u32(IFA_FLAGS, address_flags) if address_flags else b""
    return _new(kind, flags, body, line)


def new_address(addr: Addr, index: int, line: Line, *, replace: bool = False) -> Message:
    """Adds an address; EEXIST when it is there, unless it is to be replaced."""
    mode = NLM_F_REPLACE if replace else NLM_F_EXCL
    return _address(RTM_NEWADDR, NLM_F_CREATE | mode, addr, index, line)


def delete_address(addr: Addr, index: int, line: Line) -> Message:
    """Removes an address."""
    return _address(RTM_DELADDR, 0, addr, index, line)


def dump_addresses(index: int) -> Message:
    """Strict checking makes the kernel filter by link."""
    return Message(RTM_GETADDR, 0, IFADDR.pack(0, 0, 0, 0, index), f"ip address show index {index}")


def parse_address(received: Received) -> Address:
    """RTM_NEWADDR to an Address."""
    _, prefix_length, flags, _, index = IFADDR.unpack_from(received.body)
    found = attribute_map(received.body, IFADDR.size)
    packed = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))
    if IFA_FLAGS in found:
        flags = number(found[IFA_FLAGS])
    return Address(index, ip_interface((packed, prefix_length)), flags)


# routes ----------------------------------------------------------------------------------------


def _route(kind: int, flags: int, route: RouteTo, index: int, line: Line) -> Message:
    family = FAMILY[route.dst.version]
    scope = route.scope or 0
    table = route.table if route.table < 256 else 0
    hop_flags = RTNH_F_ONLINK if route.onlink else 0
    protocol = route.protocol or ROUTE_PROTOCOL
    header = RTMSG.pack(
        family, route.dst.prefixlen, 0, 0, table, protocol, scope, RTN_UNICAST, hop_flags
    )
    body = header + u32(RTA_TABLE, route.table) + u32(RTA_OIF, index)
    body += attr(RTA_DST, route.dst.network_address.packed) if route.dst.prefixlen else b""
    body += attr(RTA_GATEWAY, route.gw.packed) if route.gw else b""
    body += u32(RTA_PRIORITY, route.priority) if route.priority else b""
    metrics = [u32(RTAX_MTU, route.mtu)] if route.mtu else []
    metrics += [u32(RTAX_ADVMSS, route.advmss)] if route.advmss else []
    body += nested(RTA_METRICS, *metrics) if metrics else b""
    return _new(kind, flags, body, line)


def new_route(route: RouteTo, index: int, line: Line, *, replace: bool = False) -> Message:
    """Adds a route; EEXIST when its identity is taken, unless it is to be replaced."""
    mode = NLM_F_REPLACE if replace else NLM_F_EXCL
    return _route(RTM_NEWROUTE, NLM_F_CREATE | mode, route, index, line)


def delete_route(route: RouteTo, index: int, line: Line) -> Message:
    """Removes a route of ours: the route protocol is part of the request."""
    return _route(RTM_DELROUTE, 0, route, index, line)


def dump_routes(version: int, index: int) -> Message:
    """The routes of one link in every table; strict checking makes the kernel filter. index 0: of
    all links."""
    body = RTMSG.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0)
    body += u32(RTA_OIF, index) if index else b""
    return Message(RTM_GETROUTE, 0, body, f"ip -{version} route show index {index}")


def dump_own_routes(version: int, protocol: int = ROUTE_PROTOCOL) -> Message:
    """The routes of a protocol of podwire's in every table: a router's others may be a million."""
    body = RTMSG.pack(FAMILY[version], 0, 0, 0, 0, protocol, 0, 0, 0)
    line = f"ip -{version} route show table all proto {protocol}"
    return Message(RTM_GETROUTE, 0, body, line)


def lookup_route(destination: IPAddress) -> Message:
    """Which route the kernel would take; nothing is sent."""
    size = 32 if destination.version == 4 else 128
    body = RTMSG.pack(FAMILY[destination.version], size, 0, 0, 0, 0, 0, 0, 0)
    body += attr(RTA_DST, destination.packed)
    return Message(RTM_GETROUTE, 0, body, f"ip route get {destination}")


class Route(NamedTuple):
    """A unicast route as the kernel shows it."""

    dst: IPNetwork
    table: int
    priority: int
    ifindex: int
    gw: IPAddress | None
    scope: int
    protocol: int
    mtu: int | None
    advmss: int | None
    onlink: bool


def parse_route(received: Received) -> Route | None:
    """None for what podwire never makes: local, multicast, unreachable and multipath routes."""
    family, size, _, _, table, protocol, scope, kind, flags = RTMSG.unpack_from(received.body)
    found = attribute_map(received.body, RTMSG.size)
    if kind != RTN_UNICAST or RTA_OIF not in found:
        return None
    packed = found.get(RTA_DST, bytes(4 if family == FAMILY[4] else 16))
    metrics = attribute_map(found.get(RTA_METRICS, b""))
    via = found.get(RTA_GATEWAY)
    return Route(
        dst=ip_network((packed, size)),
        table=number(found[RTA_TABLE]) if RTA_TABLE in found else table,
        priority=number(found.get(RTA_PRIORITY, b"")),
        ifindex=number(found[RTA_OIF]),
        gw=ip_address(via) if via else None,
        scope=scope,
        protocol=protocol,
        mtu=number(metrics[RTAX_MTU]) if RTAX_MTU in metrics else None,
        advmss=number(metrics[RTAX_ADVMSS]) if RTAX_ADVMSS in metrics else None,
        onlink=bool(flags & RTNH_F_ONLINK),
    )


# neighbours ------------------------------------------------------------------------------------


def _neigh(kind: int, flags: int, neigh: Neigh, index: int, line: Line) -> Message:
    body = NDMSG.pack(FAMILY[neigh.address.version], index, NUD_PERMANENT, 0, 0)
    body += attr(NDA_DST, neigh.address.packed)
    body += attr(NDA_LLADDR, mac_bytes(neigh.mac))
    return _new(kind, flags, body, line)


def new_neigh(neigh: Neigh, index: int, line: Line) -> Message:
    """REPLACE: a learned entry for the address becomes the permanent one."""
    return _neigh(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neigh, index, line)


def delete_neigh(neigh: Neigh, index: int, line: Line) -> Message:
    """Removes a neighbour entry."""
    return _neigh(RTM_DELNEIGH, 0, neigh, index, line)


def get_neigh(address: IPAddress, index: int) -> Message:
    """Asks for one neighbour entry."""
    body = NDMSG.pack(FAMILY[address.version], index, 0, 0, 0) + attr(NDA_DST, address.packed)
    return Message(RTM_GETNEIGH, 0, body, f"ip neighbour get {address} index {index}")


def parse_neigh(received: Received) -> tuple[IPAddress, str, bool]:
    """(address, MAC, whether it is permanent)."""
    _, _, state, _, _ = NDMSG.unpack_from(received.body)
    found = attribute_map(received.body, NDMSG.size)
    mac = found.get(NDA_LLADDR, b"").hex(":")
    return ip_address(found[NDA_DST]), mac, bool(state & NUD_PERMANENT)
