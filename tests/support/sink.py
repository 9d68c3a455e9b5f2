"""Who is told by what is tested, and keeps it."""

from __future__ import annotations

from collections.abc import Mapping

from cni_plugin.agent.report import CallReport


class Sink:
    """Keeps events; nothing else is to be told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []  # level and message

    def call(self, report: CallReport) -> None:
        raise AssertionError(report)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        raise AssertionError((what, lines, failures))

    def paced(self, lines: tuple[str, ...]) -> None:
        raise AssertionError(lines)

    def event(self, level: str, message: str, _fields: Mapping[str, object]) -> None:
        self.events.append((level, message))
