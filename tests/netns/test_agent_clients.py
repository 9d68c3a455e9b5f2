"""What clients of the agent's socket do, or leave undone, costs the agent nothing."""

from __future__ import annotations

from tests.support.agent_pages import agent_on, serves
from tests.support.node import Node


def test_clients_that_left_without_a_word_do_not_hold_up_the_end(node: Node) -> None:
    with agent_on(node, stopLimit=5) as agent:
        assert all(serves(node) for _ in range(20))  # connects, and closes
        assert agent.stop() == 0
        assert "calls under way" not in "\n".join(agent.log())
