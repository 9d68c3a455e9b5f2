"""A node with an agent, and calls through the real launcher."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.netns.kit import env
from tests.support.agent import LIMIT_S, Agent, running
from tests.support.node import Node, Pod, Reply

Call = Callable[..., Reply]


@pytest.fixture
def agent(node: Node) -> Iterator[Agent]:
    """The node's agent, running."""
    with running(node) as made:
        yield made


@pytest.fixture
def call(node: Node, launcher: Path) -> Call:
    """Verbs by the launcher; a pod's variables are set, more are given by name."""

    def once(verb: str, pod: Pod | None, conf: Mapping[str, Any], **more: str) -> Reply:
        of_pod = env(verb, pod) if pod else {"CNI_COMMAND": verb}
        environ = {"PODWIRE_PYTHON": sys.executable, **of_pod, **more}
        return node.plugin(launcher, environ, conf, limit_s=LIMIT_S)

    return once


def outcomes(agent: Agent) -> list[tuple[str, str]]:
    """(verb, outcome) of each call in the agent's log."""
    lines = [line for line in agent.log() if line["message"] == "call"]
    return [(line["verb"], line["outcome"]) for line in lines]
