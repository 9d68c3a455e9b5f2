"""A node from nothing to podwire by the manifest: the containers that it names, one after another,
each with what it asks for and no more, and podwire's own tree as the image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.netns.kit import GATEWAY4, POD4, POD6, listening, seen_as
from tests.netns.kit import PORT as PORT_IN_POD
from tests.support import need
from tests.support.container import ROOT, Container, of_tree
from tests.support.kube_api import KubeProcess, node_object
from tests.support.manifest import MANIFESTS, config_map, container_of, daemonset
from tests.support.node import Node, wait_until
from tests.support.runtime import Runtime

SPEC = daemonset()
API, PORT, TOKEN = "192.0.2.1", 6443, "of this pod"
SERVICE = (f"KUBERNETES_SERVICE_HOST={API}", f"KUBERNETES_SERVICE_PORT={PORT}")
ADDRESSES = ["192.0.2.1", "2001:db8:1::1"]
HOST_PORT = {"hostPort": 8089, "containerPort": PORT_IN_POD, "protocol": "tcp"}
Start = Callable[..., Container]
CONFLIST = "/etc/cni/net.d/10-podwire.conflist"


class Api(NamedTuple):
    """The Kubernetes API, and what a kubelet gives the containers for it."""

    process: KubeProcess
    files: dict[str, dict[str, str]]

    def annotations(self, node: Node) -> Any:
        return self.process.do("annotations", node.name)


@pytest.fixture
def api(node: Node, tmp_path: Path) -> Iterator[Api]:
    """The API on the node itself, which it has an object of; it speaks TLS and asks for a token."""
    need.real_root()
    node.run("mount", "--make-rshared", "/run")  # as systemd leaves it
    node.configure("link add eth0 type bridge")
    node.configure("link set eth0 up")
    for address, prefix in zip(ADDRESSES, ("24", "64"), strict=True):
        node.run("ip", "addr", "add", f"{address}/{prefix}", "dev", "eth0")

    def start(command: list[str]) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return node.spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    certificate = _certificate(tmp_path)
    served = KubeProcess(start, API, PORT, certificate=f"{tmp_path}/api.pem")
    served.do("set", "token", TOKEN)
    served.do("put", node_object(node.name, [POD4, POD6], ADDRESSES))
    try:
        account = {"token": TOKEN, "ca.crt": certificate}
        yield Api(served, {"config": config_map(), "api": account})
    finally:
        served.close()


def _certificate(folder: Path) -> str:
    """Of the API's address; with its key in api.pem."""
    need.tool("openssl")
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    name = ("-subj", "/CN=api", "-addext", f"subjectAltName=IP:{API}", "-days", "2")
    made = subprocess.run(
        ["openssl", *new, *name, "-keyout", "-", "-out", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (folder / "api.pem").write_text(made.stdout)
    return made.stdout[made.stdout.index("-----BEGIN CERTIFICATE") :]


@pytest.fixture
def start(node: Node, api: Api, tree: Path, tmp_path: Path) -> Callable[..., Container]:
    """Starts one of the manifest's containers, its ConfigMap untouched."""

    def begin(name: str = "agent", spec: Any = SPEC) -> Container:
        image = of_tree(tree)
        return Container(node, tmp_path, spec, api.files, name, image=image, env=SERVICE)

    return begin


def _page(node: Node, probe: str) -> int:
    """What the kubelet's request comes to: a status, 0 while nobody answers."""
    get = container_of(SPEC)[probe]["httpGet"]
    program = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "try: print(u.urlopen(sys.argv[1], timeout=5).status)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "except OSError: print(0)"
    )
    url = f"http://{get['host']}:{get['port']}{get['path']}"
    return int(node.run(sys.executable, "-ISc", program, url).stdout)


def _runtime(node: Node) -> Runtime:
    """By the list that the agent has written, and the launcher that was installed."""
    return Runtime(node, json.loads(node.path(CONFLIST).read_text()))


def test_a_node_from_nothing_to_podwire(
    node: Node, api: Api, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("install").done()
    assert {one.name for one in node.path("/opt/cni/bin").iterdir()} == {"podwire", "podwire-ipam"}
    with start() as agent:
        wait_until(lambda: _page(node, "readinessProbe") == 200, "it is ready", 30)
        assert _page(node, "livenessProbe") == 200
        assert node.path(CONFLIST).exists(), "a ready node has its config list"
        assert api.annotations(node)["podwire.io/backend"]
        monkeypatch.setattr(node, "cni_bin", node.path("/opt/cni/bin"))
        runtime, pod = _runtime(node), node.pod()
        result = runtime.add(pod, capabilities={"portMappings": [HOST_PORT]})
        assert len(result["ips"]) == 2
        assert all("default" in " ".join(pod.routes(version)) for version in (4, 6))
        with listening(pod):
            assert seen_as(node, API, HOST_PORT["hostPort"]), "its host port leads to it"
        assert all(pod.ping(one["gateway"]) for one in result["ips"])
        runtime.check(pod)
        first, _, _ = result["ips"][0]["address"].partition("/")
        assert first in agent.execute("ipam", "ls")
        runtime.delete(pod)
        wait_until(lambda: "verb=DEL outcome=done" in agent.log(), "it served the calls")
        told = agent.log()
    assert "verb=ADD outcome=done" in told
    assert "Traceback" not in told


def test_pods_come_and_go_while_the_agent_is_replaced(
    node: Node, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("install").done()
    with start():
        wait_until(node.path(CONFLIST).exists, "the config list is there", 30)
    monkeypatch.setattr(node, "cni_bin", node.path("/opt/cni/bin"))
    runtime, pod = _runtime(node), node.pod()
    runtime.add(pod)  # no agent: by what was installed
    with start() as agent:
        wait_until(lambda: _page(node, "readinessProbe") == 200, "the next one is ready", 30)
        runtime.delete(pod)
        wait_until(lambda: "verb=DEL outcome=done" in agent.log(), "it served the DEL")


@pytest.mark.parametrize("config", ["sound", "broken", "gone"])
def test_uninstalled_by_the_manifest_nothing_is_left(
    node: Node, api: Api, start: Start, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    start("install").done()
    with start():
        wait_until(lambda: _page(node, "readinessProbe") == 200, "it is ready", 30)
    monkeypatch.setattr(node, "cni_bin", node.path("/opt/cni/bin"))
    runtime, pod = _runtime(node), node.pod()
    runtime.add(pod)
    if config != "sound":
        api.files["config"] = {"agent.yaml": "cluster: {backend: ["} if config == "broken" else {}
    gone = start("uninstall", daemonset(MANIFESTS / "uninstall.yaml"))
    wait_until(lambda: "waiting: " in gone.log(), "it waits for the pod", 30)
    assert pod.ping(GATEWAY4), "its network stays as long as it does"
    runtime.delete(pod)
    assert "nothing of podwire is left on this node" in gone.done()
    assert api.annotations(node) == {}
    for folder in ("/opt/cni/bin", "/opt/podwire", "/etc/cni/net.d", "/run/podwire"):
        assert list(node.path(folder).iterdir()) == [], folder
    assert "podwire" not in node.run("nft", "list", "tables").stdout
