"""A round of the agent that ends though nobody asked it to is told of, and the others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import CallReport
from cni_plugin.agent.run import tell_end


class _Sink:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def call(self, report: CallReport) -> None:
        raise AssertionError(report)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        raise AssertionError((what, lines, failures))

    def paced(self, lines: tuple[str, ...]) -> None:
        raise AssertionError(lines)

    def event(self, level: str, message: str, _fields: Mapping[str, object]) -> None:
        self.events.append((level, message))


async def _fails() -> None:
    raise ValueError("x")


async def _goes_on(failed: asyncio.Event, went_on: asyncio.Event) -> None:
    await failed.wait()
    went_on.set()
    await asyncio.Event().wait()


def test_one_that_fails_is_told_and_counts_against_readiness() -> None:
    sink, readiness = _Sink(), Readiness()

    async def main() -> None:
        failed, went_on = asyncio.Event(), asyncio.Event()
        rounds = asyncio.gather(_fails(), _goes_on(failed, went_on))
        rounds.add_done_callback(lambda ended: tell_end(ended, sink, readiness))
        await asyncio.gather(rounds, return_exceptions=True)
        failed.set()
        await asyncio.wait_for(went_on.wait(), 10)

    asyncio.run(main())
    line = "one of the agent's rounds has ended: ValueError: x"
    assert sink.events == [("error", line)]
    assert readiness.reasons() == (f"rounds: {line}",)


def test_a_stop_is_no_failure() -> None:
    sink, readiness = _Sink(), Readiness()

    async def main() -> None:
        rounds = asyncio.gather(_goes_on(asyncio.Event(), asyncio.Event()))
        rounds.add_done_callback(lambda ended: tell_end(ended, sink, readiness))
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)

    asyncio.run(main())
    assert (sink.events, readiness.reasons()) == ([], ())
