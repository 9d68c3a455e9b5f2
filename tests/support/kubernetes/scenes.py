"""podwire on a cluster of the real Kubernetes, by its manifests and kubectl as the docs say.

A scene asserts and returns what it found in a few words. They are played in this order: the last
one takes podwire off again.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.cluster import ClusterPod, steady
from tests.support.kind.cluster import get as fetch
from tests.support.kind.pod import Inside
from tests.support.kind.release import ROOT, Release
from tests.support.kubernetes.cluster import KubeCluster
from tests.support.kubernetes.node import KubeNode
from tests.support.node import wait_until

MANIFEST, UNINSTALL = "manifests/podwire.yaml", "manifests/uninstall.yaml"
PODS = ROOT / "tests" / "support" / "kubernetes" / "pods.yaml"
PAUSE = "registry.k8s.io/pause:3.10"  # of uninstall.yaml
PORT, HOST_PORT, NODE_PORT = 8080, 8088, 30080
CROWD = 30
Object = dict[str, Any]


class World(NamedTuple):
    """Two nodes of a new cluster. release: what the manifest names; other: the next version."""

    cluster: KubeCluster
    release: Release
    other: Release


def install(world: World) -> str:
    """`kubectl apply`, and the nodes get ready by that alone."""
    cluster = world.cluster
    assert not any(_is_ready(node) for node in cluster.get("nodes"))
    cluster.kubectl("apply", "-f", MANIFEST)
    _rolled_out(cluster, "podwire")
    wait_until(lambda: all(map(_is_ready, cluster.get("nodes"))), "both nodes are Ready", 30)
    for pod in _agents(cluster):
        log = cluster.kubectl("-n", "podwire", "logs", _name(pod))
        assert not re.search("level=(warning|error)", log), log
    for node in cluster.get("nodes"):
        assert node["metadata"]["annotations"]["podwire.io/backend"] == "auto"
    told = json.loads(cluster.kubectl("version", "-o", "json"))
    return f"by Kubernetes {told['serverVersion']['gitVersion']}"


def rights(world: World) -> str:
    """The agent's account may do what it does, and nothing more."""
    whose = "--as=system:serviceaccount:podwire:podwire"
    asked = [
        (verb, what)
        for verb in ("get", "list", "watch", "create", "patch", "update", "delete")
        for what in ("nodes", "nodes/status", "pods", "secrets", "configmaps")
    ]
    may = {
        (verb, what)
        for verb, what in asked
        if world.cluster.kubectl("auth", "can-i", verb, *what.partition("/")[::2][:1],
                                 *([f"--subresource={what.partition('/')[2]}"] * ("/" in what)),
                                 "--all-namespaces", whose, check=False).startswith("yes")
    }  # fmt: skip
    assert may == {*((verb, "nodes") for verb in ("get", "list", "watch")),
                   ("patch", "nodes/status")}, may  # fmt: skip
    return f"{len(may)} of {len(asked)} asked for"


def pods_talk(world: World) -> str:
    """Each client to each server, on its node and across; kubelet's probes pass."""
    cluster = world.cluster
    cluster.kubectl("apply", "-f", str(PODS))
    _rolled_out(cluster, "web", "default")
    _rolled_out(cluster, "client", "default")
    ways = list(itertools.product(_pods(cluster, "client"), _pods(cluster, "web")))
    for client, server in ways:
        assert _asked(cluster, client, _address(server), PORT) == _name(server)
        ping = ("ping", "-c", "1", "-W", "2", _address(server))
        cluster.kubectl("exec", _name(client), "--", *ping)
    return f"{len(ways)} ways"


def services(world: World) -> str:
    """By kube-proxy and podwire's hostPorts: from pods, from the nodes, from outside."""
    cluster = world.cluster
    servers = {_name(pod): pod for pod in _pods(cluster, "web")}
    service = next(one for one in cluster.get("services") if _name(one) == "web")
    address = service["spec"]["clusterIP"]
    for client in _pods(cluster, "client"):
        reached: set[str] = set()
        wait_until(
            lambda client=client, reached=reached: (  # type: ignore[misc]
                reached.add(_asked(cluster, client, address, 80)) or reached == servers.keys()
            ),
            f"{_name(client)} is served by both", 20,
        )  # fmt: skip
        for node in cluster.nodes:
            assert _asked(cluster, client, cluster.address(node), NODE_PORT) in servers
    for node in cluster.nodes:
        url = f"http://{cluster.address(node)}"
        here = next(name for name, pod in servers.items() if _node(pod) == node.name)
        for place in (cluster.hub.netns, *(one.netns for one in cluster.nodes)):
            assert fetch(place, f"{url}:{HOST_PORT}/") == (200, f"{here}\n"), (place, url)
            assert fetch(place, f"{url}:{NODE_PORT}/")[0] == 200, (place, url)
    return "ClusterIP, NodePort and hostPort"


