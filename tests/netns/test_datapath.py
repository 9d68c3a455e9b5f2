"""Packets between pods, node and outside, in both modes and for each mix of IP versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.kit import (
    ANY,
    GATEWAYS,
    MODES,
    SUBNETS,
    Json,
    address,
    conf,
    ipam,
    listening,
    seen_as,
)
from tests.support import need
from tests.support.node import Node, Pod, open_node
from tests.support.runtime import Runtime

NODE = {4: "192.0.2.1", 6: "2001:db8:1::1"}  # the node's address on the cable to the outside
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
KEPT = {4: "198.51.100.1", 6: "2001:db8:2::1"}  # in nonMasqueradeCIDRs
KEPT_CIDRS = ["198.51.100.0/24", "2001:db8:2::/64"]
LENGTH = {4: 24, 6: 64}


@dataclass
class Site:
    """A node with two pods, cabled to an outside that knows nothing of pods."""

    node: Node
    outside: Node
    network: Runtime
    pods: tuple[Pod, Pod]
    results: tuple[Json, Json]


@pytest.fixture(scope="module", params=MODES)
def site(request: pytest.FixtureRequest, cni_bin: Path, sandbox_unchanged: None) -> Iterator[Site]:
    with ExitStack() as nodes:
        node = nodes.enter_context(open_node("node", cni_bin))
        outside = nodes.enter_context(open_node("outside", cni_bin))
        node.connect(
            outside,
            [f"{NODE[v]}/{LENGTH[v]}" for v in (4, 6)],
            [f"{OUTSIDE[v]}/{LENGTH[v]}" for v in (4, 6)],
        )
        for version in (4, 6):
            node.configure(f"-{version} route add default via {OUTSIDE[version]}")
            outside.run("ip", "addr", "add", f"{KEPT[version]}/{LENGTH[version]}", "dev", "lo")
        network = Runtime(
            node, conf(request.param, (4, 6), ipMasq=True, nonMasqueradeCIDRs=KEPT_CIDRS)
        )
        first, second = node.pod(), node.pod()
        results = (network.add(first), network.add(second))
        nodes.enter_context(listening(outside))
        nodes.enter_context(listening(second))
        yield Site(node, outside, network, (first, second), results)


@pytest.mark.parametrize("version", [4, 6])
class TestDualStack:
    def test_a_pod_reaches_another_and_is_seen_as_itself(self, site: Site, version: int) -> None:
        own, other = (address(result, version) for result in site.results)
        assert seen_as(site.pods[0], other) == own

    def test_a_pod_reaches_its_gateway(self, site: Site, version: int) -> None:
        assert site.pods[0].ping(GATEWAYS[version])

    def test_a_pod_reaches_the_nodes_own_address(self, site: Site, version: int) -> None:
        assert site.pods[0].ping(NODE[version])

    def test_the_node_reaches_a_pod(self, site: Site, version: int) -> None:
        assert site.node.ping(address(site.results[0], version))

    def test_the_outside_sees_the_nodes_address(self, site: Site, version: int) -> None:
        assert seen_as(site.pods[0], OUTSIDE[version]) == NODE[version]

    def test_a_non_masqueraded_destination_sees_the_pods_address(
        self, site: Site, version: int
    ) -> None:
        back = f"-{version} route add {SUBNETS[version]} via {NODE[version]}"
        site.outside.configure(back)
        try:
            assert seen_as(site.pods[0], KEPT[version]) == address(site.results[0], version)
        finally:
            site.outside.configure(back.replace(" add ", " del "))

    def test_without_a_route_back_a_non_masqueraded_destination_is_not_reached(
        self, site: Site, version: int
    ) -> None:
        assert seen_as(site.pods[0], KEPT[version], limit_s=0.5) == ""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", [4, 6])
def test_one_ip_version_is_enough(node: Node, mode: str, version: int) -> None:
    network = Runtime(node, conf(mode, (version,)))
    first, second = node.pod(), node.pod()
    network.add(first)
    target = address(network.add(second), version)
    assert first.ping(target)
    assert first.ping(GATEWAYS[version])
    assert node.ping(target)


@pytest.mark.parametrize("version", [4, 6])
def test_ptp_needs_no_gateway_in_the_pods_subnet(node: Node, version: int) -> None:
    """host-local gives every range a gateway; a foreign IPAM plugin may not."""
    need.reference_plugin("static")
    network = Runtime(
        node, conf("ptp", (version,), cniVersion="1.0.0", ipam=_without_gateway(version))
    )
    first, second = node.pod(), node.pod()
    own = address(network.add(first, args=f"IP={_static(version, 7)}"), version)
    other = address(network.add(second, args=f"IP={_static(version, 8)}"), version)
    node.run("sysctl", "-w", "net.ipv4.ip_forward=1")
    with listening(second):
        assert seen_as(first, other) == own


def _static(version: int, last: int) -> str:
    return {4: f"10.244.0.{last}/24", 6: f"2001:db8:244::{last}/64"}[version]


def _without_gateway(version: int) -> Json:
    return {"type": "static", "routes": [{"dst": ANY[version]}]}


# hairpin -----------------------------------------------------------------------------------------

SERVICE = "198.51.100.80"


def _serve_by_nat(node: Node, target: str) -> None:
    """A Service as kube-proxy makes one: DNAT for its address, and SNAT for a pod's call of
    itself."""
    node.run(
        "nft",
        "-f",
        "-",
        stdin=f"""
