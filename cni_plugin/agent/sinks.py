"""Everybody who wants to know what the agent does, as one Sink."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin.agent.report import CallReport, Sink


class Sinks:
    """Tells each of its sinks. One that raises is reported once, by the others, and told on: it
    disturbs neither them nor the call."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = list(sinks)
        self._faulty: set[int] = set()

    def add(self, sink: Sink) -> None:
        """One more, from now on."""
        self._sinks.append(sink)

    def call(self, report: CallReport) -> None:
        """A call has ended."""
        self._tell(lambda sink: sink.call(report))

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """The node was looked after."""
        self._tell(lambda sink: sink.repaired(what, lines, failures))

    def paced(self, lines: tuple[str, ...]) -> None:
        """How often something is put back has changed."""
        self._tell(lambda sink: sink.paced(lines))

    def event(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """Anything else worth a line."""
        self._tell(lambda sink: sink.event(level, message, fields))

    def _tell(self, told: Callable[[Sink], None]) -> None:
        for sink in tuple(self._sinks):
            try:
                told(sink)
            except Exception as error:  # noqa: BLE001  nothing that only tells may end a call
                self._blame(sink, error)

    def _blame(self, sink: Sink, error: Exception) -> None:
        if id(sink) in self._faulty:
            return
        self._faulty.add(id(sink))
        what = f"{type(sink).__name__} fails, which is told once: {type(error).__name__}: {error}"
        self.event("error", what, {})  # ends: each sink is blamed at most once
