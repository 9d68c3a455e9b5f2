"""One event is one line, whatever the fields hold and whoever reads stderr."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from cni_plugin.agent.config import LogConfig
from cni_plugin.agent.logs import WAITING_MAX, LogSink, as_json, as_text
from tests.unit.agent.kit import report

FORMS = ("text", "json")
# What ends a line or moves a cursor somewhere: C0, DEL, C1 (NEL, CSI), Unicode's separators, and a
# byte that was no UTF-8.
NASTY = "a\n\r\x00\x0b\x0c\x1b[2K\x7f\x85\x9b\u2028\u2029\udc80b"


def written(told: Callable[[LogSink], object], **config: Any) -> list[str]:
    """The lines that a log writes of what it is told."""
    reading, writing = os.pipe()
    log = LogSink(LogConfig(**config), writing)
    told(log)
    log.close(10)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode("ascii").splitlines()


def test_a_call_in_text() -> None:
    (line,) = written(lambda log: log.call(report(pod="default/web app")))
    assert re.sub(r"^time=\S+ ", "", line) == (
        "level=info message=call verb=ADD outcome=done network=net container=c1 ifname=eth0"
        ' pod="default/web app" netns=/run/netns/p1 ms=1750.0 waited_ms=250.0'
    )


def test_a_call_in_json_is_one_object() -> None:
    failed = report(outcome="failed", code=11, message="try again")
    (line,) = written(lambda log: log.call(failed), format="json")
    found = json.loads(line)
    assert datetime.fromisoformat(found.pop("time")).tzinfo is not None
    assert found == {
        "level": "error",
        "message": "call",
        "verb": "ADD",
        "outcome": "failed",
        "network": "net",
        "container": "c1",
        "ifname": "eth0",
        "pod": "default/web",
        "netns": "/run/netns/p1",
        "ms": 1750.0,
        "waited_ms": 250.0,
        "code": 11,
        "error": "try again",
    }


def test_debug_tells_the_stages() -> None:
    (line,) = written(lambda log: log.call(report()), level="debug", format="json")
    assert {"config_ms": 250.0, "apply_ms": 1000.0}.items() <= json.loads(line).items()


def test_a_status_that_is_well_is_not_worth_a_line() -> None:
    def told(log: LogSink) -> None:
        log.call(report(verb="STATUS"))
        log.call(report(verb="STATUS", outcome="failed", code=50))

    assert [json.loads(line)["code"] for line in written(told, format="json")] == [50]


def test_a_level_keeps_what_is_below_out() -> None:
    def told(log: LogSink) -> None:
        for level in ("info", "warning", "error"):
            log.event(level, "said", {})

    lines = written(told, level="warning", format="json")
    assert [json.loads(line)["level"] for line in lines] == ["warning", "error"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "field", ["verb", "network", "container_id", "ifname", "netns", "pod", "outcome", "message"]
)
def test_no_field_of_a_call_makes_another_line(form: str, field: str) -> None:
    nasty = report(**{"code": 7, field: NASTY})
    (line,) = written(lambda log: log.call(nasty), format=form)
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("form", FORMS)
def test_no_message_makes_another_line(form: str) -> None:
    def told(log: LogSink) -> None:
        log.event("info", NASTY, {"path": NASTY})
        log.repaired("garbage", (NASTY,), (NASTY,))

    lines = written(told, format=form)
    assert len(lines) == 3
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize("value", ['x outcome=done"', "x=y", "", 'a"b', "a\\b"])
def test_no_value_looks_like_another_field(value: str) -> None:
    """What follows the key is one JSON string."""
    line = as_text(0, "info", "said", {"field": value})
    assert json.loads(line.split(" field=", 1)[1]) == value


def test_json_tells_what_it_has_no_word_for_as_text() -> None:
    assert json.loads(as_json(0, "info", "said", {"count": 3, "what": {1}})) | {"time": ""} == {
        "time": "", "level": "info", "message": "said", "count": 3, "what": "{1}",
    }  # fmt: skip


def test_a_stderr_that_nobody_reads_any_more_ends_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = LogSink(LogConfig(), writing)
    log.event("info", "into nothing", {})
    log.close(10)
    assert not log._lines._thread.is_alive()
    os.close(writing)


def test_a_reader_that_is_stuck_is_not_waited_for_and_told_what_it_missed() -> None:
    reading, writing = os.pipe()
    log = LogSink(LogConfig(format="json"), writing)
    long = "x" * 1000  # the pipe holds 64 of them
    told = WAITING_MAX + 1000
    for _ in range(told):
        log.event("info", long, {})
    with os.fdopen(reading, "rb") as pipe:
        seen = lost = 0
        while seen + lost < told:
            found = json.loads(pipe.readline())
            lost += found.get("lines", 0)
            seen += found["message"] == long
    log.close(10)
    os.close(writing)
    assert lost > 0
    assert seen + lost == told
