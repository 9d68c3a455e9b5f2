"""The pod's interface as the config, the runtime and CNI_ARGS ask for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.netns.kit import GATEWAYS, MODES, Json, address, conf, host_end, ipam
from tests.support import need
from tests.support.node import Node, Pod
from tests.support.runtime import Failed, Runtime

MAC = "02:00:5e:10:00:01"
JUMBO = 9000


def _mtu(place: Node | Pod, name: str) -> int:
    link = place.link(name)
    assert link is not None
    return int(link["mtu"])


def _mac(pod: Pod) -> str:
    link = pod.link("eth0")
    assert link is not None
    return str(link["address"])


# MTU ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_jumbo_mtu_carries_jumbo_packets(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode, mtu=JUMBO)), node.pod()
    result = network.add(pod)
    assert {link["mtu"] for link in result["interfaces"]} == {JUMBO}
    assert (_mtu(node, host_end(result)), _mtu(pod, "eth0")) == (JUMBO, JUMBO)
    whole = str(JUMBO - 28)  # 20 bytes IPv4 header, 8 ICMP
    pod.run("ping", "-c", "1", "-w", "2", "-M", "do", "-s", whole, GATEWAYS[4])


def test_without_mtu_a_bridge_that_is_there_decides(node: Node) -> None:
    node.configure("link add cni0 mtu 1400 type bridge")
    network, pod = Runtime(node, conf()), node.pod()
    result = network.add(pod)
    assert (_mtu(node, host_end(result)), _mtu(pod, "eth0")) == (1400, 1400)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("network", ["203.0.113", "192.0.2"])  # the second is what is asked for
def test_without_mtu_the_uplink_decides(node: Node, mode: str, network: str) -> None:
    node.configure("link add uplink mtu 1450 type veth peer name far")
    node.configure("link set uplink up")
    node.configure("link set far up")
    node.configure(f"addr add {network}.1/24 dev uplink")
    node.configure(f"route add default via {network}.2")
    pod = node.pod()
    Runtime(node, conf(mode)).add(pod)
    assert _mtu(pod, "eth0") == 1450


# MAC ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("changes", "call"),
    [
        ({"capabilities": {"mac": True}}, {"capabilities": {"mac": MAC}}),
        ({"args": {"cni": {"mac": MAC}}}, {}),
        ({}, {"args": f"IgnoreUnknown=1;MAC={MAC}"}),
    ],
    ids=["runtimeConfig", "args.cni", "CNI_ARGS"],
)
def test_the_pod_gets_the_mac_that_was_asked_for(
    node: Node, mode: str, changes: Json, call: Json
) -> None:
    network, pod = Runtime(node, conf(mode, **changes)), node.pod()
    result = network.add(pod, **call)
    assert result["interfaces"][-1]["mac"] == MAC
    assert _mac(pod) == MAC
    assert pod.ping(GATEWAYS[4])
    network.check(pod)


def test_with_stable_mac_an_address_keeps_its_mac_whoever_has_it(node: Node) -> None:
    network = Runtime(node, conf(stableMac=True))
    first, second = node.pod(), node.pod()
    network.add(first, args="IP=10.244.0.9")
    mac = _mac(first)
    network.delete(first)
    network.add(second, args="IP=10.244.0.9")
    assert _mac(second) == mac


def test_without_stable_mac_the_next_holder_of_an_address_has_another_mac(node: Node) -> None:
    network = Runtime(node, conf())
    first, second = node.pod(), node.pod()
    network.add(first, args="IP=10.244.0.9")
    mac = _mac(first)
    network.delete(first)
    network.add(second, args="IP=10.244.0.9")
    assert _mac(second) != mac


# addresses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("changes", "call"),
    [
        (
            {"capabilities": {"ips": True}},
            {"capabilities": {"ips": ["10.244.0.77/24", "2001:db8:244::77/64"]}},
        ),
        ({"args": {"cni": {"ips": ["10.244.0.77", "2001:db8:244::77"]}}}, {}),
        ({}, {"args": "IP=10.244.0.77,2001:db8:244::77"}),
    ],
    ids=["runtimeConfig", "args.cni", "CNI_ARGS"],
)
def test_the_pod_gets_the_addresses_that_were_asked_for(
    node: Node, mode: str, changes: Json, call: Json
) -> None:
    network, pod = Runtime(node, conf(mode, (4, 6), **changes)), node.pod()
    network.add(pod, **call)
    assert pod.addresses("eth0") == ["10.244.0.77/24", "2001:db8:244::77/64"]


def test_an_address_that_another_pod_has_is_refused(node: Node) -> None:
    network = Runtime(node, conf())
    network.add(node.pod(), args="IP=10.244.0.77")
    with pytest.raises(Failed) as refusal:
        network.add(node.pod(), args="IP=10.244.0.77")
    assert refusal.value.code == 101


def test_routes_of_ipam_come_with_their_attributes(node: Node) -> None:
    routes = [
        {"dst": "0.0.0.0/0"},
        {"dst": "198.51.100.0/24", "gw": "10.244.0.3", "mtu": 1400, "advmss": 1300},
        {"dst": "203.0.113.0/24", "priority": 50},
        {"dst": "192.0.2.0/24", "scope": 253},
    ]
    network, pod = Runtime(node, conf(ipam=ipam("10.244.0.0/24", routes=routes))), node.pod()
    network.add(pod)
    assert sorted(pod.routes()) == [
        "192.0.2.0/24 dev eth0 proto 112 scope link",
        "198.51.100.0/24 via 10.244.0.3 dev eth0 proto 112 mtu 1400 advmss 1300",
        "203.0.113.0/24 via 10.244.0.1 dev eth0 proto 112 metric 50",
        "default via 10.244.0.1 dev eth0 proto 112",
    ]
    network.check(pod)


def test_a_route_in_another_table_stays_out_of_the_main_one(node: Node) -> None:
    routes = [{"dst": "0.0.0.0/0", "table": 100}]
    network, pod = Runtime(node, conf(ipam=ipam("10.244.0.0/24", routes=routes))), node.pod()
    network.add(pod)
    assert pod.routes() == []
    assert pod.run("ip", "route", "show", "table", "100").stdout.split()[:3] == [
        "default",
        "via",
        "10.244.0.1",
    ]


def test_is_default_gateway_adds_the_default_route(node: Node) -> None:
    bare = ipam("10.244.0.0/24", "2001:db8:244::/64", routes=[])
    network, pod = Runtime(node, conf(isDefaultGateway=True, ipam=bare)), node.pod()
    network.add(pod)
    assert pod.routes() == ["default via 10.244.0.1 dev eth0 proto 112"]
    assert pod.routes(6)[0].startswith("default via 2001:db8:244::1 dev eth0 proto 112")


def test_without_is_gateway_the_bridge_gets_no_address(node: Node) -> None:
    network, pod = Runtime(node, conf(isGateway=None)), node.pod()
    network.add(pod)
    assert node.addresses("cni0") == []


def test_force_address_replaces_the_bridges_address(node: Node) -> None:
    node.configure("link add cni0 type bridge")
    node.configure("addr add 10.244.0.254/24 dev cni0")
    network, pod = Runtime(node, conf(forceAddress=True)), node.pod()
    network.add(pod)
    assert node.addresses("cni0") == ["10.244.0.1/24"]
    assert pod.ping(GATEWAYS[4])


def test_a_bridge_of_ours_without_pods_is_readdressed(node: Node) -> None:
    """podman#12306: the subnet changed, and nobody alive uses the old one."""
    old, pod = Runtime(node, conf()), node.pod()
    old.add(pod)
    old.delete(pod)
    new = Runtime(node, conf(ipam=ipam("10.244.0.0/23")))
    new.add(pod)
    assert node.addresses("cni0") == ["10.244.0.1/23"]


