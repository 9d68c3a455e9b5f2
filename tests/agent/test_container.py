"""The agent in the container that the manifest asks for: it can do all it has to, and each of its
capabilities is needed for something."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cni_plugin.cni.errors import KernelRefused
from cni_plugin.kernel.sysctl import OF_NODE
from tests.agent.conftest import Call
from tests.netns.kit import GATEWAY4, MODES, POD4, POD6, conf, host_end, left
from tests.support import need
from tests.support.container import Container
from tests.support.manifest import capabilities, config_map, container_of, daemonset
from tests.support.node import Node, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
Run = Callable[..., Any]
SPEC = daemonset()
CONFIG = {"metrics": "off", "log": {"level": "debug"}}
PEERS = "/var/lib/podwire/peers.yaml"
LIMITS = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000,
          "egressBurst": 800_000}  # fmt: skip


@pytest.fixture
def contained(node: Node, tmp_path: Path) -> Callable[..., Any]:
    """The container on `node`, `without` capabilities; other keywords are of its config."""
    need.real_root()
    # As systemd leaves it: what is mounted on the node comes to the containers that ask for it.
    node.run("mount", "--make-rshared", "/run")

    @contextmanager
    def run(without: tuple[str, ...] = (), spec: Any = SPEC, **more: Any) -> Iterator[Container]:
        files = {**config_map(), "agent.yaml": yaml.safe_dump({**CONFIG, **more})}
        with Container(node, tmp_path, spec, {"config": files}, without=without) as made:
            yield made.serves()

    return run


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
        wait_until(lambda: "verb=DEL outcome=done" in agent.log(), "it served the calls")
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


def test_the_contained_agent_writes_the_config_list_of_the_manifest(
    node: Node, make_node: Callable[[str], Node], contained: Run
) -> None:
    _two_nodes(node, make_node)
    cluster = yaml.safe_load(config_map()["agent.yaml"])["cluster"]
    assert cluster["source"] == {"kubernetes": {}}
    with contained(cluster={**cluster, "node": "a", "source": {"file": PEERS}}):
        written = node.path("/etc/cni/net.d/10-podwire.conflist")
        wait_until(written.exists, "the config list is there", 20)
    plugin = json.loads(written.read_text())["plugins"][0]
    assert plugin["mode"] == "ptp"
    assert plugin["ipam"]["ranges"] == [[{"subnet": POD4}], [{"subnet": POD6}]]


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
    _drop(node, flavour)
    with contained():
        call("ADD", node.pod(), conf()).ok()
    assert _accepted(node, flavour)


def _drop(node: Node, flavour: str) -> None:
    need.tool(f"iptables-{flavour}", "iptables")
    node.run(f"iptables-{flavour}", "-P", "FORWARD", "DROP")


def _accepted(node: Node, flavour: str) -> bool:
    rules = node.run(f"iptables-{flavour}", "-S", "PODWIRE-FORWARD", check=False).stdout
    return f"-A PODWIRE-FORWARD -s {POD4} -j ACCEPT" in rules


@pytest.mark.parametrize("capability", capabilities(SPEC))
def test_each_capability_is_needed(node: Node, contained: Run, call: Call, capability: str) -> None:
    _drop(node, "legacy")
    with contained(without=(capability,)):
        reply = call("ADD", node.pod(), conf())
    if reply.code is None:  # what it could not ask it takes for accepted: the pod is cut off
        assert not _accepted(node, "legacy"), f"nothing fails without {capability}"
    else:
        assert "permitted" in json.dumps(reply.json).lower(), reply.json


def test_the_nodes_settings_are_needed_and_the_remedy_is_told(
    node: Node, contained: Run, call: Call
) -> None:
    spec = copy.deepcopy(SPEC)
    mounts = container_of(spec)["volumeMounts"]
    mounts[:] = [one for one in mounts if one["mountPath"] != OF_NODE]
    with contained(spec=spec):
        refused = call("ADD", node.pod(), conf())
    assert refused.code == KernelRefused.code
    assert OF_NODE in refused.json["details"]
