"""A node from nothing to podwire by the manifest: the containers that it names, one after another,
each with what it asks for and no more, and podwire's own tree as the image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.kit import POD4, POD6
from tests.support import need
from tests.support.container import ROOT, Container, of_tree
from tests.support.kube_api import KubeProcess, node_object
from tests.support.manifest import config_map, container_of, daemonset
from tests.support.node import Node, wait_until
from tests.support.runtime import Runtime

SPEC = daemonset()
API, PORT = "192.0.2.1", 6443
ADDRESSES = ["192.0.2.1", "2001:db8:1::1"]
PLACES = ("/opt/cni/bin", "/etc/cni/net.d")
CONFLIST = "/etc/cni/net.d/10-podwire.conflist"


@pytest.fixture
def api(node: Node) -> Iterator[KubeProcess]:
    """The Kubernetes API on the node itself, which it has an object of."""
    need.real_root()
    node.run("mount", "--make-rshared", "/run")  # as systemd leaves it
    node.configure("link add eth0 type bridge")
    node.configure("link set eth0 up")
    for address, prefix in zip(ADDRESSES, ("24", "64"), strict=True):
        node.run("ip", "addr", "add", f"{address}/{prefix}", "dev", "eth0")

    def start(command: list[str]) -> subprocess.Popen[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return node.spawn(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)

    served = KubeProcess(start, API, PORT, sys.executable)
    served.do("set", "token", "of this pod")
    served.do("put", node_object(node.name, [POD4, POD6], ADDRESSES))
    try:
        yield served
    finally:
        served.close()


def _files(api: KubeProcess) -> dict[str, dict[str, str]]:
    """As the manifest has them, but that the API speaks no TLS here."""
    config = config_map()
    said = f"{{kubernetes: {{server: '{api.url}'}}}}"
    assert "source: {kubernetes: {}}" in config["agent.yaml"]
    config["agent.yaml"] = config["agent.yaml"].replace("{kubernetes: {}}", said)
    return {"config": config, "api": {"token": "of this pod", "ca.crt": ""}}


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
    node: Node, api: KubeProcess, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, files = of_tree(tree), _files(api)
    installed = Container(node, tmp_path, SPEC, files, "install", image=image)
    installed.done()
    assert {one.name for one in node.path("/opt/cni/bin").iterdir()} == {"podwire", "podwire-ipam"}
    with Container(node, tmp_path, SPEC, files, image=image) as agent:
        wait_until(lambda: _page(node, "readinessProbe") == 200, "it is ready", 30)
        assert _page(node, "livenessProbe") == 200
        assert node.path(CONFLIST).exists(), "a ready node has its config list"
        annotations: Any = api.do("annotations", node.name)
        assert annotations["podwire.io/backend"]
        monkeypatch.setattr(node, "cni_bin", node.path("/opt/cni/bin"))
        runtime, pod = _runtime(node), node.pod()
        result = runtime.add(pod)
        assert len(result["ips"]) == 2
        assert all(pod.ping(one["gateway"]) for one in result["ips"])
        runtime.check(pod)
        runtime.delete(pod)
        wait_until(lambda: "verb=DEL outcome=done" in agent.log(), "it served the calls")
        told = agent.log()
    assert "verb=ADD outcome=done" in told
    assert "Traceback" not in told


def test_pods_come_and_go_while_the_agent_is_replaced(
    node: Node, api: KubeProcess, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, files = of_tree(tree), _files(api)
    Container(node, tmp_path, SPEC, files, "install", image=image).done()
    with Container(node, tmp_path, SPEC, files, image=image):
        wait_until(node.path(CONFLIST).exists, "the config list is there", 30)
    monkeypatch.setattr(node, "cni_bin", node.path("/opt/cni/bin"))
    runtime, pod = _runtime(node), node.pod()
    runtime.add(pod)  # no agent: by what was installed
    with Container(node, tmp_path, SPEC, files, image=image) as agent:
        wait_until(lambda: _page(node, "readinessProbe") == 200, "the next one is ready", 30)
        runtime.delete(pod)
        wait_until(lambda: "verb=DEL outcome=done" in agent.log(), "it served the DEL")
