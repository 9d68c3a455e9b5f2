"""Nodes on one network, an API server that knows them, and podwire's DaemonSet on each.

    with KindCluster(hub, root, folder) as cluster:
        a, b = cluster.join("a"), cluster.join("b")
        cluster.load(release)
        cluster.install(a, release)        # as the DaemonSet's pod: install, agent, config list
        cluster.wait_ready(a)

The hub is the network between the nodes: a bridge, and the API server on its address.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.kind.image import shell_image
from tests.support.kind.kubelet import DaemonPod
from tests.support.kind.node import KindNode
from tests.support.kind.release import Release
from tests.support.kube_api import KubeProcess, node_object
from tests.support.node import Node, wait_until

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = ROOT / "manifests" / "podwire.yaml"
UNINSTALL = ROOT / "manifests" / "uninstall.yaml"
HUB = "192.0.2.254"
HUB_V6 = "2001:db8:1::fe"
API_PORT = 6443
CLUSTER_CIDRS = ["10.244.0.0/16", "2001:db8:244::/48"]
# In the node's network, where kubelet's probes go. Prints the status and the page.
_GET = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode(), end="")
"""


class KindCluster:
    """See above. backend: of the agents. files: where nodes' disks and images are."""

    def __init__(self, hub: Node, root: Path, files: Path, backend: str = "auto") -> None:
        self.hub, self._root, self._files, self._backend = hub, root, files, backend
        self.nodes: list[KindNode] = []
        self.daemons: dict[str, DaemonPod] = {}
        self._stack = ExitStack()
        self._api: KubeProcess | None = None
        self._shell = files / "shell.tar"

    def __enter__(self) -> Self:
        open_hub(self.hub)
        shell_image(self._shell)
        start = ["nsenter", f"--net={self.hub.netns}", "--"]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._api = KubeProcess(
            lambda command: subprocess.Popen([*start, *command], cwd=ROOT, **pipes), HUB, API_PORT
        )
        self._stack.callback(self._api.close)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    @property
    def api(self) -> KubeProcess:
        """The cluster's."""
        assert self._api is not None
        return self._api

    # nodes -------------------------------------------------------------------------------------

    def join(self, name: str) -> KindNode:
        """A node with its runtime, known to the API, without a network for pods."""
        node = KindNode(name, self._root, self._files / name)
        self._stack.callback(node.close)
        self.nodes.append(node)
        self.boot(node)
        number = self._number(node)
        cidrs = [f"10.244.{number}.0/24", f"2001:db8:244:{number}::/64"]
        addresses = [f"192.0.2.{number}", f"2001:db8:1::{number}"]
        self.api.do("put", node_object(name, cidrs, addresses))
        return node

    def boot(self, node: KindNode) -> None:
        """What is to be done of a node's network and runtime each time it starts."""
        attach(self.hub, node, self._number(node))
        node.start_containerd()
        node.load_image(self._shell)

    def reboot(self, node: KindNode) -> None:
        """Power off and on; kubelet's part, to start the DaemonSet's pod again, is not done."""
        self.daemons.pop(node.name, None)
        # First, for the kernel takes a dead namespace's links away when it finds the time.
        self.hub.configure(f"link del p-{node.name}")
        node.reboot()
        self.boot(node)

    def _number(self, node: KindNode) -> int:
        return self.nodes.index(node) + 1

    # podwire -----------------------------------------------------------------------------------

    def load(self, node: KindNode, *releases: Release) -> None:
        """Images onto a node, as `kind load` does."""
        for release in releases:
            node.load_image(release.archive)

    def install(self, node: KindNode, release: Release, *, without: str = "") -> DaemonPod:
        """The DaemonSet's pod on that node is started. without: a part of its spec."""
        daemon = self._daemon(
            node, release, _pod_spec(MANIFEST) | ({without: []} if without else {})
        )
        self.daemons[node.name] = daemon
        daemon.start()
        return daemon

    def install_only(self, node: KindNode, release: Release) -> None:
        """The launchers and the tree of that release, beside whatever agent is there."""
        once = self._daemon(node, release, _pod_spec(MANIFEST) | {"containers": []})
        once.start()
        once.stop()

    def replace(self, node: KindNode, release: Release, *, install: bool = True) -> None:
        """A rolling update's part on one node, until the new pod is ready."""
        self.daemons.pop(node.name).stop()
        self.install(node, release, without="" if install else "initContainers")
        self.wait_ready(node)

    def uninstall(self, node: KindNode, release: Release) -> DaemonPod:
        """The DaemonSet is deleted, and the other one's pod begun in its place."""
        self.daemons.pop(node.name).stop()
        daemon = self._daemon(node, release, _pod_spec(UNINSTALL))
        daemon.begin()
        return daemon

    def verify_uninstalled(self, node: KindNode, release: Release) -> str:
        """What `podwire uninstall --verify` says in that pod. AssertionError: something is left."""
        spec = _pod_spec(UNINSTALL)
        look = spec["initContainers"][0] | {"args": ["uninstall", "--root", "/host", "--verify"]}
        once = self._daemon(node, release, spec | {"initContainers": [look], "containers": []})
        once.start()
        said = once.log("uninstall")
        once.stop()
        return said

    def _daemon(self, node: KindNode, release: Release, spec: dict[str, Any]) -> DaemonPod:
        return DaemonPod(
            node, f"podwire-{release.version}-{time.monotonic_ns()}", spec, release.image,
            files={"config": self._config(), "api": {"token": "t", "ca.crt": ""}},
            environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"},
        )  # fmt: skip

    def wait_ready(self, node: KindNode) -> None:
        """Until the agent says that it is, and the runtime has a network for pods."""
        try:
            wait_until(lambda: self._agent_ready(node), f"{node.name}'s agent is ready", 30)
        except AssertionError as error:
            log = self.daemons[node.name].log("agent").splitlines()
            told = [line for line in log if "message=call" not in line]
            error.add_note("\n".join([self.page(node, "/readyz")[1], *told]))
            raise
        wait_until(lambda: node.cri.network_condition()[0], "the runtime has the config list", 10)

    def _agent_ready(self, node: KindNode) -> bool:
        daemon = self.daemons[node.name]
        assert daemon.state("agent")["state"] == 1, daemon.log("agent")
        return self.page(node, "/readyz")[0] == 200

    def page(self, node: KindNode, path: str) -> tuple[int, str]:
        """Of the agent, as kubelet's probes ask for it; (0, "") when nobody answers."""
        return get(node.netns, f"http://127.0.0.1:9750{path}")

    def _config(self) -> dict[str, str]:
        """The manifest's files, with this cluster's API and ranges."""
        files = dict(document(MANIFEST, "ConfigMap")["data"])
        config = yaml.safe_load(files["agent.yaml"])
        config["cluster"] |= {
            "source": {"kubernetes": {"server": f"http://{HUB}:{API_PORT}"}},
            "clusterCIDRs": CLUSTER_CIDRS,
            "backend": self._backend,
        }
        return {**files, "agent.yaml": yaml.safe_dump(config)}


