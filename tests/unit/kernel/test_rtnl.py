"""Every rtnetlink message, read back by pyroute2's decoder, says what was meant."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.netlink import HEADER, Message, Received, encode
from cni_plugin.model.objects import (
    HOST,
    POD,
    ROUTE_PROTOCOL,
    Addr,
    Bridge,
    Neigh,
    Port,
    RouteTo,
    Veth,
)

MAC, PEER_MAC = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
CREATE, EXCL, REPLACE, REQUEST = 0x400, 0x200, 0x100, 0x1
UP, PROMISC = 0x1, 0x100
Json = dict[str, Any]


def plain(value: Any) -> Any:
    """pyroute2's tree of attributes as nested dicts."""
    if isinstance(value, dict) and "attrs" in value:
        return {item[0]: plain(item[1]) for item in value["attrs"]}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def decoded(kind: type[Any], message: Message) -> tuple[Json, Json]:
    """(the family header and the netlink header's type and flags, the attributes)."""
    found = kind(encode(message, 7))
    found.decode()
    head = {field[0]: found[field[0]] for field in kind.fields if not field[0].startswith("__")}
    header = found["header"]
    assert header["length"] == len(encode(message, 7))
    assert header["sequence_number"] == 7
    return {**head, "type": header["type"], "flags of nl": header["flags"]}, plain(found)


def answer(message: Message) -> Received:
    """The message as if the kernel had sent it."""
    return Received(message.type, message.flags, message.body)


# links -------------------------------------------------------------------------------------------


def test_a_bridge_is_made_up_with_its_own_mac() -> None:
    head, attrs = decoded(ifinfmsg, rtnl.new_bridge(Bridge("cni0", mtu=1450, mac=MAC), ""))
    assert head["type"] == 16
    assert head["flags of nl"] == REQUEST | CREATE | EXCL
    assert (head["flags"], head["change"]) == (UP, UP)
    assert attrs == {
        "IFLA_IFNAME": "cni0",
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1450,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge"},
    }


def test_a_bridge_may_filter_vlans_and_be_promiscuous() -> None:
    bridge = Bridge("cni0", vlan_filtering=True, promisc=True)
    head, attrs = decoded(ifinfmsg, rtnl.new_bridge(bridge, ""))
    assert (head["flags"], head["change"]) == (UP | PROMISC, UP | PROMISC)
    assert attrs["IFLA_LINKINFO"]["IFLA_INFO_DATA"] == {"IFLA_BR_VLAN_FILTERING": 1}


def test_one_message_makes_names_and_addresses_both_ends_of_a_pair() -> None:
    veth = Veth("pwabc", "eth0", MAC, PEER_MAC, 1400, "cni0", "alias")
    head, attrs = decoded(ifinfmsg, rtnl.new_veth(veth, 5, 3, ""))
    assert (head["type"], head["flags of nl"]) == (16, REQUEST | CREATE | EXCL)
    assert head["flags"] == 0
    assert attrs == {
        "IFLA_IFNAME": "pwabc",
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1400,
        "IFLA_MASTER": 3,
        "IFLA_NUM_TX_QUEUES": 1,
        "IFLA_NUM_RX_QUEUES": 1,
        "IFLA_LINKINFO": {
            "IFLA_INFO_KIND": "veth",
            "IFLA_INFO_DATA": {
                "VETH_INFO_PEER": {
                    "IFLA_IFNAME": "eth0",
                    "IFLA_ADDRESS": PEER_MAC,
                    "IFLA_MTU": 1400,
                    "IFLA_NUM_TX_QUEUES": 1,
                    "IFLA_NUM_RX_QUEUES": 1,
                    "IFLA_NET_NS_FD": 5,
                }
            },
        },
    }


def test_a_pair_without_a_bridge_has_no_master() -> None:
    _, attrs = decoded(ifinfmsg, rtnl.new_veth(Veth("pwabc", "eth0"), 5, 0, ""))
    assert "IFLA_MASTER" not in attrs


@pytest.mark.parametrize(
    ("change", "flags", "mask"),
    [
        (rtnl.LinkChange(up=True), UP, UP),
        (rtnl.LinkChange(up=False), 0, UP),
        (rtnl.LinkChange(promisc=True), PROMISC, PROMISC),
        (rtnl.LinkChange(up=True, promisc=False), UP, UP | PROMISC),
        (rtnl.LinkChange(mtu=1400), 0, 0),
    ],
)
def test_only_the_flags_that_are_given_change(
    change: rtnl.LinkChange, flags: int, mask: int
) -> None:
    head, _ = decoded(ifinfmsg, rtnl.change_link("eth0", change, ""))
    assert (head["flags"], head["change"]) == (flags, mask)
    assert head["flags of nl"] == REQUEST