def test_a_bridge_that_is_made_again_has_its_mac_again(node: Node) -> None:
    network, living, later = Runtime(node, conf()), node.pod(), node.pod()
    before = network.add(living)["interfaces"][0]
    node.configure("link del cni0")
    assert network.add(later)["interfaces"][0] == before


def test_bridges_of_two_nodes_differ_in_their_macs(make_node: Callable[[str], Node]) -> None:
    nodes = [make_node("a"), make_node("b")]
    bridges = [Runtime(node, conf()).add(node.pod())["interfaces"][0] for node in nodes]
    assert bridges[0]["mac"] != bridges[1]["mac"]


def test_two_subnets_on_one_bridge_are_fine(node: Node) -> None:
    one = Runtime(node, conf(name="one"))
    other = Runtime(node, conf(name="other", ipam=ipam("10.244.1.0/24")))
    one.add(node.pod())
    other.add(node.pod())
    assert node.addresses("cni0") == ["10.244.0.1/24", "10.244.1.1/24"]


# layer 2, IPv6, VLAN -----------------------------------------------------------------------------


def test_without_ipam_the_interface_is_up_and_bare(node: Node) -> None:
    network, pod = Runtime(node, conf(ipam=None, isGateway=None)), node.pod()
    result = network.add(pod)
    link = pod.link("eth0")
    assert link is not None
    assert "UP" in link["flags"]
    assert pod.addresses("eth0") == []
    assert "ips" not in result
    network.check(pod)


