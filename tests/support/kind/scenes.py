"""What podwire must do on nodes as kind's: a scene each, on a running cluster of two nodes.

A scene asserts, leaves the nodes as it found them, and returns what it found in a few words.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from tests.support import need
from tests.support import snapshot as snapshots
from tests.support.cluster import ClusterPod, steady
from tests.support.kind.cluster import HUB, HUB_V6, KindCluster, get
from tests.support.kind.kubelet import EXITED
from tests.support.kind.load import Load
from tests.support.kind.node import KindNode
from tests.support.kind.pod import KindPod
from tests.support.kind.release import Release
from tests.support.node import wait_until

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "troubleshooting.md"
LEFTOVERS_LIST = "/etc/cni/net.d/99-leftovers.conflist"
HOST_PORT = 30080
NOTREADY = 1  # PodSandboxState of api.proto
TREES_MAX = 2  # the one that is used, and one that a call under way may still run from
# Different after a pod by their purpose: the address to start from, the runtime's own files, the
# agent's, the results' and configs' caches.
PASSING = (
    r"last_reserved_ip|/.released |/run/(containerd|runc|netns)|/run/podwire/(agent|config|strikes)"
    r"|/var/lib/cni/(cache|results)"
)
DNS = {"servers": ["192.0.2.53"], "searches": ["default.svc.cluster.local"], "options": ["ndots:5"]}


class World(NamedTuple):
    """Two nodes, the version that is on them, another one, and how many upgrades there are. alike:
    the two are of the same code."""

    cluster: KindCluster
    release: Release
    other: Release
    rounds: int
    alike: bool


def install(world: World) -> str:
    """Both nodes get ready by the DaemonSet's pod alone, and not before."""
    cluster = world.cluster
    for node in cluster.nodes:
        assert not list(node.path("/usr/bin").glob("python*"))
        assert node.cri.network_condition()[0] is False
        cluster.load(node, world.release, world.other)
        daemon = cluster.install(node, world.release)
        cluster.wait_ready(node)
        _has_version(node, world.release)
        assert not re.search("level=(warning|error)", daemon.log("agent")), daemon.log("agent")
        names = {path.name for path in node.path("/opt/cni/bin").iterdir()}
        assert {"host-local", "loopback", "podwire", "portmap", "ptp"} <= names
        end(node.start_pod("first"))  # what each scene then finds there, whichever is played
    return f"{len(cluster.nodes)} nodes NetworkReady"


def pods_talk(world: World) -> str:
    """Pods of both nodes, by containerd: addresses, DNS, every way between them, nothing left."""
    a, b = world.cluster.nodes
    with _nothing_left(world.cluster):
        pods = [node.start_pod(name, dnsConfig=DNS) for node in (a, b) for name in ("one", "two")]
        for pod in pods:
            assert len(pod.addresses) == 2, pod.addresses
            seen = pod.exec("ip", "addr", "show", "eth0")[1]
            assert all(f" {address}/" in seen for address in pod.addresses), seen
            assert pod.exec("cat", "/etc/resolv.conf")[1].split() == [
                "search", *DNS["searches"], "nameserver", *DNS["servers"], "options",
                *DNS["options"],
            ]  # fmt: skip
            assert pod.exec("hostname")[1] == f"{pod.name}\n"
        for pod, other in itertools.product(pods, pods):
            assert pod.reaches(*other.addresses), f"{pod.name} to {other.addresses}"
        assert all(pod.reaches(HUB, HUB_V6) for pod in pods)
        end(*pods)
    return f"{len(pods)} pods, {len(pods) ** 2} ways by IPv4 and IPv6, nothing left"


def limits(world: World) -> str:
    """A pod's bandwidth by Kubernetes' annotations."""
    need.shaping()
    node = world.cluster.nodes[0]
    keys = ("kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth")
    pod = node.start_pod("limited", annotations=dict.fromkeys(keys, "8M"))
    shaped = node.run("tc", "qdisc").stdout
    end(pod)
    assert shaped.count("rate 8Mbit") == 2, shaped
    assert "rate 8Mbit" not in node.run("tc", "qdisc").stdout
    return "both ways limited, and taken away"


def host_ports(world: World) -> str:
    """A port of the node leads to a pod, for everybody; a second pod cannot have it."""
    node, neighbour = world.cluster.nodes
    ports = [{"protocol": 0, "containerPort": 8080, "hostPort": HOST_PORT}]
    pod = node.start_pod("serves", portMappings=ports)
    pod.exec("sh", "-c", "echo served >/tmp/index.html; httpd -p 8080 -h /tmp")
    clients = [pod, node.start_pod("near"), neighbour.start_pod("far")]
    places = [one.node.path(one.inside().netns) for one in clients]
    places += [world.cluster.hub.netns, neighbour.netns]
    urls = [f"http://{address}:{HOST_PORT}/" for address in ("192.0.2.1", "[2001:db8:1::1]")]
    for place, url in itertools.product(places, urls):
        assert get(place, url) == (200, "served\n"), (place, url)
    second = node.new_pod("second", portMappings=ports)
    with pytest.raises(grpc.RpcError) as refused:
        second.run_sandbox()
    assert str(HOST_PORT) in refused.value.details(), refused.value.details()
    end(*clients)
    assert all(get(world.cluster.hub.netns, url)[0] == 0 for url in urls)
    return f"{len(urls)} addresses, {len(places)} clients; a second pod is refused"


