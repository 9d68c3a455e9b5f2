"""The agent in the container that the manifest asks for: it can do all it has to, and each of its
capabilities is needed for something."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import Call
from tests.netns.kit import GATEWAY4, MODES, POD4, POD6, address, conf, host_end, left
from tests.support import need
from tests.support.container import Container, capabilities, daemonset
from tests.support.node import Node, Pod, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
Run = Callable[..., Any]
SPEC = daemonset()
CONFIG = {"metrics": "off", "log": {"level": "debug"}}
PEERS = "/var/lib/podwire/peers.yaml"
LIMITS = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000,
          "egressBurst": 800_000}  # fmt: skip
# What the node keeps of a container: volumes' folders, runc's own, an agent's lock and socket.
KEPT = r"^files (/run/(podwire|runc-\w+|netns|xtables.lock)|/etc/cni|/var/lib)\b"


@pytest.fixture
def contained(node: Node, tmp_path: Path) -> Callable[..., Any]:
    """The container on `node`; keywords are of its config, `without` capabilities."""
    need.real_root()
    # As systemd leaves it: what is mounted on the node comes to the containers that ask for it.
    node.run("mount", "--make-rshared", "/run")

    @contextmanager
    def run(without: tuple[str, ...] = (), **more: Any) -> Iterator[Container]:
        with Container(node, tmp_path, SPEC, {**CONFIG, **more}, without) as made:
            yield made.serves()

    return run


def _pairs(node: Node) -> set[str]:
    return {name for name in node.links() if name.startswith("pw")}


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_lives_through_the_contained_agent(
    node: Node, contained: Run, call: Call, snapshot: Snap, mode: str
) -> None:
    need.shaping()
    document = conf(mode, (4, 6), ipMasq=True, sysctl={"net.core.somaxconn": "1024"}, **LIMITS)
    with contained() as agent:
        before, pod = snapshot(), node.pod()
        result = call("ADD", pod, document).ok().json
        assert pod.ping(GATEWAY4)
        assert node.sysctl("net/ipv4/ip_forward") == "1"
        with_result = {**document, "prevResult": result}
        call("CHECK", pod, with_result).ok()
        call("DEL", pod, with_result).ok()
        assert left(before, snapshot()) == []
        told = agent.log()
    assert "message=call verb=ADD outcome=done" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("mode", MODES)
def test_the_contained_agent_repairs(node: Node, contained: Run, call: Call, mode: str) -> None:
    document = conf(mode, (4,), ipMasq=True)
    with contained():
        pod = node.pod()  # made after the agent: its namespace comes by mount propagation
        result = call("ADD", pod, document).ok().json
        for damage in (f"link del {host_end(result)}", f"link set {host_end(result)} down"):
            node.configure(damage)
            wait_until(lambda: pod.ping(GATEWAY4, limit_s=1), f"after `ip {damage}`", 20)
        node.run("nft", "flush", "ruleset")
        with_result = {**document, "prevResult": result}
        wait_until(lambda: call("CHECK", pod, with_result).returncode == 0, "after a flush", 20)


@pytest.mark.parametrize("backend", ["host-gw", "vxlan"])
def test_the_contained_agent_makes_the_ways_to_other_nodes(
    node: Node, make_node: Callable[[str], Node], contained: Run, backend: str
) -> None:
    need.link_kind("vxlan")
    _two_nodes(node, make_node)
    with contained(cluster={"node": "a", "source": {"file": PEERS}, "backend": backend}):
        wait_until(lambda: len(node.ip("route", "show", "proto", "113")) == 1, "a way to b", 20)
        wait_until(lambda: len(node.ip("-6", "route", "show", "proto", "113")) == 1, "IPv6", 20)
        tunnels = [name for name in node.links() if name.startswith("podwire")]
        assert bool(tunnels) == (backend == "vxlan")
        for name in tunnels:
            assert node.sysctl(f"net/ipv4/conf/{name}/rp_filter") == "2"


def _two_nodes(node: Node, make_node: Callable[[str], Node]) -> None:
    other = make_node("b")
    node.connect(other, ["192.0.2.1/24", "2001:db8:1::1/64"], ["192.0.2.2/24", "2001:db8:1::2/64"])
    nodes = [
        {"name": "a", "podCIDRs": [POD4, POD6], "addresses": ["192.0.2.1", "2001:db8:1::1"]},
        {
            "name": "b",
            "podCIDRs": ["10.244.1.0/24", "2001:db8:244:1::/64"],
            "addresses": ["192.0.2.2", "2001:db8:1::2"],
        },
    ]
    node.run("mkdir", "-p", "/var/lib/podwire")
    node.path(PEERS).write_text(json.dumps({"nodes": nodes}))


@pytest.mark.parametrize("flavour", ["legacy", "nft"])
def test_the_contained_agent_accepts_what_iptables_drops(
    node: Node, contained: Run, call: Call, flavour: str
) -> None:
    need.tool(f"iptables-{flavour}", "iptables")
    _drop(node, flavour)
    with contained():
        call("ADD", node.pod(), conf()).ok()
    rules = node.run(f"iptables-{flavour}", "-S", "PODWIRE-FORWARD").stdout
    assert f"-A PODWIRE-FORWARD -s {POD4} -j ACCEPT" in rules


def _drop(node: Node, flavour: str) -> None:
    node.run(f"iptables-{flavour}", "-P", "FORWARD", "DROP")


@pytest.mark.parametrize("capability", capabilities(SPEC))
def test_each_capability_is_needed(
    node: Node, contained: Run, call: Call, capability: str
) -> None:
    need.tool("iptables-legacy", "iptables")
    _drop(node, "legacy")
    with contained(without=(capability,)):
        refused = call("ADD", node.pod(), conf())
    assert refused.code is not None, f"an ADD succeeds without {capability}"
    assert "permitted" in json.dumps(refused.json).lower(), refused.json


def test_without_the_nodes_settings_the_reason_and_the_remedy_are_told(
    node: Node, contained: Run, call: Call
) -> None:
    """So the mount is needed too."""