def test_disable_container_interface_leaves_it_down(node: Node) -> None:
    network = Runtime(node, conf(ipam=None, isGateway=None, disableContainerInterface=True))
    pod = node.pod()
    network.add(pod)
    link = pod.link("eth0")
    assert link is not None
    assert "UP" not in link["flags"]
    network.check(pod)


def _ipv6_flags(place: Node | Pod, name: str) -> list[Json]:
    return [
        info
        for link in place.ip("-6", "addr", "show", "dev", name)
        for info in link["addr_info"]
        if info["scope"] == "global"
    ]


@pytest.mark.parametrize("mode", MODES)
def test_ipv6_addresses_skip_duplicate_detection_at_both_ends(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode, (6,))), node.pod()
    result = network.add(pod)
    holder = "cni0" if mode == "bridge" else host_end(result)
    flags = [info.get("nodad") for info in (*_ipv6_flags(node, holder), *_ipv6_flags(pod, "eth0"))]
    assert flags == [True, True]


@pytest.mark.parametrize("mode", MODES)
def test_no_address_is_tentative_when_add_returns(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode, (4, 6))), node.pod()
    network.add(pod)
    for place in (pod, node):
        assert place.run("ip", "-6", "addr", "show", "tentative").stdout == ""


def test_with_enabledad_add_returns_when_detection_is_over(node: Node) -> None:
    network, pod = Runtime(node, conf(versions=(6,), enabledad=True)), node.pod()
    network.add(pod)
    (info,) = _ipv6_flags(pod, "eth0")
    assert "nodad" not in info
    assert "tentative" not in info
    network.check(pod)


def test_with_enabledad_an_address_that_another_host_has_is_refused(
    node: Node, make_node: Callable[[str], Node]
) -> None:
    other = make_node("other")
    node.connect(other, [], ["2001:db8:244::77/64"])
    node.configure("link add cni0 up type bridge")
    node.configure("link set to-other master cni0")
    network, pod = Runtime(node, conf(versions=(6,), enabledad=True)), node.pod()
    with pytest.raises(Failed) as refusal:
        network.add(pod, args="IP=2001:db8:244::77")
    assert refusal.value.code == 102
    assert pod.links() == set()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["accept_ra", "accept_redirects"])
def test_no_link_of_ours_listens_to_routers(node: Node, mode: str, name: str) -> None:
    network, pod = Runtime(node, conf(mode, (4, 6))), node.pod()
    result = network.add(pod)
    links = [(pod, "eth0"), (node, host_end(result))]
    links += [(node, "cni0")] if mode == "bridge" else []
    speaking = {
        link: place.sysctl(f"net/ipv6/conf/{link}/{name}")
        for place, link in links
        if place.sysctl(f"net/ipv6/conf/{link}/disable_ipv6") == "0"
    }
    assert set(speaking.values()) == {"0"}, speaking
    assert (host_end(result) in speaking) == (mode == "ptp")