def upgrade(world: World) -> str:
    """A rolling update by the DaemonSet's controller while a crowd of pods comes and goes and two
    others talk: nothing fails, nothing is lost."""
    cluster = world.cluster
    ends = [ClusterPod(_inside(cluster, pod), [_address(pod)]) for pod in _pods(cluster, "web")]
    came = 0
    with steady(*ends) as traffic:
        for release in (world.other, world.release):
            image = release.image
            cluster.kubectl("-n", "podwire", "set", "image", "daemonset/podwire",
                            f"agent={image}", f"install={image}")  # fmt: skip
            while not _is_updated(cluster):
                came += _crowd_comes_and_goes(cluster)
            for node in cluster.nodes:
                said = node.run("/opt/cni/bin/podwire", "--version").stdout
                assert said == f"podwire {release.version}\n"
    assert (traffic.lost, traffic.whole) == (0, True), (traffic.sent, traffic.lost)
    failed = [
        event["message"]
        for event in cluster.get("events")
        if event["reason"] in {"FailedCreatePodSandBox", "FailedKillPod"}
    ]
    assert not failed, failed
    return f"there and back: {came} pods came and went, 0 failed; {traffic.sent} echoes, 0 lost"


def uninstall(world: World) -> str:
    """In the order of docs/install.md: pods go on until they are deleted; then nothing is left."""
    cluster = world.cluster
    for node in cluster.nodes:
        node.tag_shell(PAUSE)
    cluster.kubectl("-n", "podwire", "delete", "daemonset", "podwire")
    cluster.kubectl("apply", "-f", UNINSTALL)
    client, server = _pods(cluster, "client")[0], _pods(cluster, "web")[-1]
    wait_until(lambda: len(_removers(cluster)) == len(cluster.nodes), "both are begun", 30)
    assert _asked(cluster, client, _address(server), PORT) == _name(server)
    cluster.kubectl("delete", "-f", str(PODS), "--wait")
    wait_until(lambda: not cluster.get("pods"), "all pods are gone", 60)
    _rolled_out(cluster, "podwire-uninstall")
    annotations = [node["metadata"]["annotations"] for node in cluster.get("nodes")]
    assert not [key for one in annotations for key in one if key.startswith("podwire.io/")]
    cluster.kubectl("delete", "--ignore-not-found", "-f", UNINSTALL, "-f", MANIFEST)
    for node in cluster.nodes:
        _nothing_of_ours(node)
    wait_until(lambda: not any(map(_is_ready, cluster.get("nodes"))), "no network is left", 60)
    return "pods went on and were deleted; nothing is left"


SCENES: tuple[Callable[[World], str], ...] = (
    install, rights, pods_talk, services, upgrade, uninstall,
)  # fmt: skip


def _nothing_of_ours(node: KubeNode) -> None:
    assert node.links() == {"eth0"}
    assert "podwire" not in node.run("nft", "list", "tables").stdout
    routes = node.run("ip", "route").stdout
    assert "proto 11" not in routes, routes
    assert not {path.name for path in node.path("/opt/cni/bin").iterdir()} & {
        "podwire", "podwire-ipam",
    }  # fmt: skip
    for folder in ("/opt/podwire", "/etc/cni/net.d", "/run/podwire", "/var/lib/podwire"):
        assert not list(node.path(folder).rglob("*")), folder


def _rolled_out(cluster: KubeCluster, name: str, namespace: str = "podwire") -> None:
    cluster.kubectl("-n", namespace, "rollout", "status", f"daemonset/{name}", "--timeout=120s")


def _is_updated(cluster: KubeCluster) -> bool:
    told = next(one for one in cluster.get("daemonsets", "podwire") if _name(one) == "podwire")
    status, wanted = told["status"], len(cluster.nodes)
    seen = status["observedGeneration"] == told["metadata"]["generation"]
    counts = (status.get(key) for key in ("updatedNumberScheduled", "numberAvailable"))
    return bool(seen and all(count == wanted for count in counts))


def _crowd_comes_and_goes(cluster: KubeCluster) -> int:
    """How many pods, each with an address of its own."""
    cluster.kubectl("scale", "deployment/crowd", f"--replicas={CROWD}")
    cluster.kubectl("rollout", "status", "deployment/crowd", "--timeout=120s")
    pods = [pod for pod in _pods(cluster, "crowd") if pod["status"]["phase"] == "Running"]
    addresses = {_address(pod) for pod in pods}
    assert len(addresses) == len(pods) >= CROWD, addresses
    cluster.kubectl("scale", "deployment/crowd", "--replicas=0")
    wait_until(lambda: not _pods(cluster, "crowd"), "the crowd has gone", 60)
    return len(pods)


def _asked(cluster: KubeCluster, client: Object, address: str, port: int) -> str:
    """What a pod gets there."""
    inside = _inside(cluster, client)
    return fetch(inside.node.path(inside.netns), f"http://{address}:{port}/")[1].strip()


def _inside(cluster: KubeCluster, pod: Object) -> Inside:
    """Its network, which its node's runtime knows, for this machine's programs."""
    node = next(one for one in cluster.nodes if one.name == _node(pod))
    return Inside(node, *node.sandbox_of(_name(pod)))


def _removers(cluster: KubeCluster) -> list[Object]:
    """Whose init container runs: it waits for pods."""
    return [
        pod
        for pod in cluster.get("pods", "podwire", "app=podwire-uninstall")
        for status in pod["status"].get("initContainerStatuses", [])
        if "running" in status["state"]
    ]


def _agents(cluster: KubeCluster) -> list[Object]:
    return cluster.get("pods", "podwire", "app=podwire")


def _pods(cluster: KubeCluster, app: str) -> list[Object]:
    return cluster.get("pods", selector=f"app={app}")


def _name(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def _node(pod: Object) -> str:
    return str(pod["spec"]["nodeName"])


def _address(pod: Object) -> str:
    return str(pod["status"]["podIP"])


def _is_ready(node: Object) -> bool:
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"]
    )