table ip service {{
    chain prerouting {{
        type nat hook prerouting priority -100;
        ip daddr {SERVICE} tcp dport 80 dnat to {target}:8080
    }}
    chain postrouting {{
        type nat hook postrouting priority 90;
        ip saddr {target} ip daddr {target} masquerade
    }}
}}""",
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_reaches_itself_through_a_service(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode)), node.pod()
    _serve_by_nat(node, address(network.add(pod)))
    with listening(pod):
        assert seen_as(pod, SERVICE, 80) == GATEWAYS[4]


def test_without_hairpin_mode_a_pod_does_not_reach_itself(node: Node) -> None:
    network, pod = Runtime(node, conf(hairpinMode=False)), node.pod()
    _serve_by_nat(node, address(network.add(pod)))
    with listening(pod):
        assert seen_as(pod, SERVICE, 80, limit_s=0.5) == ""


# bridge switches ---------------------------------------------------------------------------------


def test_isolated_ports_reach_the_gateway_but_not_each_other(node: Node) -> None:
    network = Runtime(node, conf(portIsolation=True))
    first, second = node.pod(), node.pod()
    network.add(first)
    target = address(network.add(second))
    assert first.ping(GATEWAYS[4])
    assert second.ping(GATEWAYS[4])
    assert not first.ping(target, limit_s=1)


def test_promisc_mode_turns_the_bridge_promiscuous_and_hairpin_off(node: Node) -> None:
    network, pod = Runtime(node, conf(promiscMode=True)), node.pod()
    result = network.add(pod)
    bridge, port = node.link("cni0"), node.link(result["interfaces"][1]["name"])
    assert bridge is not None
    assert port is not None
    assert "PROMISC" in bridge["flags"]
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is False
    network.check(pod)


@pytest.mark.parametrize("mode", MODES)
def test_two_networks_of_one_container_live_side_by_side(node: Node, mode: str) -> None:
    """The host's links have different names though container id and ifname differ by little."""
    one = Runtime(node, conf(mode, name="one", bridge="br-one"))
    other = Runtime(
        node,
        conf(
            mode,
            name="other",
            bridge="br-other",
            ipam={"type": "podwire-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]},
        ),
    )
    pod = node.pod()
    one.add(pod, "eth0")
    other.add(pod, "net1")
    assert pod.ping("10.244.0.1")
    assert pod.ping("10.244.1.1")
    one.delete(pod, "eth0")
    assert pod.links() == {"net1"}
    other.check(pod, "net1")
    assert pod.ping("10.244.1.1")


def test_one_container_id_with_one_ifname_in_two_networks_does_not_clash(node: Node) -> None:
    """Two sandboxes whose runtimes use the same ids: only the network's name tells them apart."""
    first, second = node.pod("sandbox"), node.pod("sandbox")
    one = Runtime(node, conf(name="one"))
    other = Runtime(
        node,
        conf(
            name="other",
            bridge="cni1",
            ipam={**conf()["ipam"], "ranges": [[{"subnet": "10.244.1.0/24"}]]},
        ),
    )
    names = {one.add(first)["interfaces"][1]["name"], other.add(second)["interfaces"][1]["name"]}
    assert len(names) == 2
    one.delete(first)
    other.check(second)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_interface_keeps_the_default_route(node: Node, mode: str) -> None:
    """As with the reference plugins: a second network with the same route is no error."""
    one = Runtime(node, conf(mode, (4, 6), name="one"))
    subnets = ("10.244.1.0/24", "2001:db8:245::/64")
    other = Runtime(node, conf(mode, name="other", bridge="cni1", ipam=ipam(*subnets)))
    pod = node.pod()
    one.add(pod, "eth0")
    other.add(pod, "net1")
    for version in (4, 6):
        (default,) = [line for line in pod.routes(version) if line.startswith("default")]
        assert f"via {GATEWAYS[version]} dev eth0" in default
    one.check(pod, "eth0")
    other.check(pod, "net1")
