"""The agent's config is changed while it runs: a valid one is used, a wrong one refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.agent.conftest import Call, outcomes
from tests.netns.kit import PORT, conf, listening
from tests.support.agent import Agent, running
from tests.support.agent_pages import get
from tests.support.node import Node, wait_until

LIMIT_S = 15.0
PAGES = "/run/podwire/pages.sock"
CONFIG = f"metrics: 'unix:{PAGES}'\nlog: {{format: json, level: debug}}\n"


@pytest.fixture
def watched(node: Node) -> Iterator[Agent]:
    """An agent with pages."""
    with running(node, CONFIG) as made:
        yield made


def _write(node: Node, text: str) -> None:
    """By rename, as a kubelet switches a ConfigMap's links."""
    new = node.path("/run/agent.yaml.new")
    new.write_text(text)
    new.rename(node.path("/run/agent.yaml"))


def _messages(agent: Agent) -> str:
    return "\n".join(line["message"] for line in agent.log())


def _ready(node: Node) -> tuple[int, str]:
    try:
        return get(node.path(PAGES), "/readyz")
    except OSError:
        return 0, ""


@pytest.mark.parametrize(
    "line",
    ["socket: /proc/none/agent.sock\n", "metrics: '127.0.0.1:{port}'\n"],
    ids=["socket", "port"],
)
def test_a_valid_change_that_cannot_begin_leaves_what_was_before(
    node: Node, watched: Agent, call: Call, line: str
) -> None:
    with listening(node, PORT):  # so that the metrics' port is another's
        _write(node, "log: {format: json, level: debug}\n" + line.format(port=PORT))
        wait_until(lambda: _ready(node)[0] == 503, "it says that it is not ready", LIMIT_S)
        wait_until(lambda: "what was before stays" in _ready(node)[1], "it says why", LIMIT_S)
        assert "the config was changed and is wrong" in _messages(watched)
        call("ADD", node.pod(), conf()).ok()
        wait_until(lambda: len(outcomes(watched)) == 1, "the call was the agent's")
        began = _messages(watched).count("begins anew")
        _write(node, CONFIG)
        wait_until(lambda: _ready(node)[0] == 200, "it is ready again", LIMIT_S)
    assert _messages(watched).count("begins anew") == began == 1
    watched.stop()


def test_a_valid_change_is_used_without_another_process(
    node: Node, watched: Agent, call: Call
) -> None:
    call("ADD", node.pod(), conf()).ok()
    _write(node, CONFIG + "dataDirs: [/var/lib/cni/networks, /var/lib/cni/more]\n")
    wait_until(
        lambda: _messages(watched).count("podwire's agent serves") == 2, "it begins anew", LIMIT_S
    )
    assert watched.process.poll() is None
    assert "the config was changed: the agent begins anew with it" in _messages(watched)
    wait_until(lambda: _ready(node)[0] == 200, "it is ready", LIMIT_S)
    call("ADD", node.pod(), conf()).ok()
    wait_until(lambda: len(outcomes(watched)) == 2, "both calls were the agent's")
    watched.stop()


def test_a_wrong_change_is_told_and_changes_nothing(node: Node, watched: Agent, call: Call) -> None:
    _write(node, CONFIG + "dataDirs: [relative]\n")
    wait_until(lambda: _ready(node)[0] == 503, "it says that it is not ready", LIMIT_S)
    assert _ready(node)[1].startswith("config: changed and wrong, what was before stays in force:")
    assert "relative" in _ready(node)[1]
    call("ADD", node.pod(), conf()).ok()
    _write(node, CONFIG)
    wait_until(lambda: _ready(node)[0] == 200, "the old config again: ready", LIMIT_S)
    assert _messages(watched).count("podwire's agent serves") == 1


def test_a_change_that_means_the_same_is_none(node: Node, watched: Agent) -> None:
    _write(node, "# with a remark\n" + CONFIG)
    _write(node, "# with a remark\n" + CONFIG + "repair: maybe\n")
    wait_until(lambda: _ready(node)[0] == 503, "the next change is noticed", LIMIT_S)
    _write(node, "# another remark\n" + CONFIG)
    wait_until(lambda: _ready(node)[0] == 200, "ready", LIMIT_S)
    assert _messages(watched).count("podwire's agent serves") == 1


def test_a_config_that_is_gone_is_told_and_comes_back(node: Node, watched: Agent) -> None:
    node.run("mv", "/run/agent.yaml", "/run/elsewhere.yaml")
    wait_until(lambda: _ready(node)[0] == 503, "it says so", LIMIT_S)
    assert "No such file" in _ready(node)[1]
    node.run("mv", "/run/elsewhere.yaml", "/run/agent.yaml")
    wait_until(lambda: _ready(node)[0] == 200, "ready", LIMIT_S)
