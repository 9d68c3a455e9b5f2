"""Mode bridge, line by line: what each config adds to, or takes from, the plain one."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni_plugin import attach
from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.errors import Conflict
from cni_plugin.cni.values import Dns, Interface, IPConfig, RuntimeConf
from cni_plugin.model import names
from cni_plugin.model.objects import HOST, Addr, Bridge
from ipam.values import Route
from tests.unit.attach.kit import (
    BRIDGE_MAC,
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
    "ip link add HOST address MAC-HOST mtu {mtu} master cni0 up type veth peer name eth0 netns POD"
    " address MAC-POD"
)
PORT = ["bridge link set dev HOST hairpin on isolated off"]
LINK_LOCAL = "ip -n POD address add fe80::7cba:87ff:feb3:e8e2/64 dev eth0 nodad"
POD_UP = "ip -n POD link set eth0 up"
NEW = "ip link add cni0 mtu 1500 up type bridge"

GOLDEN: dict[str, tuple[Wiring, list[str]]] = {
    "IPv4 on a new bridge": (
        wiring("bridge", V4, routes=(DEFAULT4,), is_gateway=True),
        [
            NEW,
            "ip address add 10.244.0.1/24 dev cni0",
            PAIR.format(mtu=1500),
            *PORT,
            "ip -n POD address add 10.244.0.2/24 dev eth0",
            POD_UP,
            "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
        ],
    ),
    "IPv6 on a new bridge": (
        wiring("bridge", V6, routes=(DEFAULT6,), is_gateway=True),
        [
            NEW,
            "ip address add 2001:db8::1/64 dev cni0 nodad",
            PAIR.format(mtu=1500),
            *PORT,
            LINK_LOCAL,
            "ip -n POD address add 2001:db8::2/64 dev eth0 nodad",
            POD_UP,
            "ip -n POD route add ::/0 via 2001:db8::1 dev eth0",
        ],
    ),
    "both on a bridge that is there": (
        wiring("bridge", V4, V6, routes=(DEFAULT4, DEFAULT6), is_gateway=True, facts=Facts(FOUND)),
        [
            "ip link add cni0 up type bridge",
            "ip address add 10.244.0.1/24 dev cni0",
            "ip address add 2001:db8::1/64 dev cni0 nodad",
            PAIR.format(mtu=1400),
            *PORT,
            LINK_LOCAL,
            "ip -n POD address add 10.244.0.2/24 dev eth0",
            "ip -n POD address add 2001:db8::2/64 dev eth0 nodad",
            POD_UP,
            "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
            "ip -n POD route add ::/0 via 2001:db8::1 dev eth0",
        ],
    ),
    "no gateway on the bridge": (
        wiring("bridge", V4, routes=(DEFAULT4,)),
        [
            NEW,
            PAIR.format(mtu=1500),
            *PORT,
            "ip -n POD address add 10.244.0.2/24 dev eth0",
            POD_UP,
            "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
        ],
    ),
    "isDefaultGateway": (
        wiring("bridge", V4, is_gateway=True, is_default_gateway=True),
        [
            NEW,
            "ip address add 10.244.0.1/24 dev cni0",
            PAIR.format(mtu=1500),
            *PORT,
            "ip -n POD address add 10.244.0.2/24 dev eth0",
            POD_UP,
            "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
        ],
    ),
    "layer 2 only": (wiring("bridge"), [NEW, PAIR.format(mtu=1500), *PORT, POD_UP]),
    "disableContainerInterface": (
        wiring("bridge", disable_container_interface=True),
        [NEW, PAIR.format(mtu=1500), *PORT],
    ),
    "enabledad": (
        wiring("bridge", V6, enable_dad=True),
        [
            NEW,
            PAIR.format(mtu=1500),
            *PORT,
            "ip -n POD address add 2001:db8::2/64 dev eth0",
            POD_UP,
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_wanted_objects_are_these(name: str) -> None:
    made, expected = GOLDEN[name]
    assert lines(made) == expected


def test_no_link_of_ours_configures_itself() -> None:
    assert sysctls(wiring("bridge", V4, V6, is_gateway=True)) == [
        "net/ipv4/conf/cni0/accept_redirects=0",
        "net/ipv6/conf/cni0/accept_ra=0",
        "net/ipv6/conf/cni0/accept_redirects=0",
        "net/ipv6/conf/cni0/accept_dad=0",
        "net/ipv4/ip_forward=1",
        "net/ipv6/conf/all/forwarding=1",
        "net/ipv6/conf/HOST/disable_ipv6=1",
        "POD net/ipv4/conf/eth0/accept_redirects=0",
        "POD net/ipv6/conf/eth0/accept_ra=0",
        "POD net/ipv6/conf/eth0/accept_redirects=0",
        "POD net/ipv6/conf/eth0/disable_ipv6=0",
        "POD net/ipv6/conf/eth0/accept_dad=0",
        "POD net/ipv6/conf/eth0/addr_gen_mode=1",
        "POD net/ipv4/conf/eth0/arp_notify=1",
    ]


def test_a_kernel_without_ipv6_gets_no_ipv6_sysctl() -> None:
    assert not any(
        "ipv6" in line for line in sysctls(wiring("bridge", V4, facts=Facts(ipv6=False)))
    )


def test_a_bridge_of_somebody_else_keeps_its_sysctls() -> None:
    """It may be the node's uplink, which lives by router advertisements."""
    foreign = Facts(FOUND._replace(ours=False))
    assert not any("/cni0/" in line for line in sysctls(wiring("bridge", V4, facts=foreign)))


