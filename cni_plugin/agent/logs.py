"""The agent's log: one line an event on stderr, for people or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping

from cni_plugin.agent.config import LogConfig
from cni_plugin.agent.report import CallReport

LEVELS = {"done": logging.INFO, "declined": logging.INFO, "dropped": logging.WARNING}


class LogSink:
    """Writes what it is told to a logger."""

    def __init__(self, config: LogConfig) -> None:
        self._log = logging.getLogger("podwire.agent")
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Json() if config.format == "json" else _Text())
        self._log.handlers = [handler]
        self._log.propagate = False
        self._log.setLevel(config.level.upper())

    def call(self, report: CallReport) -> None:
        """A line a call."""
        fields: dict[str, object] = {
            "verb": report.verb,
            "outcome": report.outcome,
            "network": report.network,
            "container": report.container_id,
            "ifname": report.ifname,
            "pod": report.pod,
            "netns": report.netns,
            "ms": round((report.waited_s + report.ran_s) * 1000, 2),
            "waited_ms": round(report.waited_s * 1000, 2),
        }
        if report.code:
            fields |= {"code": report.code, "error": report.message}
        level = LEVELS.get(report.outcome, logging.ERROR)
        self._write(level, "call", {key: value for key, value in fields.items() if value != ""})

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """A line each."""
        for line in lines:
            self._write(logging.WARNING, line, {"round": what})
        for line in failures:
            self._write(logging.ERROR, line, {"round": what})

    def event(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """A line."""
        self._write(logging.getLevelNamesMapping()[level.upper()], message, fields)

    def _write(self, level: int, message: str, fields: Mapping[str, object]) -> None:
        self._log.log(level, message, extra={"fields": fields})


class _Text(logging.Formatter):
    """time level message key=value ..."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        words = [f"{key}={_word(value)}" for key, value in fields.items()]
        head = f"{self.formatTime(record)} {record.levelname.lower()} {record.getMessage()}"
        return " ".join([head, *words])


def _word(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else json.dumps(text)


class _Json(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        head = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        return json.dumps({**head, **fields}, ensure_ascii=False)
