"""An agent that may open few files: what it cannot serve, the launchers do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cni_plugin.agent.server import TOO_FEW_FILES
from tests.agent.conftest import Call, outcomes
from tests.netns.kit import GATEWAY4, address, conf, left
from tests.support.agent import running
from tests.support.node import Node
from tests.support.snapshot import Snapshot

CALLS = 64


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("files", "serves"), [(20, False), (64, False), (160, True)])
def test_no_call_fails_for_want_of_descriptors(
    node: Node, call: Call, snapshot: Callable[[], Snapshot], files: int, serves: bool
) -> None:
    document, before = conf("bridge", (4, 6), ipMasq=True), snapshot()
    pods = [node.pod() for _ in range(CALLS)]

    def all_at_once(verb: str) -> list[Any]:
        with ThreadPoolExecutor(CALLS) as pool:
            replies = list(pool.map(lambda pod: call(verb, pod, document), pods))
        return [reply.ok().json for reply in replies]

    with running(node, prefix=["prlimit", f"--nofile={files}"]) as agent:
        assert len({address(result) for result in all_at_once("ADD")}) == CALLS
        assert all(pod.ping(GATEWAY4) for pod in pods[::16])
        all_at_once("DEL")
        told = [line["message"] for line in agent.log()]
        assert (bool(outcomes(agent)), TOO_FEW_FILES in told) == (serves, not serves)
        agent.stop()
    assert left(before, snapshot().without(r"/agent\.")) == []