def open_hub(hub: Node) -> None:
    """The network between nodes: a bridge, on which the hub has addresses."""
    hub.configure("link add br0 address 02:00:5e:00:01:01 up type bridge")
    hub.configure(f"addr add {HUB}/24 dev br0")
    hub.configure(f"addr add {HUB_V6}/64 dev br0 nodad")


def attach(hub: Node, node: KindNode, number: int) -> None:
    """The node's eth0 to the hub, by which it has its addresses and its way out."""
    port = f"p-{node.name}"
    # The same MAC each time, as a machine has, or the others would look for the old one. From
    # the hub, which sees the node's processes, not the other way round.
    pair = f"link add {port} type veth peer name eth0 address 02:00:5e:00:02:{number:02x}"
    hub.configure(f"{pair} netns {node.pid}")
    hub.configure(f"link set {port} up master br0")
    node.configure("link set eth0 up")
    for address in (f"192.0.2.{number}/24", f"2001:db8:1::{number}/64"):
        node.run("ip", "addr", "add", address, "dev", "eth0")
    for gateway in (HUB, HUB_V6):
        node.run("ip", "route", "add", "default", "via", gateway)


def _pod_spec(manifest: Path) -> dict[str, Any]:
    """Of its DaemonSet."""
    return dict(document(manifest, "DaemonSet")["spec"]["template"]["spec"])


def document(manifest: Path, kind: str) -> dict[str, Any]:
    """The one of that kind in a manifest."""
    every = yaml.safe_load_all(manifest.read_text())
    return dict(next(one for one in every if one["kind"] == kind))


def get(netns: str | Path, url: str) -> tuple[int, str]:
    """A page, asked for in that network by this machine's Python; (0, "") when nobody answers."""
    got = subprocess.run(
        ["nsenter", f"--net={netns}", sys.executable, "-I", "-S", "-c", _GET, url],
        capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    status, _, text = got.stdout.partition(" ")
    return (int(status), text) if got.returncode == 0 else (0, "")
