"""The agent's log: one line an event on stderr, for people or as JSON.

A line is ASCII and holds no control byte, whatever a field holds, so nothing that a caller sends
can look like another line, or like another field of its own. Written by a thread: where nobody
reads stderr, lines are dropped and counted, and no call waits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Thread

from cni_plugin.agent.config import LogConfig
from cni_plugin.agent.report import CallReport

STDERR = 2
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Of the outcomes of a call; any other is an error.
LEVEL_OF = {
    "done": "info",
    "declined": "info",
    "remembered": "info",
    "dropped": "warning",
    "undone": "warning",
}
ROUTINE = ("STATUS", "VERSION")  # asked every few seconds: told when they fail, or at level debug
WAITING_MAX = 10_000  # lines, some 4 MB
TOGETHER_MAX = 256  # lines of one write

Fields = Mapping[str, object]


class LogSink:
    """Writes what it is told to a descriptor, which stays the caller's."""

    def __init__(self, config: LogConfig, descriptor: int = STDERR) -> None:
        self._form = as_json if config.format == "json" else as_text
        self._least = LEVELS[config.level]
        self._lines = _Lines(descriptor, self._lost)

    def call(self, report: CallReport) -> None:
        """A line a call."""
        routine = report.code == 0 and report.verb in ROUTINE
        level = "debug" if routine else LEVEL_OF.get(report.outcome, "error")
        if LEVELS[level] >= self._least:
            fields = call_fields(report, stages=self._least <= LEVELS["debug"])
            self._write(level, "call", fields)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """A line each."""
        for line in lines:
            self._write("warning", line, {"round": what})
        for line in failures:
            self._write("error", line, {"round": what})

    def paced(self, lines: tuple[str, ...]) -> None:
        """A line each."""
        for line in lines:
            self._write("warning", line, {"round": "repair"})

    def event(self, level: str, message: str, fields: Fields) -> None:
        """A line."""
        self._write(level, message, fields)

    def close(self, limit_s: float = 1.0) -> None:
        """Waits until everything is written, for so long."""
        self._lines.close(limit_s)

    def _write(self, level: str, message: str, fields: Fields) -> None:
        if LEVELS[level] >= self._least:
            self._lines.put(self._form(time.time(), level, message, fields))

    def _lost(self, count: int) -> str:
        message = "lines were lost: stderr could not be written to"
        return self._form(time.time(), "warning", message, {"lines": count})


def call_fields(report: CallReport, *, stages: bool) -> dict[str, object]:
    """What a call's line says; what is empty is left out."""
    fields: dict[str, object] = {
        "verb": report.verb,
        "outcome": report.outcome,
        "network": report.network,
        "container": report.container_id,
        "ifname": report.ifname,
        "pod": report.pod,
        "netns": report.netns,
        "ms": _ms(report.waited_s + report.ran_s),
        "waited_ms": _ms(report.waited_s),
    }
    if report.code:
        fields |= {"code": report.code, "error": report.message}
    if stages:
        fields |= {f"{name}_ms": _ms(seconds) for name, seconds in report.stages}
    return {key: value for key, value in fields.items() if value != ""}


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def as_text(at_s: float, level: str, message: str, fields: Fields) -> str:
    """`time=... level=... message="..." key=value`, the form called logfmt."""
    words = {"time": _moment(at_s), "level": level, "message": message, **fields}
    return " ".join(f"{key}={_word(value)}" for key, value in words.items())


def as_json(at_s: float, level: str, message: str, fields: Fields) -> str:
    """One object."""
    return json.dumps(
        {"time": _moment(at_s), "level": level, "message": message, **fields}, default=str
    )


def _moment(at_s: float) -> str:
    """ISO 8601 with the zone's offset, which every reader knows how to order."""
    return datetime.fromtimestamp(at_s).astimezone().isoformat(timespec="milliseconds")


def _word(value: object) -> str:
    """As it is when nothing in it has a meaning of its own; otherwise a JSON string."""
    text = str(value)
    plain = text and text.isascii() and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else json.dumps(text)


class _Lines:
    """Lines on their way to a descriptor. lost: makes the line that tells of dropped ones."""

    def __init__(self, descriptor: int, lost: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._lost_line = lost
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._lost = 0
        self._thread = Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Never waits."""
        if self._queue.qsize() < WAITING_MAX:
            self._queue.put(line)
        else:
            self._lost += 1

    def close(self, limit_s: float) -> None:
        """Waits for what is queued, for so long: a reader that is stuck may stay so."""
        self._queue.put(None)
        self._thread.join(limit_s)

    def _run(self) -> None:
        ended = False
        while not ended:
            lines, ended = self._gathered()
            lost, self._lost = self._lost, 0
            told = [*lines, self._lost_line(lost)] if lost else lines
            if told and not self._send("".join(f"{line}\n" for line in told).encode()):
                self._lost += len(lines) + lost

    def _gathered(self) -> tuple[list[str], bool]:
        """What there is to write, one line at least, and whether that was all."""
        lines: list[str] = []
        line = self._queue.get()
        while line is not None:
            lines.append(line)
            if len(lines) == TOGETHER_MAX:
                return lines, False
            try:
                line = self._queue.get_nowait()
            except Empty:
                return lines, False
        return lines, True

    def _send(self, data: bytes) -> bool:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # closed, or the reader has gone: there may be another one later
            return False
        return True
