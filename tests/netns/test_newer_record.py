"""A record that a newer podwire has written, after the node went back to this one: what only the
newer one knows is left alone, and all the rest is done as ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cni_plugin.record import DONE, PENDING, REMOVING
from tests.netns.kit import MODES, Json, conf, host_end, left
from tests.support.agent import running
from tests.support.node import Node, Pod, wait_until
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
# What a newer podwire's sets might be called and hold; one of them is really there.
ELEMENTS: list[list[object]] = [
    ["element", "inet", "floating4", ["10.244.0.2", "tcp", "80"], "LINK"],
    ["element", "netdev", "ports", ["LINK"]],
    ["element", "inet", "macs", ["LINK", "02:00:00:00:00:01", "10.244.0.2"]],
    ["element", "inet", "hostports4", ["dccp", "80"], "LINK"],
]
OTHERS: list[list[object]] = [
    ["chain", "netdev", "police-LINK"],
    ["policer", "LINK", 1],
]
SET = "add set inet podwire floating4 { type ipv4_addr . inet_proto . inet_service; }"
ELEMENT = "add element inet podwire floating4 { 10.244.0.2 . tcp . 80 }"
RECORDS = "/run/podwire/attachments/net"


def _conf(mode: str) -> Json:
    return conf(mode, (4, 6), ipMasq=True)


def _file(node: Node, pod: Pod) -> Path:
    return node.path(f"{RECORDS}/{pod.container_id}:eth0")


def _by_a_newer(
    node: Node,
    pod: Pod,
    result: Json,
    phase: str = DONE,
    others: Sequence[list[object]] = OTHERS,
) -> None:
    """Makes the pod's record one of a newer podwire."""
    strange = json.loads(json.dumps([*ELEMENTS, *others]).replace("LINK", host_end(result)))
    path = _file(node, pod)
    record = json.loads(path.read_text())
    record["owned"] = [*strange, *record["owned"]]
    path.write_text(json.dumps({**record, "phase": phase, **({"seal": [1]} if others else {})}))
    for line in (SET, ELEMENT):
        node.run("nft", line)


def _without_its_set(node: Node, snapshot: Snap) -> Snapshot:
    """What there is, and that the newer one's element still was among it."""
    listed = node.run("nft", "list set inet podwire floating4").stdout
    assert "elements = { 10.244.0.2 . tcp . 80 }" in listed
    node.run("nft", "delete set inet podwire floating4")
    return snapshot()


@pytest.mark.parametrize("others", [(), OTHERS], ids=["elements", "others"])
@pytest.mark.parametrize("verb", ["DEL", "GC"])
@pytest.mark.parametrize("mode", MODES)
def test_the_attachment_goes(
    node: Node, snapshot: Snap, mode: str, verb: str, others: Sequence[list[object]]
) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    _by_a_newer(node, pod, network.add(pod), others=others)
    network.check(pod)
    if verb == "GC":
        network.gc([])
        assert not _file(node, pod).exists()
    network.delete(pod)
    assert left(before, _without_its_set(node, snapshot)) == []


@pytest.mark.parametrize("others", [(), OTHERS], ids=["elements", "others"])
@pytest.mark.parametrize("phase", [PENDING, REMOVING])
def test_the_agent_ends_what_was_cut_off(
    node: Node, snapshot: Snap, phase: str, others: Sequence[list[object]]
) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    _by_a_newer(node, pod, network.add(pod), phase, others)
    with running(node) as agent:
        wait_until(lambda: not _file(node, pod).exists(), "it is gone")
        wait_until(lambda: bool(agent.rounds("recovery")), "it is told")
        (told,) = agent.rounds("recovery")
        assert told.startswith(f"eth0 of {pod.container_id}: ")
        agent.stop()
    network.delete(pod)
    after = _without_its_set(node, snapshot).without(r"/agent\.")
    assert left(before, after) == []


def test_the_agent_repairs_it_and_takes_nothing_out_of_the_record(node: Node) -> None:
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    result = network.add(pod)
    _by_a_newer(node, pod, result)
    path = _file(node, pod)
    record = json.loads(path.read_text())
    # One that is older, too: repair adds to it what goes with the attachment now.
    ports = ["element", "bridge", "ports", [host_end(result)]]
    record["owned"].remove(ports)
    path.write_text(json.dumps(record))
    with running(node) as agent:
        node.run("nft", f"delete element bridge podwire ports {{ {host_end(result)} }}")
        wait_until(lambda: bool(agent.rounds("repair")), "it is put back")
        agent.stop()
    network.check(pod)
    after = json.loads(path.read_text())
    assert [entry for entry in record["owned"] if entry not in after["owned"]] == []
    assert ports in after["owned"]
    assert after["seal"] == [1]