def test_a_changed_link_is_named_and_only_what_is_given_is_sent() -> None:
    change = rtnl.LinkChange(mtu=1400, master=0, alias="podwire net id eth0", mac=MAC)
    _, attrs = decoded(ifinfmsg, rtnl.change_link("pwabc", change, ""))
    assert attrs == {
        "IFLA_IFNAME": "pwabc",
        "IFLA_MTU": 1400,
        "IFLA_MASTER": 0,
        "IFLA_IFALIAS": "podwire net id eth0",
        "IFLA_ADDRESS": MAC,
    }


@pytest.mark.parametrize("on", [True, False])
def test_vlan_filtering_of_a_bridge_that_is_there_changes(on: bool) -> None:
    change = rtnl.LinkChange(vlan_filtering=on)
    _, attrs = decoded(ifinfmsg, rtnl.change_link("cni0", change, ""))
    assert attrs["IFLA_LINKINFO"] == {
        "IFLA_INFO_KIND": "bridge",
        "IFLA_INFO_DATA": {"IFLA_BR_VLAN_FILTERING": int(on)},
    }


@pytest.mark.parametrize("hairpin", [True, False])
@pytest.mark.parametrize("isolated", [True, False])
def test_a_ports_switches_are_both_sent(hairpin: bool, isolated: bool) -> None:
    message = rtnl.change_port(Port("pwabc", hairpin=hairpin, isolated=isolated), "")
    _, attrs = decoded(ifinfmsg, message)
    assert attrs["IFLA_LINKINFO"]["IFLA_INFO_SLAVE_KIND"] == "bridge"
    data = attrs["IFLA_LINKINFO"]["IFLA_INFO_SLAVE_DATA"]
    assert data == {"IFLA_BRPORT_MODE": int(hairpin), "IFLA_BRPORT_ISOLATED": int(isolated)}


@pytest.mark.parametrize(("remove", "kind"), [(False, 19), (True, 17)])
def test_a_ports_vlan_is_untagged_and_its_default(remove: bool, kind: int) -> None:
    head, attrs = decoded(ifinfmsg, rtnl.port_vlan(9, 100, "", remove=remove))
    assert (head["type"], head["family"], head["index"]) == (kind, 7, 9)
    vlan = attrs["IFLA_AF_SPEC"]["IFLA_BRIDGE_VLAN_INFO"]
    assert (vlan["vid"], vlan["flags"]) == (100, 0x2 | 0x4)


def test_a_link_is_deleted_by_name() -> None:
    head, attrs = decoded(ifinfmsg, rtnl.delete_link("pwabc", ""))
    assert (head["type"], head["index"]) == (17, 0)
    assert attrs == {"IFLA_IFNAME": "pwabc"}


def test_a_link_is_asked_for_by_name_or_by_index() -> None:
    skip_statistics = {"IFLA_EXT_MASK": 8}  # RTEXT_FILTER_SKIP_STATS
    named = {"IFLA_IFNAME": "eth0", **skip_statistics}
    assert decoded(ifinfmsg, rtnl.get_link("eth0"))[1] == named
    head, attrs = decoded(ifinfmsg, rtnl.get_link_by_index(7))
    assert (head["index"], attrs) == (7, skip_statistics)


def test_the_ports_of_one_bridge_are_asked_for_by_master() -> None:
    assert decoded(ifinfmsg, rtnl.dump_links(3))[1] == {"IFLA_MASTER": 3}
    assert decoded(ifinfmsg, rtnl.dump_links())[1] == {}


def test_a_link_is_parsed_as_it_was_written() -> None:
    veth = Veth("pwabc", "eth0", MAC, PEER_MAC, 1400)
    link = rtnl.parse_link(answer(rtnl.new_veth(veth, 5, 3, "")))
    assert (link.name, link.kind, link.mac, link.mtu, link.master) == (
        "pwabc",
        "veth",
        MAC,
        1400,
        3,
    )


def test_a_ports_switches_are_parsed_as_they_were_written() -> None:
    message = rtnl.change_port(Port("pwabc", hairpin=True, isolated=False), "")
    link = rtnl.parse_link(answer(message))
    assert (link.hairpin, link.isolated) == (True, False)


# addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "scope", "broadcast"),
    [
        ("10.244.0.2/24", 0, "10.244.0.255"),
        ("10.244.0.1/32", 0, None),
        ("10.244.0.2/31", 0, None),
        ("169.254.0.2/16", 253, "169.254.255.255"),
        ("2001:db8::2/64", 0, None),
        ("fe80::2/64", 253, None),
    ],
)
def test_an_address_has_its_length_scope_and_broadcast(
    address: str, scope: int, broadcast: str | None
) -> None:
    wanted = ip_interface(address)
    head, attrs = decoded(ifaddrmsg, rtnl.new_address(Addr(POD, "eth0", wanted), 4, ""))
    assert (head["type"], head["flags of nl"]) == (20, REQUEST | CREATE | EXCL)
    assert head["family"] == (2 if wanted.version == 4 else 10)
    assert (head["prefixlen"], head["scope"], head["index"]) == (
        wanted.network.prefixlen,
        scope,
        4,
    )
    assert attrs["IFA_LOCAL"] == attrs["IFA_ADDRESS"] == str(wanted.ip)
    assert attrs.get("IFA_BROADCAST") == broadcast


@pytest.mark.parametrize(
    ("address", "dad", "connected", "flags"),
    [
        ("2001:db8::2/64", False, True, 0x02),
        ("2001:db8::2/64", True, True, None),
        ("2001:db8::2/64", False, False, 0x202),
        ("10.244.0.2/24", None, False, 0x200),
        ("10.244.0.2/24", None, True, None),
    ],
)
def test_duplicate_detection_and_the_networks_route_are_switched_by_flags(
    address: str, dad: bool | None, connected: bool, flags: int | None
) -> None:
    addr = Addr(POD, "eth0", ip_interface(address), dad=dad, connected=connected)
    assert decoded(ifaddrmsg, rtnl.new_address(addr, 4, ""))[1].get("IFA_FLAGS") == flags


def test_an_address_is_replaced_only_when_asked() -> None:
    addr = Addr(POD, "eth0", ip_interface("10.244.0.2/24"))
    head, _ = decoded(ifaddrmsg, rtnl.new_address(addr, 4, "", replace=True))
    assert head["flags of nl"] == REQUEST | CREATE | REPLACE


def test_an_address_is_deleted_whole() -> None:
    addr = Addr(POD, "eth0", ip_interface("10.244.0.2/24"))
    head, attrs = decoded(ifaddrmsg, rtnl.delete_address(addr, 4, ""))
    assert (head["type"], head["flags of nl"], head["prefixlen"]) == (21, REQUEST, 24)
    assert attrs["IFA_LOCAL"] == "10.244.0.2"


@pytest.mark.parametrize("address", ["10.244.0.2/24", "2001:db8::2/64"])
def test_an_address_is_parsed_as_it_was_written(address: str) -> None:
    addr = Addr(POD, "eth0", ip_interface(address), dad=False, connected=False)
    found = rtnl.parse_address(answer(rtnl.new_address(addr, 4, "")))
    assert (found.ifindex, found.address) == (4, ip_interface(address))
    assert found.flags & rtnl.IFA_F_NOPREFIXROUTE


# routes ------------------------------------------------------------------------------------------


def _route(dst: str, gw: str = "", **more: Any) -> RouteTo:
    version = ip_network(dst).version
    fields: Json = {"table": 254, "priority": 1024 if version == 6 else 0, "link": "eth0", **more}
    return RouteTo(POD, ip_network(dst), gw=ip_address(gw) if gw else None, **fields)


def test_a_route_is_ours_by_its_protocol() -> None:
    head, _ = decoded(rtmsg, rtnl.new_route(_route("0.0.0.0/0", "10.244.0.1"), 4, ""))
    assert (head["type"], head["flags of nl"]) == (24, REQUEST | CREATE | EXCL)
    assert (head["proto"], rtnl.ROUTE_PROTOCOL) == (ROUTE_PROTOCOL, ROUTE_PROTOCOL)


def test_a_default_route_has_no_destination_attribute() -> None:
    head, attrs = decoded(rtmsg, rtnl.new_route(_route("0.0.0.0/0", "10.244.0.1"), 4, ""))
    assert head["dst_len"] == 0
    assert attrs == {"RTA_TABLE": 254, "RTA_OIF": 4, "RTA_GATEWAY": "10.244.0.1"}


def test_a_route_carries_metric_and_metrics() -> None:
    route = _route("2001:db8:9::/64", "fe80::1", mtu=1400, advmss=1300)
    head, attrs = decoded(rtmsg, rtnl.new_route(route, 4, ""))
    assert (head["family"], head["dst_len"], head["type"]) == (10, 64, 24)
    assert attrs == {
        "RTA_TABLE": 254,
        "RTA_OIF": 4,
        "RTA_DST": "2001:db8:9::",
        "RTA_GATEWAY": "fe80::1",
        "RTA_PRIORITY": 1024,
        "RTA_METRICS": {"RTAX_MTU": 1400, "RTAX_ADVMSS": 1300},
    }


