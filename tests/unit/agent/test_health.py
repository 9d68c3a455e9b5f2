"""Alive is who answers or gets on with its work; ready is whom nobody has a reason against."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from cni_plugin.agent.health import Pulse, Readiness, Watched

LIMIT_S = 0.05


def test_ready_when_every_reason_is_cleared() -> None:
    ready = Readiness()
    ready.set("start", "not serving yet")
    ready.set("rounds", "failed")
    ready.clear("start")
    ready.clear("never set")
    assert ready.reasons() == ("rounds: failed",)
    ready.clear("rounds")
    assert ready.reasons() == ()


def test_a_reason_is_one_line_and_the_last_one_counts() -> None:
    ready = Readiness()
    ready.set("rounds", "first")
    ready.set("rounds", "second\nline")
    assert ready.reasons() == ("rounds: second line",)


def test_a_note_is_no_reason_and_goes_when_it_is_empty() -> None:
    ready = Readiness()
    ready.note("conflist", "worth a\nlook")
    assert (ready.reasons(), ready.notes()) == ((), ("note: conflist: worth a look",))
    ready.note("conflist", "")
    assert ready.notes() == ()


def test_who_answers_is_alive() -> None:
    assert Pulse([Watched("lane", lambda done: done(), int)], LIMIT_S).stuck() == ()


def test_who_does_not_answer_is_named() -> None:
    silent = Watched("lane", lambda done: None, int)
    alive = Watched("loop", lambda done: done(), int)
    assert Pulse([silent, alive], LIMIT_S).stuck() == ("lane has not answered for 0.05 s",)


def test_who_has_much_to_do_is_alive() -> None:
    served = count()
    assert Pulse([Watched("lane", lambda done: None, lambda: next(served))], LIMIT_S).stuck() == ()


def test_who_is_stuck_is_not_asked_again_until_it_answers() -> None:
    """Otherwise each probe would leave something in a queue that nobody empties."""
    asked: list[Callable[[], object]] = []
    pulse = Pulse([Watched("lane", asked.append, int)], LIMIT_S)
    pulse.stuck()
    pulse.stuck()
    assert len(asked) == 1
    asked[0]()
    assert len(pulse.stuck()) == 1  # asked anew, and silent again
    assert len(asked) == 2


def test_a_loop_that_has_ended_is_stuck() -> None:
    def closed(done: Callable[[], object]) -> None:
        raise RuntimeError("Event loop is closed")

    assert len(Pulse([Watched("the loop", closed, int)], LIMIT_S).stuck()) == 1