def test_with_enabledad_detection_is_left_on() -> None:
    assert not any(
        "POD" in line and "accept_dad" in line
        for line in sysctls(wiring("bridge", V6, enable_dad=True))
    )


# MTU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mtu", "facts", "expected"),
    [
        (0, Facts(), 1500),
        (0, Facts(uplink_mtu=1450), 1450),
        (0, Facts(FOUND, uplink_mtu=9000), 1400),
        (9000, Facts(FOUND, uplink_mtu=1450), 9000),
    ],
    ids=["nothing known", "uplink", "bridge", "config"],
)
def test_the_mtu_is_the_configs_else_the_bridges_else_the_uplinks(
    mtu: int, facts: Facts, expected: int
) -> None:
    assert PAIR.format(mtu=expected) in lines(wiring("bridge", V4, facts=facts, mtu=mtu))


def test_a_bridge_that_is_there_keeps_mtu_mac_and_alias() -> None:
    made = attach.desired(wiring("bridge", V4, facts=Facts(FOUND), mtu=9000))
    (bridge,) = [obj for obj in made.objects if isinstance(obj, Bridge)]
    assert bridge == Bridge("cni0")


# the bridge's address ----------------------------------------------------------------------------


def _with_address(address: str, *, ours: bool = True, idle: bool = False) -> Facts:
    found = FOUND._replace(addresses=(ip_interface(address),), ours=ours, idle=idle)
    return Facts(found)


@pytest.mark.parametrize("address", ["10.244.0.254/24", "10.244.0.1/16", "10.244.0.9/32"])
def test_another_address_in_the_pods_network_is_a_conflict(address: str) -> None:
    with pytest.raises(Conflict) as refusal:
        attach.desired(wiring("bridge", V4, is_gateway=True, facts=_with_address(address)))
    assert address in refusal.value.msg
    assert "10.244.0.1/24" in refusal.value.msg


@pytest.mark.parametrize(
    "address",
    ["10.244.0.1/24", "10.244.1.1/24", "192.0.2.1/24", "2001:db8::1/64", "169.254.0.1/16"],
)
def test_any_other_address_of_the_bridge_is_fine(address: str) -> None:
    made = attach.desired(wiring("bridge", V4, is_gateway=True, facts=_with_address(address)))
    assert made.obsolete == ()


def test_with_force_address_the_old_one_goes() -> None:
    facts = _with_address("10.244.0.254/24")
    made = attach.desired(wiring("bridge", V4, is_gateway=True, force_address=True, facts=facts))
    assert made.obsolete == (Addr(HOST, "cni0", ip_interface("10.244.0.254/24")),)


def test_our_own_bridge_that_nobody_uses_is_readdressed() -> None:
    facts = _with_address("10.244.0.254/24", idle=True)
    made = attach.desired(wiring("bridge", V4, is_gateway=True, facts=facts))
    assert made.obsolete == (Addr(HOST, "cni0", ip_interface("10.244.0.254/24")),)


def test_an_idle_bridge_of_somebody_else_is_not() -> None:
    facts = _with_address("10.244.0.254/24", ours=False, idle=True)
    with pytest.raises(Conflict):
        attach.desired(wiring("bridge", V4, is_gateway=True, facts=facts))


def test_a_link_that_is_no_bridge_is_a_conflict() -> None:
    with pytest.raises(Conflict) as refusal:
        attach.desired(wiring("bridge", V4, facts=Facts(FOUND._replace(is_bridge=False))))
    assert "'cni0'" in refusal.value.msg