@pytest.mark.parametrize(("table", "in_header"), [(100, 100), (255, 255), (1000, 0)])
def test_a_table_over_255_is_in_its_attribute_only(table: int, in_header: int) -> None:
    head, attrs = decoded(rtmsg, rtnl.new_route(_route("192.0.2.0/24", table=table), 4, ""))
    assert (head["table"], attrs["RTA_TABLE"]) == (in_header, table)


@pytest.mark.parametrize(("scope", "onlink"), [(253, None), (0, True), (None, None)])
def test_scope_and_onlink_are_in_the_header(scope: int | None, onlink: bool | None) -> None:
    route = _route("192.0.2.0/24", "10.244.0.1", scope=scope, onlink=onlink)
    message = rtnl.new_route(route, 4, "")
    fields = rtnl.RTMSG.unpack_from(message.body)
    assert (fields[6], fields[7], fields[8]) == (scope or 0, 1, 4 if onlink else 0)


def test_a_route_is_deleted_by_all_that_it_is() -> None:
    head, attrs = decoded(rtmsg, rtnl.delete_route(_route("192.0.2.0/24", "10.244.0.1"), 4, ""))
    assert (head["flags of nl"], head["proto"]) == (REQUEST, ROUTE_PROTOCOL)
    assert attrs["RTA_OIF"] == 4


def test_the_routes_of_one_link_or_of_all_are_asked_for() -> None:
    assert decoded(rtmsg, rtnl.dump_routes(4, 7))[1] == {"RTA_OIF": 7}
    assert decoded(rtmsg, rtnl.dump_routes(6, 0))[1] == {}


@pytest.mark.parametrize(
    "route",
    [
        _route("0.0.0.0/0", "10.244.0.1", scope=0),
        _route("192.0.2.0/24", scope=253, mtu=1400, advmss=1300),
        _route("2001:db8:9::/64", "2001:db8::1", table=1000),
        _route("::/0", "fe80::1", onlink=True),
    ],
)
def test_a_route_is_parsed_as_it_was_written(route: RouteTo) -> None:
    found = rtnl.parse_route(answer(rtnl.new_route(route, 4, "")))
    assert found is not None
    assert (found.dst, found.table, found.priority, found.ifindex, found.gw) == (
        route.dst,
        route.table,
        route.priority,
        4,
        route.gw,
    )
    assert (found.mtu, found.advmss, found.onlink) == (
        route.mtu,
        route.advmss,
        bool(route.onlink),
    )


@pytest.mark.parametrize("kind", [2, 3, 5, 6, 7])  # local, broadcast, multicast, blackhole, ...
def test_what_podwire_never_makes_is_no_route(kind: int) -> None:
    body = rtnl.RTMSG.pack(2, 24, 0, 0, 254, 2, 0, kind, 0) + rtnl.u32(4, 1)
    assert rtnl.parse_route(Received(24, 0, body)) is None


# neighbours --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "family"), [("10.244.0.2", 2), ("fe80::1", 10)])
def test_a_neighbour_is_permanent_and_replaces_a_learned_one(address: str, family: int) -> None:
    neigh = Neigh(HOST, "pwabc", ip_address(address), MAC)
    head, attrs = decoded(ndmsg, rtnl.new_neigh(neigh, 4, ""))
    assert (head["type"], head["flags of nl"]) == (28, REQUEST | CREATE | REPLACE)
    assert (head["family"], head["ifindex"], head["state"]) == (family, 4, 0x80)
    assert attrs == {"NDA_DST": address, "NDA_LLADDR": MAC}


def test_a_neighbour_is_deleted_and_parsed_as_it_was_written() -> None:
    neigh = Neigh(HOST, "pwabc", ip_address("10.244.0.2"), MAC)
    head, _ = decoded(ndmsg, rtnl.delete_neigh(neigh, 4, ""))
    assert (head["type"], head["ifindex"]) == (29, 4)
    found = rtnl.parse_neigh(answer(rtnl.new_neigh(neigh, 4, "")))
    assert found == (ip_address("10.244.0.2"), MAC, True)


def test_the_header_struct_is_the_kernels() -> None:
    """struct nlmsghdr, 16 bytes."""
    assert HEADER.size == 16
    assert (rtnl.IFINFO.size, rtnl.IFADDR.size, rtnl.RTMSG.size, rtnl.NDMSG.size) == (
        16,
        8,
        12,
        12,
    )