@pytest.mark.parametrize("mode", MODES)
def test_no_link_of_ours_takes_ipv4_redirects(node: Node, mode: str) -> None:
    """A port of the bridge has no address, so it receives none."""
    network, pod = Runtime(node, conf(mode)), node.pod()
    result = network.add(pod)
    links = [(pod, "eth0"), (node, "cni0" if mode == "bridge" else host_end(result))]
    assert {place.sysctl(f"net/ipv4/conf/{link}/accept_redirects") for place, link in links} == {
        "0"
    }


def test_a_vlan_separates_pods(node: Node) -> None:
    if not need.has_bridge_vlan():
        pytest.skip("this kernel's bridge does not filter VLANs")
    inside = Runtime(node, conf(name="inside", vlan=100, preserveDefaultVlan=False))
    outside = Runtime(node, conf(name="outside", isGateway=None))
    first, second, third = node.pod(), node.pod(), node.pod()
    inside.add(first, args="IP=10.244.0.10")
    inside.add(second, args="IP=10.244.0.11")
    outside.add(third, args="IP=10.244.0.12")
    assert first.ping("10.244.0.11")
    assert not first.ping("10.244.0.12", limit_s=1)
    inside.check(first)


def test_a_vlan_is_refused_clearly_where_the_kernel_has_none(node: Node) -> None:
    if need.has_bridge_vlan():
        pytest.skip("this kernel's bridge filters VLANs")
    with pytest.raises(Failed) as refusal:
        Runtime(node, conf(vlan=100)).add(node.pod())
    answer = refusal.value.reply.json
    assert answer["code"] == 103
    assert "vlan" in f"{answer['msg']} {answer['details']}".lower()


# chains ------------------------------------------------------------------------------------------

PREVIOUS: Json = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "lo-host"},
        {"name": "net0", "mac": "02:00:5e:10:00:02", "sandbox": "/run/netns/elsewhere"},
    ],
    "ips": [{"address": "192.0.2.9/24", "gateway": "192.0.2.1", "interface": 1}],
    "routes": [{"dst": "192.0.2.0/24"}],
    "dns": {"nameservers": ["192.0.2.53"]},
}


def _later_in_a_chain(node: Node, pod: Pod, mode: str, **previous: Any) -> Json:
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "eth0",
    }
    document = conf(mode, prevResult={**PREVIOUS, **previous})
    answer: Json = node.plugin("podwire", env, document).ok().json
    return answer


@pytest.mark.parametrize("mode", MODES)
def test_later_in_a_chain_the_previous_result_comes_first(node: Node, mode: str) -> None:
    result = _later_in_a_chain(node, node.pod(), mode)
    assert result["interfaces"][:2] == PREVIOUS["interfaces"]
    assert result["ips"][0] == PREVIOUS["ips"][0]
    assert result["routes"][0] == PREVIOUS["routes"][0]
    assert result["dns"] == PREVIOUS["dns"]


@pytest.mark.parametrize("mode", MODES)
def test_later_in_a_chain_our_address_points_at_our_interface(node: Node, mode: str) -> None:
    pod = node.pod()
    result = _later_in_a_chain(node, pod, mode)
    interface = result["interfaces"][result["ips"][1]["interface"]]
    assert (interface["name"], interface["sandbox"]) == ("eth0", pod.netns)
    assert pod.addresses("eth0") == [result["ips"][1]["address"]]


def test_the_result_tells_what_the_kernel_has(node: Node) -> None:
    network, pod = Runtime(node, conf(versions=(4, 6))), node.pod()
    result = network.add(pod)
    link, bridge = pod.link("eth0"), node.link("cni0")
    host = node.link(host_end(result))
    assert link is not None
    assert bridge is not None
    assert host is not None
    assert [(one["name"], one["mac"], one["mtu"]) for one in result["interfaces"]] == [
        (one["ifname"], one["address"], one["mtu"]) for one in (bridge, host, link)
    ]
    assert [ip["address"] for ip in result["ips"]] == pod.addresses("eth0")
    assert [address(result, version) for version in (4, 6)] == [
        "10.244.0.2",
        "2001:db8:244::2",
    ]
