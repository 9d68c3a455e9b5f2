"""A span for each call, in the trace that the runtime began (W3C trace context, from TRACEPARENT).

Made when the call has ended, from what its report tells: nothing is measured twice, and a call that
nobody traces pays nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import cni_plugin
from cni_plugin.agent.config import TracingConfig
from cni_plugin.agent.report import CallReport, known_verb

STOP_LIMIT_MS = 1000  # for what has not been sent at the agent's end
_CONTEXT = TraceContextTextMapPropagator()


def exporter(config: TracingConfig | str) -> SpanExporter:
    """OTLP over HTTP, to the endpoint of the config, or of OTEL_EXPORTER_OTLP_ENDPOINT."""
    if isinstance(config, TracingConfig):
        return OTLPSpanExporter(endpoint=config.endpoint)
    return OTLPSpanExporter()


class TraceSink:
    """Makes spans of calls. They are sent by a thread; what it cannot send is dropped."""

    def __init__(self, target: SpanExporter) -> None:
        # Resource.create adds OTEL_RESOURCE_ATTRIBUTES; what is said here comes first.
        named = {SERVICE_NAME: "podwire", SERVICE_VERSION: cni_plugin.__version__}
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(target))
        self._tracer = self._provider.get_tracer("podwire", cni_plugin.__version__)

    def call(self, report: CallReport) -> None:
        """A span, and one below it a stage."""
        record(self._tracer, report)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """No part of anybody's trace."""

    def paced(self, lines: tuple[str, ...]) -> None:
        """No part of anybody's trace."""

    def event(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """No part of anybody's trace."""

    def close(self) -> None:
        """Sends what is left, for a while."""
        self._provider.force_flush(STOP_LIMIT_MS)
        self._provider.shutdown()


def record(tracer: Tracer, report: CallReport) -> None:
    """The call's spans. A stage that was used more than once is one span, from its first use and as
    long as all its uses together."""
    span = tracer.start_span(
        f"cni.{known_verb(report.verb)}",
        context=parent(report.environ),
        kind=SpanKind.SERVER,
        attributes=attributes(report),
        start_time=_ns(report.began_s),
    )
    if span.is_recording():
        below = set_span_in_context(span)
        starts = dict(report.starts)
        for name, seconds in report.stages:
            began_s = report.began_s + starts.get(name, report.waited_s)
            stage = tracer.start_span(f"cni.stage.{name}", context=below, start_time=_ns(began_s))
            stage.end(_ns(began_s + seconds))
        if report.code:
            span.set_status(Status(StatusCode.ERROR, _text(report.message)))
    span.end(_ns(report.began_s + report.waited_s + report.ran_s))


def parent(environ: Mapping[str, str]) -> Context:
    """The trace to continue; an empty context, which begins one, without TRACEPARENT or with one
    that is malformed. Source: W3C Trace Context, 3.2 and 3.3."""
    names = ("traceparent", "tracestate")
    return _CONTEXT.extract({name: environ.get(name.upper(), "") for name in names}, Context())


def attributes(report: CallReport) -> dict[str, str | int | float]:
    """What is known of the call."""
    texts = {
        "cni.verb": report.verb,
        "cni.network": report.network,
        "cni.container_id": report.container_id,
        "cni.ifname": report.ifname,
        "cni.netns": report.netns,
        "cni.outcome": report.outcome,
        "k8s.pod": report.pod,
    }
    known = {name: _text(text) for name, text in texts.items() if text}
    return {**known, "cni.code": report.code, "podwire.waited_s": report.waited_s}


def _text(text: str) -> str:
    """What came as bytes that are no UTF-8 cannot be sent as text."""
    return text.encode(errors="replace").decode()


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000) * 1000  # a float of today holds no nanoseconds
