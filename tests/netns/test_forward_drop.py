"""iptables' FORWARD policy is DROP (Docker): pods still reach the outside, by accepts of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.netns.kit import MODES, address, conf, listening, seen_as
from tests.support import need
from tests.support.node import Node
from tests.support.runtime import Failed, Runtime

PROGRAM = {4: "iptables", 6: "ip6tables"}
NODE = {4: "192.0.2.11/24", 6: "2001:db8:1::11/64"}
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
CHAIN = "PODWIRE-FORWARD"


@dataclass
class Dropping:
    """A node that forwards nothing by policy, and an outside that listens."""

    node: Node
    version: int
    iptables: str
    mode: str

    def network(self) -> Runtime:
        return Runtime(self.node, conf(self.mode, (self.version,), ipMasq=True))

    def rules(self, chain: str) -> list[str]:
        done = self.node.run(self.iptables, "-S", chain, check=False)
        return done.stdout.splitlines()


@pytest.fixture(params=["nft", "legacy"])
def dropping(
    request: pytest.FixtureRequest,
    node: Node,
    make_node: Callable[[str], Node],
    version: int,
    mode: str,
) -> Iterator[Dropping]:
    command = f"{PROGRAM[version]}-{request.param}"
    need.tool(command, "iptables")
    if node.run(command, "-S", check=False).returncode:
        pytest.skip(f"this kernel has no tables for {command}")
    outside = make_node("outside")
    node.connect(outside, [NODE[version]], [f"{OUTSIDE[version]}/{NODE[version].split('/')[1]}"])
    node.configure(f"-{version} route add default via {OUTSIDE[version]}")
    node.run(command, "-P", "FORWARD", "DROP")
    with listening(outside):
        yield Dropping(node, version, command, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", [4, 6])
def test_a_pod_reaches_the_outside_through_our_accept_only(dropping: Dropping) -> None:
    pod = dropping.node.pod()
    dropping.network().add(pod)
    target, own = OUTSIDE[dropping.version], NODE[dropping.version].split("/")[0]
    assert seen_as(pod, target) == own
    dropping.node.run(dropping.iptables, "-D", "FORWARD", "-j", CHAIN)
    assert seen_as(pod, target, limit_s=0.5) == ""


@pytest.mark.parametrize(("mode", "version"), [("bridge", 4)])
class TestRules:
    def test_a_second_pod_adds_no_second_rule(self, dropping: Dropping) -> None:
        network = dropping.network()
        network.add(dropping.node.pod())
        once = (dropping.rules("FORWARD"), dropping.rules(CHAIN))
        network.add(dropping.node.pod())
        assert (dropping.rules("FORWARD"), dropping.rules(CHAIN)) == once

    def test_the_rules_are_these(self, dropping: Dropping) -> None:
        dropping.network().add(dropping.node.pod())
        assert dropping.rules("FORWARD") == ["-P FORWARD DROP", f"-A FORWARD -j {CHAIN}"]
        assert dropping.rules(CHAIN) == [
            f"-N {CHAIN}",
            f"-A {CHAIN} -s 10.244.0.0/24 -j ACCEPT",
            f"-A {CHAIN} -d 10.244.0.0/24 -j ACCEPT",
        ]

    def test_check_misses_a_removed_accept(self, dropping: Dropping) -> None:
        network, pod = dropping.network(), dropping.node.pod()
        network.add(pod)
        network.check(pod)
        dropping.node.run(dropping.iptables, "-F", CHAIN)
        with pytest.raises(Failed) as failure:
            network.check(pod)
        assert f"{CHAIN} -s 10.244.0.0/24 -j ACCEPT" in failure.value.reply.json["msg"]

    def test_the_next_add_heals_a_removed_accept(self, dropping: Dropping) -> None:
        network, pod = dropping.network(), dropping.node.pod()
        network.add(pod)
        dropping.node.run(dropping.iptables, "-F")
        network.add(dropping.node.pod())
        network.check(pod)

    def test_a_foreign_rule_keeps_its_place_and_content(self, dropping: Dropping) -> None:
        rule = ["-s", "198.51.100.0/24", "-j", "ACCEPT"]
        dropping.node.run(dropping.iptables, "-A", "FORWARD", *rule)
        network, pod = dropping.network(), dropping.node.pod()
        network.add(pod)
        network.delete(pod)
        assert f"-A FORWARD {' '.join(rule)}" in dropping.rules("FORWARD")
        assert dropping.rules("FORWARD")[0] == "-P FORWARD DROP"

    def test_pods_of_one_node_reach_each_other(self, dropping: Dropping) -> None:
        """With bridge netfilter on, bridged packets pass FORWARD too."""
        network, first, second = dropping.network(), dropping.node.pod(), dropping.node.pod()
        network.add(first)
        assert first.ping(address(network.add(second)))


def test_where_forward_accepts_no_rule_is_made(node: Node) -> None:
    need.tool("iptables-nft", "iptables")
    node.run("iptables-nft", "-P", "FORWARD", "ACCEPT")
    Runtime(node, conf(ipMasq=True)).add(node.pod())
    assert CHAIN not in node.run("iptables-nft", "-S").stdout