def test_with_is_gateway_an_address_without_gateway_gets_the_first_of_its_network() -> None:
    made = attach.desired(wiring("bridge", V4._replace(gateway=None), is_gateway=True))
    assert made.result.ips[0].gateway == ip_address("10.244.0.1")
    assert Addr(HOST, "cni0", ip_interface("10.244.0.1/24")) in made.objects


# switches ----------------------------------------------------------------------------------------


def test_switches_of_the_port_and_the_bridge_are_the_configs() -> None:
    made = lines(wiring("bridge", V4, hairpin=False, port_isolation=True, promisc=True))
    assert made[0] == f"{NEW} promisc on"
    assert "bridge link set dev HOST hairpin off isolated on" in made


@pytest.mark.parametrize(("default", "tail"), [(True, ""), (False, " (and no VLAN 1)")])
def test_a_vlan_is_the_ports_own_and_the_bridge_filters(default: bool, tail: str) -> None:
    made = lines(wiring("bridge", V4, vlan=100, preserve_default_vlan=default))
    assert made[0] == f"{NEW} vlan_filtering 1"
    assert f"bridge vlan add dev HOST vid 100 pvid untagged{tail}" in made


def test_a_vlans_gateway_is_on_a_port_of_its_own() -> None:
    made = lines(wiring("bridge", V4, vlan=100, is_gateway=True))
    assert "ip address add 10.244.0.1/24 dev cni0.100" in made
    assert not any(line.endswith("dev cni0") for line in made)


# routes and result -------------------------------------------------------------------------------


def test_ipams_own_default_route_wins_over_is_default_gateway() -> None:
    route = Route(ip_network("0.0.0.0/0"), gw=ip_address("10.244.0.9"))
    made = lines(wiring("bridge", V4, routes=(route,), is_gateway=True, is_default_gateway=True))
    assert [line for line in made if " route " in line] == [
        "ip -n POD route add 0.0.0.0/0 via 10.244.0.9 dev eth0"
    ]


def test_a_routes_attributes_are_kept() -> None:
    routes = (
        Route(ip_network("203.0.113.0/24"), mtu=1400, advmss=1300, priority=50, table=100),
        Route(ip_network("198.51.100.0/24"), scope=253),
    )
    made = lines(wiring("bridge", V4, routes=routes))
    assert made[-2:] == [
        (
            "ip -n POD route add 203.0.113.0/24 via 10.244.0.1 dev eth0 table 100 metric 50"
            " mtu 1400 advmss 1300"
        ),
        "ip -n POD route add 198.51.100.0/24 dev eth0 scope link",
    ]


def test_the_result_tells_of_bridge_host_and_pod() -> None:
    result = attach.desired(
        wiring("bridge", V4, V6, routes=(DEFAULT4,), is_gateway=True, facts=Facts(FOUND))
    ).result
    assert result.interfaces == (
        Interface("cni0", BRIDGE_MAC, 1400),
        Interface(HOST_LINK, HOST_MAC, 1400),
        Interface("eth0", POD_MAC, 1400, sandbox=NETNS),
    )
    assert result.ips == (IPConfig(*V4[:2], 2), IPConfig(*V6[:2], 2))
    assert result.routes == (DEFAULT4,)


def test_the_result_has_the_default_route_that_is_default_gateway_adds() -> None:
    made = attach.desired(wiring("bridge", V4, is_gateway=True, is_default_gateway=True))
    assert made.result.routes == (Route(ip_network("0.0.0.0/0"), gw=ip_address("10.244.0.1")),)


def test_the_configs_dns_goes_before_ipams() -> None:
    config, leased = Dns(("192.0.2.53",)), Dns(("198.51.100.53",))
    made = wiring("bridge", V4, dns=config)
    made = made._replace(addressing=made.addressing._replace(dns=leased))
    assert attach.desired(made).result.dns == config
    made = made._replace(conf=made.conf._replace(dns=Dns()))
    assert attach.desired(made).result.dns == leased


# MAC ---------------------------------------------------------------------------------------------


def test_a_mac_that_is_asked_for_goes_before_all() -> None:
    asked = RuntimeConf(mac="02:00:5e:00:00:09")
    assert wiring("bridge", V4, runtime=asked, stable_mac=True).pod_mac == "02:00:5e:00:00:09"


def test_a_stable_mac_follows_from_the_address_alone() -> None:
    made = wiring("bridge", V4, stable_mac=True)
    other = made._replace(attachment=made.attachment._replace(container_id="another"))
    assert made.pod_mac == other.pod_mac == names.mac_address("address", "10.244.0.2")
