"""Two nodes that kubeadm has made a cluster of, and kubectl.

    with KubeCluster(hub, root, programs, files) as cluster:
        cluster.start()
        cluster.kubectl("apply", "-f", "manifests/podwire.yaml")

The hub is the network between the nodes, a bridge, and where kubectl runs.
"""

from __future__ import annotations

import json
import string
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.support.kind.cluster import attach, open_hub
from tests.support.kind.image import shell_image
from tests.support.kubernetes.images import REGISTRY, VERSION, control_plane
from tests.support.kubernetes.node import KubeNode
from tests.support.node import Node, wait_until

ROOT = Path(__file__).resolve().parents[3]
KUBECTL = ROOT / "build" / "tools" / "kubectl"
NAMES = ("a", "b")  # the first one has the control plane
PODS, SERVICES = "10.244.0.0/16", "10.96.0.0/16"
TOKEN = "abcdef.0123456789abcdef"  # the cluster is gone with the test
# Its images and servers are not kubeadm's to look for; kube-proxy runs as it is, and for CoreDNS
# there is no package.
SKIPPED = "preflight,addon/coredns,addon/kube-proxy"
START_S = 180.0


class KubeCluster:
    """See above. root: of hack/node_root.sh. files: where nodes' disks and images are."""

    def __init__(self, hub: Node, root: Path, programs: Path, files: Path) -> None:
        self.hub, self._root, self._programs, self._files = hub, root, programs, files
        self.nodes: list[KubeNode] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        open_hub(self.hub)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Both nodes, known to the API and NotReady."""
        shell = shell_image(self._files / "shell.tar")
        for number, name in enumerate(NAMES, 1):
            node = KubeNode(name, self._root, self._files / name, self._programs)
            self._stack.callback(node.close)
            self.nodes.append(node)
            attach(self.hub, node, number)
            node.start_containerd()
            node.load_image(shell)
            node.start_kubelet()
        first, second = self.nodes
        for image in control_plane(self._programs, self._root, self._files):
            first.load_image(image)
            image.unlink()
        self._init(first)
        self._join(second)
        for node in self.nodes:
            node.start_proxy(self._admin.read_text())
        wait_until(lambda: len(self.get("nodes")) == len(NAMES), "both nodes are known", START_S)

    @property
    def _admin(self) -> Path:
        return self._files / "admin.conf"

    def _init(self, node: KubeNode) -> None:
        text = string.Template((Path(__file__).parent / "kubeadm.yaml").read_text()).substitute(
            TOKEN=TOKEN, ADDRESS=self.address(node), NAME=node.name, VERSION=VERSION,
            REGISTRY=REGISTRY, PODS=PODS, SERVICES=SERVICES,
        )  # fmt: skip
        node.path("/root/kubeadm.yaml").write_text(text)
        self._kubeadm(node, "init", "--config=/root/kubeadm.yaml", f"--skip-phases={SKIPPED}")
        self._admin.write_text(node.path("/etc/kubernetes/admin.conf").read_text())

    def _join(self, node: KubeNode) -> None:
        self._kubeadm(
            node, "join", f"{self.address(self.nodes[0])}:6443", f"--token={TOKEN}",
            f"--node-name={node.name}", "--cri-socket=/run/containerd/containerd.sock",
            "--discovery-token-unsafe-skip-ca-verification", "--skip-phases=preflight",
        )  # fmt: skip

    def _kubeadm(self, node: KubeNode, *arguments: str) -> None:
        done = node.run("kubeadm", *arguments, check=False, limit_s=START_S)
        said = f"{done.stdout}{done.stderr}{node.log('kubelet')[-3000:]}"
        assert done.returncode == 0, f"kubeadm {arguments[0]}: {said}"

    def address(self, node: KubeNode) -> str:
        """Of the node itself."""
        return f"192.0.2.{self.nodes.index(node) + 1}"

    # the API -----------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """What it printed. AssertionError with its words when it failed."""
        done = subprocess.run(
            [
                "nsenter", f"--net={self.hub.netns}", "--", KUBECTL, "--kubeconfig", self._admin,
                *arguments,
            ],
            input=stdin, capture_output=True, text=True, check=False, cwd=ROOT, timeout=150,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"kubectl {arguments}: {done.stderr}"
        return done.stdout + ("" if check else done.stderr)

    def get(self, what: str, namespace: str = "default", selector: str = "") -> list[Any]:
        """Objects of a kind."""
        more = (f"--selector={selector}",) if selector else ()
        return list(
            json.loads(self.kubectl("-n", namespace, "get", what, "-o", "json", *more))["items"]
        )
