"""Calls that no well-behaved runtime makes, or makes once in a year."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.netns.kit import MODES, NODE_WIDE, Json, conf, ipam
from tests.support.node import Node, Pod
from tests.support.runtime import Failed, Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]


def environ(command: str, pod: Pod, container: str = "c1") -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "eth0",
    }


def routes(count: int) -> Json:
    listed = [{"dst": f"198.18.{number >> 8}.{number & 255}/32"} for number in range(count)]
    return {**ipam("10.244.0.0/24"), "routes": listed}


@pytest.mark.parametrize("mode", MODES)
def test_of_parallel_adds_of_one_attachment_one_succeeds(
    node: Node, snapshot: Snap, mode: str
) -> None:
    before, pod, document = snapshot(), node.pod(), conf(mode, ipMasq=True)
    with ThreadPoolExecutor(5) as pool:
        replies = list(
            pool.map(lambda _: node.plugin("podwire", environ("ADD", pod), document), range(5))
        )
    assert sorted(reply.returncode for reply in replies) == [0, 1, 1, 1, 1]
    assert {reply.code for reply in replies if reply.returncode} <= {11, 102}
    (winner,) = (reply for reply in replies if not reply.returncode)
    assert pod.addresses("eth0") == [ip["address"] for ip in winner.json["ips"]]
    node.plugin("podwire", environ("DEL", pod), document).ok()
    pod.remove()
    assert before.without(NODE_WIDE).diff(snapshot().without(NODE_WIDE)) == []


def test_three_thousand_routes_fit(node: Node) -> None:
    pod = node.pod()
    Runtime(node, conf(ipam=routes(3000))).add(pod)
    assert len(pod.routes()) >= 3000


@pytest.mark.parametrize("mode", MODES)
def test_an_mtu_too_small_for_ipv6_carries_ipv4(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode, mtu=1000)), node.pod()
    network.add(pod)
    network.check(pod)
    assert pod.ping("10.244.0.1")


@pytest.mark.parametrize(
    "metrics", [{"mtu": 0}, {"advmss": 0}, {"table": 0}, {"mtu": 70000}, {"advmss": 70000}]
)
def test_check_agrees_with_what_the_kernel_makes_of_a_route(node: Node, metrics: Json) -> None:
    route = {"dst": "198.18.0.0/15", **metrics}
    network = Runtime(node, conf(ipam={**ipam("10.244.0.0/24"), "routes": [route]}))
    pod = node.pod()
    network.add(pod)
    network.check(pod)


@pytest.mark.parametrize("stdout", [">&-", ">/dev/full"])
def test_a_result_that_cannot_be_delivered_is_undone(
    node: Node, snapshot: Snap, stdout: str
) -> None:
    pod, document = node.pod(), conf()
    before = snapshot()
    call = [f"{key}={value}" for key, value in environ("ADD", pod).items()]
    program = f"exec {node.cni_bin}/podwire {stdout}"
    done = node.run("env", *call, f"CNI_PATH={node.cni_bin}", "sh", "-c", program,
                    stdin=json.dumps(document), check=False)  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert before.without(NODE_WIDE).diff(snapshot().without(NODE_WIDE)) == []


def test_a_long_id_and_a_long_name_are_attached(node: Node) -> None:
    pod, document = node.pod(), conf(name="n" * 255)
    added = node.plugin("podwire", environ("ADD", pod, "c" * 255), document).ok()
    checked = {**document, "prevResult": added.json}
    node.plugin("podwire", environ("CHECK", pod, "c" * 255), checked).ok()
    node.plugin("podwire", environ("DEL", pod, "c" * 255), document).ok()
    assert "eth0" not in pod.links()


def test_a_fifo_for_a_netns_is_refused_at_once(node: Node) -> None:
    pod = node.pod()
    os.mkfifo(node.path("/run/fifo"))
    call = {**environ("ADD", pod), "CNI_NETNS": "/run/fifo"}
    assert node.plugin("podwire", call, conf()).code == 4
    node.plugin("podwire", {**call, "CNI_COMMAND": "DEL"}, conf()).ok()


def test_a_dormant_table_is_named_and_woken(node: Node) -> None:
    network, pod, other = Runtime(node, conf()), node.pod(), node.pod()
    network.add(pod)
    node.run("nft", "add table bridge podwire { flags dormant; }")
    with pytest.raises(Failed, match="prerouting"):
        network.check(pod)
    network.add(other)
    assert "dormant" not in node.run("nft", "list", "table", "bridge", "podwire").stdout
    network.check(pod)


@pytest.mark.parametrize("mode", MODES)
def test_a_signal_during_add_undoes_it(node: Node, snapshot: Snap, mode: str) -> None:
    pod, document = node.pod(), conf(mode)
    before = snapshot()
    inject = [
        "strace",
        "-f",
        "-o/dev/null",
        "-etrace=sendto",
        "--inject=sendto:signal=TERM:when=12",
    ]
    call = [f"{key}={value}" for key, value in environ("ADD", pod).items()]
    done = node.run("env", *call, f"CNI_PATH={node.cni_bin}", *inject, f"{node.cni_bin}/podwire",
                    stdin=json.dumps(document), check=False)  # fmt: skip
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 11
    assert before.without(NODE_WIDE).diff(snapshot().without(NODE_WIDE)) == []
