"""A call is a span of the trace that the runtime began."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cni_plugin.agent.report import CallReport
from cni_plugin.agent.tracing import record
from tests.unit.agent.kit import report

# The example of W3C Trace Context, 3.2.4.
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"


def spans(told: CallReport) -> dict[str, ReadableSpan]:
    """The spans made of a report, by name."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    record(provider.get_tracer("test"), told)
    return {span.name: span for span in exporter.get_finished_spans()}


def test_the_callers_trace_is_continued() -> None:
    environ = {"TRACEPARENT": TRACEPARENT, "TRACESTATE": "congo=t61rcWkgMzE"}
    call = spans(report(environ=environ))["cni.ADD"]
    assert f"{call.context.trace_id:032x}" == TRACE
    assert call.parent is not None
    assert f"{call.parent.span_id:016x}" == SPAN
    assert call.context.trace_state.to_header() == "congo=t61rcWkgMzE"


@pytest.mark.parametrize(
    "value",
    ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01", TRACEPARENT + "\udc80"],
)
def test_a_trace_context_that_is_malformed_is_as_good_as_none(value: str) -> None:
    call = spans(report(environ={"TRACEPARENT": value, "TRACESTATE": "\udc80=,="}))["cni.ADD"]
    assert call.parent is None


def test_who_does_not_sample_gets_no_spans() -> None:
    assert spans(report(environ={"TRACEPARENT": f"00-{TRACE}-{SPAN}-00"})) == {}


def test_the_spans_times_are_the_calls() -> None:
    """It began at 1,700,000,000 s, waited 0.25 s and ran 1.5 s."""
    second = 1_000_000_000
    began = 1_700_000_000 * second
    times = {name: (span.start_time, span.end_time) for name, span in spans(report()).items()}
    assert times == {
        "cni.ADD": (began, began + second * 7 // 4),
        "cni.stage.config": (began + second // 4, began + second // 2),
        "cni.stage.apply": (began + second // 2, began + second * 3 // 2),
    }


def test_stages_are_below_the_call() -> None:
    found = spans(report(environ={"TRACEPARENT": TRACEPARENT}))
    call = found.pop("cni.ADD").context
    parents = {span.parent.span_id for span in found.values() if span.parent}
    assert parents == {call.span_id}
    assert {span.context.trace_id for span in found.values()} == {call.trace_id}


def test_what_is_known_of_the_call() -> None:
    call = spans(report(container_id="c\udc80", pod="", outcome="failed", code=11, message="why"))
    span = call["cni.ADD"]
    assert dict(span.attributes or {}) == {
        "cni.verb": "ADD",
        "cni.network": "net",
        "cni.container_id": "c?",
        "cni.ifname": "eth0",
        "cni.netns": "/run/netns/p1",
        "cni.outcome": "failed",
        "cni.code": 11,
        "podwire.waited_s": 0.25,
    }
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "why")


def test_a_verb_that_a_caller_made_up_names_no_span() -> None:
    assert "cni.other" in spans(report(verb="x" * 9999))