def full(world: World) -> str:
    """The last address is given. From containerd 2 on the runtime asks by STATUS: the node is
    NotReady and says why, until a pod has gone. The older one leaves it to the next pod to fail."""
    node = world.cluster.nodes[0]
    asked = node.generation >= (2, 0)
    with _reserved(node, [f"10.244.1.{number}" for number in range(2, 254)]):
        assert node.cri.network_condition() == (True, "")
        pod = node.start_pod("last")
        assert pod.addresses[0] == "10.244.1.254"
        ready, told = node.cri.network_condition()
        assert (ready, "no free address" in told) == (not asked, asked), told
        with pytest.raises(grpc.RpcError) as refused:
            node.start_pod("one-too-many")
        assert "no free address" in refused.value.details(), refused.value.details()
        end(pod)
        assert node.cri.network_condition() == (True, "")
    return f"NotReady: {told}" if asked else "no STATUS is asked for; the next pod fails"


def containerd_restarts(world: World) -> str:
    """Pods live on, and no call is made."""
    node, neighbour = world.cluster.nodes
    pod, other = node.start_pod("lives"), neighbour.start_pod("other")
    before = calls(world.cluster, node)
    node.stop_containerd()
    assert other.reaches(*pod.addresses)
    node.start_containerd()
    assert pod.reaches(*other.addresses)
    assert node.cri.network_condition() == (True, "")
    assert calls(world.cluster, node) == before
    end(pod, other)
    return "no call, pods talk meanwhile"


def agent_away(world: World) -> str:
    """Without an agent pods come and go by the tree that was installed: the node has no Python."""
    cluster = world.cluster
    node = cluster.nodes[0]
    with _nothing_left(cluster):
        cluster.daemons.pop(node.name).stop()
        pod, other = node.start_pod("direct"), node.start_pod("kept")
        assert pod.reaches(*other.addresses)
        end(pod)
        cluster.install(node, world.release)
        cluster.wait_ready(node)
        assert other.reaches(HUB, HUB_V6)
        end(other)
    return "started and stopped by direct runs"


def node_reboots(world: World) -> str:
    """Old sandboxes are removed without their namespaces, and their addresses come back."""
    cluster = world.cluster
    node, neighbour = cluster.nodes
    pods = [node.start_pod(f"old-{number}") for number in range(3)]
    addresses = {address for pod in pods for address in pod.addresses}
    daemon = cluster.daemons[node.name].pod
    cluster.reboot(node)
    assert node.cri.network_condition() == (True, ""), "the config list is on the disk"
    assert {pod.status()["state"] for pod in (*pods, daemon)} == {NOTREADY}
    end(pods[0])  # before there is an agent again
    end(daemon)
    cluster.install(node, world.release)
    cluster.wait_ready(node)
    end(*pods[1:])
    held = {path.name for path in node.path("/var/lib/cni/networks/podwire").iterdir()}
    assert not held & addresses
    pod, other = node.start_pod("new"), neighbour.start_pod("other")
    assert pod.reaches(*other.addresses)
    end(pod, other)
    return f"{len(pods)} sandboxes of before, {len(addresses)} addresses free again"


def upgrades(world: World) -> str:
    """There and back under load: nothing fails, nothing is lost, nothing is left."""
    cluster = world.cluster
    one, other = (node.start_pod("steady") for node in cluster.nodes)
    ends = [ClusterPod(pod.inside(), pod.addresses) for pod in (one, other)]
    # Another code may keep its records and rules in other ways; what pods have is the same.
    with _nothing_left(cluster, () if world.alike else ("links", "addresses", "routes")):
        with Load(cluster.nodes) as load, steady(*ends) as traffic:
            for turn in range(world.rounds):
                release = world.release if turn % 2 else world.other
                for node in cluster.nodes:
                    _upgrade(world, node, release, load)
        assert not load.failures, "\n".join(load.failures)
        assert (traffic.lost, traffic.whole) == (0, True), (traffic.sent, traffic.lost)
    end(one, other)
    return (
        f"{world.rounds} times on {len(cluster.nodes)} nodes: {sum(load.pods.values())} pods came "
        f"and went ({load.pods['containerd']} by containerd), 0 failed; {traffic.sent} echoes, 0 "
        f"lost; {traffic.stream[0] / 2**20:.0f} MiB on one TCP connection, all there"
    )


