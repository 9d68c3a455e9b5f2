"""Log, metrics, traces and probes of one agent, put together as its config says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.desk import Desk
from cni_plugin.agent.health import Pulse, Readiness, Watched
from cni_plugin.agent.logs import LogSink
from cni_plugin.agent.sinks import Sinks
from cni_plugin.cni.errors import InvalidNetworkConfig

if TYPE_CHECKING:
    from cni_plugin.agent.metrics import MetricsSink
    from cni_plugin.agent.totals import Totals

Reasons = Callable[[], tuple[str, ...]]

PATIENT = "lane patient"
NO_METRICS = (
    "no metrics: prometheus-client is not installed; pip install 'podwire[agent]' brings it,"
    " `metrics: off` in the agent's config does without"
)


class Telemetry:
    """Whom the agent tells (sink), and why it is not ready (readiness). Raises CNIError when the
    config asks for what cannot be had."""

    def __init__(self, config: AgentConfig) -> None:
        self.readiness = Readiness()
        self.readiness.set("start", "not serving yet")
        self._config = config
        self._closing = ExitStack()
        log = LogSink(config.log)
        self._closing.callback(log.close)
        self.sink = Sinks(log)
        if config.tracing != "off":
            self._trace()
        self._metrics = None if config.metrics == "off" else self._count()

    def _trace(self) -> None:
        try:
            from cni_plugin.agent.tracing import TraceSink, exporter
        except ImportError as error:
            raise InvalidNetworkConfig(
                f"tracing needs OpenTelemetry: {error}",
                "pip install 'podwire[tracing]' brings it, `tracing: off` does without",
            ) from error
        traces = TraceSink(exporter(self._config.tracing))
        self._closing.callback(traces.close)
        self.sink.add(traces)

    def _count(self) -> MetricsSink | None:
        try:
            from cni_plugin.agent.metrics import MetricsSink
        except ImportError:
            self.sink.event("warning", NO_METRICS, {})
            return None
        metrics = MetricsSink()
        metrics.watch_pools(self._config.data_dirs, self.sink)
        self.sink.add(metrics)
        return metrics

    def watch_cluster(self, totals: Totals) -> None:
        """Counts what the cluster's rounds do."""
        if self._metrics is not None:
            self._metrics.watch_cluster(totals)

    def serve(self, loop: asyncio.AbstractEventLoop, desk: Desk) -> None:
        """Answers to probes and scrapes from now on. Raises CNIError when that is not possible."""
        if self._config.metrics == "off":
            return
        from cni_plugin.agent.http import Http, application

        if self._metrics is not None:
            self._metrics.watch_lanes(lambda: desk.open, desk.lanes)
        page = self._metrics.page() if self._metrics else NO_METRICS
        app = application(page, *self._probes(loop, desk), self.readiness.notes)
        self._closing.callback(Http(self._config.metrics, app).close)

    def _probes(self, loop: asyncio.AbstractEventLoop, desk: Desk) -> tuple[Reasons, Reasons]:
        """Reasons against being alive, and against being ready."""
        everybody = [
            Watched("the loop", loop.call_soon_threadsafe, int),
            *(
                Watched(f"lane {one.name}", one.ask, partial(getattr, one, "served"))
                for one in desk.lanes
            ),
        ]
        # A patient lane may wait for others, for as long as they need: nothing to restart for.
        pulse = Pulse([part for part in everybody if part.name != PATIENT])
        whole = Pulse(everybody)
        return pulse.stuck, lambda: (*self.readiness.reasons(), *whole.stuck())

    def close(self) -> None:
        """The last thing: what is not yet written or sent is, for a short while."""
        self._closing.close()
