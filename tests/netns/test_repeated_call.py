"""A call repeated by its name is not run twice, and undoing takes only its own work away."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.netns.kit import MODES, Json, conf, env, left
from tests.support.node import Node, Pod, Reply
from tests.support.snapshot import Snapshot

ONE, OTHER = "1" * 32, "2" * 32


def _call(node: Node, verb: str, pod: Pod, document: Json, **more: str) -> Reply:
    return node.plugin("podwire", env(verb, pod, **more), document)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_add_again_is_answered_as_before(node: Node, mode: str) -> None:
    pod, document = node.pod("one"), conf(mode, (4, 6), ipMasq=True)
    first = _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE)
    assert first.returncode == 0, first
    again = _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE)
    assert again.returncode == 0, again
    assert again.json == first.json
    checked = _call(node, "CHECK", pod, {**document, "prevResult": again.json})
    assert checked.returncode == 0, checked


@pytest.mark.parametrize(
    "result",
    [
        '{"Result":{"ips":[],"mtu":1500}}',
        '{"Answer":{}}',
        '{"Dns":{}}',
        "[",
        "[1]",
        '{"Dns":1}',
        "",
    ],
)
def test_an_answer_of_another_podwire_that_cannot_be_read_is_made_anew(
    node: Node, snapshot: Callable[[], Snapshot], result: str
) -> None:
    before, pod, document = snapshot(), node.pod("one"), conf("bridge", (4, 6), ipMasq=True)
    first = _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE).ok()
    file = node.path(f"/run/podwire/attachments/net/{pod.container_id}:eth0")
    file.write_text(json.dumps({**json.loads(file.read_text()), "result": result}))
    refused = _call(node, "ADD", pod, document, PODWIRE_REQUEST=OTHER)
    assert refused.code == 102
    again = _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE).ok()
    assert "made anew" in again.stderr
    assert len(again.json["ips"]) == len(first.json["ips"])
    reserved = node.path("/var/lib/cni/networks/net").glob("[0-9]*")
    assert len(list(reserved)) == len(first.json["ips"])
    _call(node, "CHECK", pod, {**document, "prevResult": again.json}).ok()
    _call(node, "DEL", pod, document).ok()
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("name", [OTHER, ""])
def test_another_add_of_the_same_pod_is_refused(node: Node, name: str) -> None:
    pod, document = node.pod("one"), conf()
    assert _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE).returncode == 0
    refused = _call(node, "ADD", pod, document, PODWIRE_REQUEST=name)
    assert refused.code == 102
    assert "was added before" in json.dumps(refused.json)


def test_an_add_is_undone_only_by_its_own_name(node: Node) -> None:
    pod, document = node.pod("one"), conf()
    added = _call(node, "ADD", pod, document, PODWIRE_REQUEST=ONE)
    assert added.returncode == 0
    with_result = {**document, "prevResult": added.json}
    assert _call(node, "DEL", pod, document, PODWIRE_UNDOES=OTHER).returncode == 0
    assert _call(node, "CHECK", pod, with_result).returncode == 0
    assert _call(node, "DEL", pod, document, PODWIRE_UNDOES=ONE).returncode == 0
    assert _call(node, "CHECK", pod, with_result).returncode == 1
