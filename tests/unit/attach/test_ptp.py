"""Mode ptp, line by line."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni_plugin import attach
from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.values import Interface, IPConfig
from ipam.values import Route
from tests.unit.attach.kit import (
    DEFAULT4,
    DEFAULT6,
    FOUND,
    HOST_LINK,
    HOST_MAC,
    NETNS,
    POD_MAC,
    V4,
    V6,
    lines,
    sysctls,
    wiring,
)

PAIR = (
    "ip link add HOST address MAC-HOST mtu {mtu} up"
    " type veth peer name eth0 netns POD address MAC-POD"
)
LINK_LOCAL = "ip -n POD address add fe80::7cba:87ff:feb3:e8e2/64 dev eth0 nodad"
POD_UP = "ip -n POD link set eth0 up"
POD4 = "ip -n POD address add 10.244.0.2/24 dev eth0 noprefixroute"
POD6 = "ip -n POD address add 2001:db8::2/64 dev eth0 nodad noprefixroute"
SIDES4 = [
    "ip address add 10.244.0.1/32 dev HOST",
    "ip neighbour add 10.244.0.2 lladdr MAC-POD dev HOST nud permanent",
    "ip route add 10.244.0.2/32 dev HOST scope link",
    "ip -n POD neighbour add 10.244.0.1 lladdr MAC-HOST dev eth0 nud permanent",
    "ip -n POD route add 10.244.0.1/32 dev eth0 scope link",
    "ip -n POD route add 10.244.0.0/24 via 10.244.0.1 dev eth0",
]
SIDES6 = [
    "ip address add 2001:db8::1/128 dev HOST nodad noprefixroute",
    "ip neighbour add 2001:db8::2 lladdr MAC-POD dev HOST nud permanent",
    "ip route add 2001:db8::2/128 dev HOST",
    "ip -n POD neighbour add 2001:db8::1 lladdr MAC-HOST dev eth0 nud permanent",
    "ip -n POD route add 2001:db8::1/128 dev eth0",
    "ip -n POD route add 2001:db8::/64 via 2001:db8::1 dev eth0",
]
ALONE4 = IPConfig(ip_interface("10.244.0.2/32"), ip_address("10.244.0.1"))

GOLDEN: dict[str, tuple[Wiring, list[str]]] = {
    "IPv4": (
        wiring("ptp", V4, routes=(DEFAULT4,)),
        [
            PAIR.format(mtu=1500),
            POD4,
            POD_UP,
            *SIDES4,
            "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
        ],
    ),
    "IPv6": (
        wiring("ptp", V6, routes=(DEFAULT6,)),
        [
            PAIR.format(mtu=1500),
            LINK_LOCAL,
            POD6,
            POD_UP,
            *SIDES6,
            "ip -n POD route add ::/0 via 2001:db8::1 dev eth0",
        ],
    ),
    "both": (
        wiring("ptp", V4, V6),
        [PAIR.format(mtu=1500), LINK_LOCAL, POD4, POD6, POD_UP, *SIDES4, *SIDES6],
    ),
    "no gateway": (
        wiring(
            "ptp",
            V4._replace(gateway=None),
            V6._replace(gateway=None),
            routes=(DEFAULT4, DEFAULT6),
        ),
        [
            PAIR.format(mtu=1500),
            LINK_LOCAL,
            POD4,
            POD6,
            POD_UP,
            "ip neighbour add 10.244.0.2 lladdr MAC-POD dev HOST nud permanent",
            "ip route add 10.244.0.2/32 dev HOST scope link",
            "ip -n POD neighbour add 169.254.1.1 lladdr MAC-HOST dev eth0 nud permanent",
            "ip -n POD route add 169.254.1.1/32 dev eth0 scope link",
            "ip neighbour add 2001:db8::2 lladdr MAC-POD dev HOST nud permanent",
            "ip route add 2001:db8::2/128 dev HOST",
            "ip -n POD neighbour add fe80::1 lladdr MAC-HOST dev eth0 nud permanent",
            "ip -n POD route add fe80::1/128 dev eth0",
            "ip -n POD route add 0.0.0.0/0 via 169.254.1.1 dev eth0",
            "ip -n POD route add ::/0 via fe80::1 dev eth0",
        ],
    ),
    "an address that is a network of its own": (
        wiring("ptp", ALONE4),
        [PAIR.format(mtu=1500), POD4.replace("/24", "/32"), POD_UP, *SIDES4[:-1]],
    ),
    "two addresses behind one gateway": (
        wiring("ptp", V4, V4._replace(address=ip_interface("10.244.0.3/24"))),
        [
            PAIR.format(mtu=1500),
            POD4,
            POD4.replace("0.2/", "0.3/"),
            POD_UP,
            *SIDES4,
            *(line.replace(".0.2", ".0.3") for line in SIDES4[1:3]),
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_wanted_objects_are_these(name: str) -> None:
    made, expected = GOLDEN[name]
    assert lines(made) == expected


def test_no_link_of_ours_configures_itself() -> None:
    assert sysctls(wiring("ptp", V4)) == [
        "net/ipv4/conf/HOST/accept_redirects=0",
        "net/ipv6/conf/HOST/accept_ra=0",
        "net/ipv6/conf/HOST/accept_redirects=0",
        "net/ipv6/conf/HOST/accept_dad=0",
        "net/ipv4/ip_forward=1",
        "POD net/ipv4/conf/eth0/accept_redirects=0",
        "POD net/ipv6/conf/eth0/accept_ra=0",
        "POD net/ipv6/conf/eth0/accept_redirects=0",
        "POD net/ipv6/conf/eth0/accept_dad=0",
        "POD net/ipv6/conf/eth0/addr_gen_mode=0",
        "POD net/ipv4/conf/eth0/arp_notify=1",
    ]


@pytest.mark.parametrize(
    ("mtu", "facts", "expected"),
    [
        (0, Facts(), 1500),
        (0, Facts(uplink_mtu=1450), 1450),
        (0, Facts(FOUND, uplink_mtu=1450), 1450),
        (9000, Facts(uplink_mtu=1450), 9000),
    ],
)
def test_the_mtu_is_the_configs_else_the_uplinks(mtu: int, facts: Facts, expected: int) -> None:
    assert lines(wiring("ptp", V4, facts=facts, mtu=mtu))[0] == PAIR.format(mtu=expected)


def test_a_route_with_its_own_next_hop_keeps_it() -> None:
    route = Route(ip_network("203.0.113.0/24"), gw=ip_address("10.244.0.9"), priority=7)
    assert lines(wiring("ptp", V4, routes=(route,)))[-1] == (
        "ip -n POD route add 203.0.113.0/24 via 10.244.0.9 dev eth0 metric 7"
    )


def test_the_result_tells_of_host_and_pod() -> None:
    result = attach.desired(wiring("ptp", V4, V6, routes=(DEFAULT4,))).result
    assert result.interfaces == (
        Interface(HOST_LINK, HOST_MAC, 1500),
        Interface("eth0", POD_MAC, 1500, sandbox=NETNS),
    )
    assert result.ips == (IPConfig(*V4[:2], 1), IPConfig(*V6[:2], 1))
    assert result.routes == (DEFAULT4,)
