"""Many pods at once on a fresh node: the bridge, the tables and the store are made in a race."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.netns.kit import GATEWAY4, MODES, address, conf, env, left
from tests.support.node import Node, Pod, Reply
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot

PODS = 20


def _at_once(node: Node, verb: str, pods: list[Pod], document: dict[str, object]) -> list[Reply]:
    with ThreadPoolExecutor(max_workers=PODS) as pool:
        call = partial(_call, node, verb, document)
        return list(pool.map(call, pods))


def _call(node: Node, verb: str, document: dict[str, object], pod: Pod) -> Reply:
    # Twenty cold interpreters on two busy processors take their time.
    return node.plugin("podwire", env(verb, pod), document, limit_s=100)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", MODES)
def test_twenty_adds_and_twenty_deletes_at_once(
    node: Node, snapshot: Callable[[], Snapshot], mode: str
) -> None:
    document = conf(mode, (4, 6), ipMasq=True)
    shutil.rmtree(node.path("/run/podwire"))  # also the cache of configs is to be raced for
    before = snapshot()
    pods = [node.pod() for _ in range(PODS)]
    replies = _at_once(node, "ADD", pods, document)
    assert [reply.json for reply in replies if reply.returncode] == []
    for version in (4, 6):
        assert len({address(reply.json, version) for reply in replies}) == PODS
    assert all(pod.ping(GATEWAY4) for pod in pods[:3])
    replies = _at_once(node, "DEL", pods, document)
    assert [reply.json for reply in replies if reply.returncode] == []
    assert left(before, snapshot()) == []


def test_adds_and_deletes_crossing_each_other_hurt_nobody(node: Node) -> None:
    """The last pod of a network takes its masquerade chain while the next pod needs it."""
    document = conf(ipMasq=True)
    going, coming = [node.pod() for _ in range(6)], [node.pod() for _ in range(6)]
    network = Runtime(node, document)
    for pod in going:
        network.add(pod)
    with ThreadPoolExecutor(max_workers=12) as pool:
        deleted = pool.map(lambda pod: node.plugin("podwire", env("DEL", pod), document), going)
        added = pool.map(lambda pod: node.plugin("podwire", env("ADD", pod), document), coming)
        assert [reply.json for reply in (*deleted, *added) if reply.returncode] == []
    for pod in coming:
        assert pod.ping(GATEWAY4)
