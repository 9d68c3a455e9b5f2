"""Telling must never be what ends a call."""

from __future__ import annotations

from typing import Any

from cni_plugin.agent.sinks import Sinks
from tests.unit.agent.kit import report


class Remembers:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def call(self, report: Any) -> None:
        self.told.append(("call", report))

    def repaired(self, *what: Any) -> None:
        self.told.append(("repaired", *what))

    def paced(self, *what: Any) -> None:
        self.told.append(("paced", *what))

    def event(self, *what: Any) -> None:
        self.told.append(("event", *what))


class Breaks(Remembers):
    """A sink that always fails."""

    def call(self, report: Any) -> None:
        raise ValueError("a bug")

    def event(self, *what: Any) -> None:
        raise ValueError("another")


def test_everybody_is_told_everything() -> None:
    first, second = Remembers(), Remembers()
    sinks = Sinks(first)
    sinks.add(second)
    sinks.call(report())
    sinks.repaired("garbage", ("freed",), ("not freed",))
    sinks.paced(("slower",))
    sinks.event("info", "said", {"key": 1})
    assert first.told == second.told
    assert first.told == [
        ("call", report()),
        ("repaired", "garbage", ("freed",), ("not freed",)),
        ("paced", ("slower",)),
        ("event", "info", "said", {"key": 1}),
    ]


def test_one_that_fails_is_reported_once_and_disturbs_nobody() -> None:
    before, after = Remembers(), Remembers()
    sinks = Sinks(before, Breaks(), after)
    sinks.call(report())
    sinks.call(report())
    line = "Breaks fails, which is told once: ValueError: a bug"
    calls, blame = ("call", report()), ("event", "error", line, {})
    assert before.told == [calls, blame, calls]
    assert after.told == [blame, calls, calls]


def test_two_that_fail_are_both_reported() -> None:
    last = Remembers()
    sinks = Sinks(Breaks(), Breaks(), last)
    sinks.call(report())
    assert [entry[0] for entry in last.told] == ["event", "event", "call"]