def uninstall(world: World) -> str:
    """With pods that run: they go on and are ended as ever, and then nothing is left."""
    cluster = world.cluster
    pods = [node.start_pod("last") for node in cluster.nodes]
    removers = [cluster.uninstall(node, world.release) for node in cluster.nodes]
    for remover in removers:
        waits = "it waits for the pods"
        wait_until(lambda r=remover: r.log("uninstall"), waits, 30)  # type: ignore[misc]
        assert remover.state("uninstall")["state"] != EXITED, remover.log("uninstall")
    for pod, other in itertools.product(pods, pods):
        assert pod.reaches(*other.addresses)
    for pod in pods:
        pod.stop()
    said: list[str] = []
    for remover, node in zip(removers, cluster.nodes, strict=True):
        remover.go_on()
        _nothing_of_ours(cluster, node)
        remover.stop()
        said.append(cluster.verify_uninstalled(node, world.release))
    assert len(set(said)) == 1, said
    for pod, node in zip(pods, cluster.nodes, strict=True):
        _removed_by_another_list(pod, node)
    return f"{len(pods)} pods went on and were ended; --verify: {said[0].splitlines()[-1]}"


def _removed_by_another_list(pod: KindPod, node: KindNode) -> None:
    """The remedy of docs/troubleshooting.md for what has stopped and is still there."""
    with pytest.raises(grpc.RpcError, match="cni plugin not initialized"):
        pod.remove()
    node.path(LEFTOVERS_LIST).write_text(_of_the_docs())
    wait_until(lambda: node.cri.network_condition()[0], "the runtime has a network")
    pod.remove()
    node.path(LEFTOVERS_LIST).unlink()


def _of_the_docs() -> str:
    after = DOCUMENT.read_text().partition(f"sudo tee {LEFTOVERS_LIST} <<'END'\n")[2]
    assert after, "the document has no such command"
    return after.partition("\nEND\n")[0]


def _nothing_of_ours(cluster: KindCluster, node: KindNode) -> None:
    """By other eyes than podwire's."""
    wait_until(lambda: not node.cri.network_condition()[0], "the runtime has no network")
    assert node.links() == {"eth0"}
    assert node.run("nft", "list", "tables").stdout == ""
    routes = "".join(node.run("ip", version, "route").stdout for version in ("-4", "-6"))
    assert "proto 11" not in routes, routes
    names = {path.name for path in node.path("/opt/cni/bin").iterdir()}
    assert names == {"host-local", "loopback", "portmap", "ptp"}
    for folder in ("/opt/podwire", "/etc/cni/net.d", "/run/podwire", "/var/lib/podwire"):
        left = list(node.path(folder).rglob("*")) if node.path(folder).exists() else []
        assert left == [], left
    told = cluster.api.do("annotations", node.name)
    assert not [key for key in told if key.startswith("podwire.io/")], told


def _upgrade(world: World, node: KindNode, release: Release, load: Load) -> None:
    """One node's. For a while the first node has new launchers and the old agent, the other one the
    old launchers and the new agent."""
    first = node is world.cluster.nodes[0]
    if first:
        world.cluster.install_only(node, release)
        load.go_on()
    world.cluster.replace(node, release, install=False)
    load.go_on()
    if not first:
        world.cluster.install_only(node, release)
        load.go_on()
    _has_version(node, release)
    trees = list(node.path("/opt/podwire/versions").iterdir())
    assert len(trees) <= TREES_MAX, trees


SCENES: tuple[Callable[[World], str], ...] = (
    pods_talk, limits, host_ports, full, containerd_restarts, agent_away, node_reboots, upgrades,
    uninstall,
)  # fmt: skip


def calls(cluster: KindCluster, node: KindNode) -> int:
    """How many the agent has served."""
    return cluster.daemons[node.name].log("agent").count("message=call")


def end(*pods: KindPod) -> None:
    """As kubelet ends them."""
    for pod in pods:
        pod.stop()
        pod.remove()


@contextlib.contextmanager
def _reserved(node: KindNode, addresses: Sequence[str]) -> Iterator[None]:
    """By somebody else, who writes them as host-local does."""
    files = [node.path("/var/lib/cni/networks/podwire") / address for address in addresses]
    for file in files:
        file.write_text("somebody-else\r\neth0")
    try:
        yield
    finally:
        for file in files:
            file.unlink()


def _has_version(node: KindNode, release: Release) -> None:
    said = node.run("/opt/cni/bin/podwire", "--version").stdout
    assert said == f"podwire {release.version}\n", said


@contextlib.contextmanager
def _nothing_left(cluster: KindCluster, sections: Sequence[str] = ()) -> Iterator[None]:
    """What could have been left on the nodes is compared. sections: these alone."""

    def take(node: KindNode) -> snapshots.Snapshot:
        found = snapshots.take(node).without(PASSING)
        return found.only(*sections) if sections else found

    before = [take(node) for node in cluster.nodes]
    yield
    for node, old in zip(cluster.nodes, before, strict=True):
        left = old.diff(take(node))
        assert left == [], f"{node.name}: {left}"
