"""The agent is killed, stopped and started again under load: no call fails, none is run twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.agent.conftest import Call
from tests.netns.kit import conf, left
from tests.support.agent import Agent
from tests.support.node import Node, Pod
from tests.support.snapshot import Snapshot

CALLERS = 6  # at a time
PODS = 42  # each makes six calls in a round
ROUNDS = 2  # 504 calls
SEED = 20261124
WAYS = ("kill", "terminate", "stop and kill")
DOCUMENT = conf("bridge", (4, 6), ipMasq=True)


class Chaos:
    """Ends the node's agent again and again, by SIGKILL and SIGTERM in turn, and starts it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chance = random.Random(SEED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.ended: Counter[str] = Counter()
        self.log: list[dict[str, object]] = []

    def _run(self) -> None:
        while not self._over.is_set():
            agent = Agent(self._node)
            self._over.wait(self._chance.uniform(0.1, 0.6))
            how = WAYS[sum(self.ended.values()) % len(WAYS)]
            self.ended[how] += 1
            if how == "terminate":
                agent.stop()
            elif how == "kill":
                agent.process.kill()
            else:  # it hangs for a while: whoever waits for it must not begin anew meanwhile
                agent.process.send_signal(19)
                time.sleep(0.3)
                agent.process.kill()
            agent.process.wait()
            self.log += agent.log()
            agent.end()

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """While the block runs."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def _life(call: Call, pod: Pod) -> list[tuple[str, int, object]]:
    """Six calls of a pod; what each answered."""
    answers: list[tuple[str, int, object]] = []

    def ask(verb: str, document: object, **more: str) -> object:
        reply = call(verb, pod, document, **more)
        answers.append((verb, reply.returncode, reply.json))
        return reply.json

    result = ask("ADD", DOCUMENT)
    with_result = {**DOCUMENT, "prevResult": result}
    ask("CHECK", with_result)
    ask("DEL", with_result)
    again = ask("ADD", DOCUMENT)
    ask("CHECK", {**DOCUMENT, "prevResult": again})
    ask("DEL", {**DOCUMENT, "prevResult": again})
    return answers


@pytest.mark.timeout(400)
def test_five_hundred_calls_while_the_agent_dies(
    node: Node, call: Call, snapshot: Callable[[], Snapshot]
) -> None:
    before, chaos = snapshot(), Chaos(node)
    pods = [node.pod() for _ in range(PODS)]
    answers: list[tuple[str, int, object]] = []
    with chaos.going_on(), ThreadPoolExecutor(CALLERS) as pool:
        for _ in range(ROUNDS):
            for life in pool.map(lambda pod: _life(call, pod), pods):
                answers += life
    assert len(answers) >= 500
    assert [answer for answer in answers if answer[1] != 0] == []
    assert left(before, snapshot().without(r"/agent\.")) == []
    assert len(chaos.ended) == len(WAYS), chaos.ended
    _none_twice(chaos.log)


def _none_twice(log: list[dict[str, object]]) -> None:
    """A call that an agent has ended well is not served again, by it or by its follower: every
    pod of the test makes each ADD once, so an ADD between two others has a DEL between them."""
    lives: dict[object, list[object]] = {}
    for line in log:
        if line.get("message") == "call" and line["outcome"] == "done" and line["verb"] != "CHECK":
            lives.setdefault(line["container"], []).append(line["verb"])
    assert lives
    for container, verbs in lives.items():
        adds = verbs.count("ADD")
        assert adds <= 2 * ROUNDS, (container, verbs)
