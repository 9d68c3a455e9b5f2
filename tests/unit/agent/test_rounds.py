"""A round of the agent that ends though nobody asked it to is told of, and the others go on."""

from __future__ import annotations

import asyncio

from cni_plugin.agent.health import Readiness
from cni_plugin.agent.run import tell_end
from tests.support.sink import Sink


async def _fails() -> None:
    raise ValueError("x")


async def _goes_on(failed: asyncio.Event, went_on: asyncio.Event) -> None:
    await failed.wait()
    went_on.set()
    await asyncio.Event().wait()


def test_one_that_fails_is_told_and_counts_against_readiness() -> None:
    sink, readiness = Sink(), Readiness()

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
    sink, readiness = Sink(), Readiness()

    async def main() -> None:
        rounds = asyncio.gather(_goes_on(asyncio.Event(), asyncio.Event()))
        rounds.add_done_callback(lambda ended: tell_end(ended, sink, readiness))
        rounds.cancel()
        await asyncio.gather(rounds, return_exceptions=True)

    asyncio.run(main())
    assert (sink.events, readiness.reasons()) == ([], ())
