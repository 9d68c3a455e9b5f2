"""What the agent counts and times, for Prometheus. docs/agent.md names and explains each metric.

No label holds a container id, a pod or anything else that comes new with every call: the number of
series is bounded by the code and by the node's networks.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import cni_plugin
from cni_plugin.agent.desk import Lane
from cni_plugin.agent.http import App
from cni_plugin.agent.report import CallReport, Sink, known_verb
from cni_plugin.agent.totals import Totals
from cni_plugin.pools import METRICS, Stat, config_files, configured, stats
from ipam.errors import IpamError

# Seconds. A warm ADD takes 2 to 4 ms, a DEL 10 to 30 (grace periods), a wait for duplicate address
# detection 1 to 2 s, and 60 is where launchers and runtimes lose patience.
CALL_BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.01, 0.016, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1,
    2.5, 5, 10, 30, 60,
)  # fmt: skip
# Verbs have up to eight stages, so fewer buckets of each.
STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.03, 0.06, 0.25, 1, 5, 60)
POOLS_KEPT_S = 10.0  # of a store with thousands of reservations a look takes some 100 ms


class MetricsSink:
    """Counts what it is told, in a registry of its own."""

    def __init__(self) -> None:
        # Otherwise each series has a second one, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Info("podwire_build", "The agent that runs.", registry=registry)
        build.info({"version": cni_plugin.__version__, "python": platform.python_version()})
        self._calls = Counter(
            "podwire_calls", "Calls that ended.", ("verb", "outcome", "code"), registry=registry
        )
        self._call_s = Histogram(
            "podwire_call_seconds", "From a call's arrival to its answer.",
            ("verb", "outcome"), buckets=CALL_BUCKETS, registry=registry,
        )  # fmt: skip
        self._stage_s = Histogram(
            "podwire_stage_seconds", "Of a call: one of its stages.",
            ("verb", "stage"), buckets=STAGE_BUCKETS, registry=registry,
        )  # fmt: skip
        self._wait_s = Histogram(
            "podwire_wait_seconds", "From a call's arrival to a thread that serves it.",
            buckets=CALL_BUCKETS, registry=registry,
        )  # fmt: skip
        self._repairs = Counter(
            "podwire_repairs", "What rounds have freed, repaired or rolled back.",
            ("round",), registry=registry,
        )  # fmt: skip
        self._repair_failures = Counter(
            "podwire_repair_failures", "What rounds could not do.", ("round",), registry=registry
        )
        self._paces = Counter(
            "podwire_repair_paces",
            "Changes of how often something is put back that somebody keeps undoing.",
            registry=registry,
        )
        self._events = Counter(
            "podwire_events", "Other lines of the log.", ("level",), registry=registry
        )

    def call(self, report: CallReport) -> None:
        """A call has ended."""
        verb = known_verb(report.verb)
        self._calls.labels(verb, report.outcome, report.code).inc()
        self._call_s.labels(verb, report.outcome).observe(report.waited_s + report.ran_s)
        self._wait_s.observe(report.waited_s)
        for stage, seconds in report.stages:
            self._stage_s.labels(verb, stage).observe(seconds)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """The node was looked after."""
        self._repairs.labels(what).inc(len(lines))
        self._repair_failures.labels(what).inc(len(failures))

    def paced(self, lines: tuple[str, ...]) -> None:
        """How often something is put back has changed."""
        self._paces.inc(len(lines))

    def event(self, level: str, _message: str, _fields: Mapping[str, object]) -> None:
        """Anything else."""
        self._events.labels(level).inc()

    def page(self) -> App:
        """What answers to a scrape."""
        return cast("App", make_wsgi_app(self.registry))

    def watch_lanes(self, opened: Callable[[], int], lanes: Sequence[Lane]) -> None:
        """Gauges of the calls that wait or run, read when they are asked for."""
        gauge = Gauge("podwire_calls_open", "Calls that wait or run.", registry=self.registry)
        gauge.set_function(opened)
        by_lane = Gauge(
            "podwire_lane_calls", "Calls by lane; the others wait for one of their attachment.",
            ("lane", "state"), registry=self.registry,
        )  # fmt: skip
        for lane in lanes:
            for state in ("queued", "running"):
                by_lane.labels(lane.name, state).set_function(partial(getattr, lane, state))

    def watch_pools(self, data_dirs: tuple[str, ...], sink: Sink) -> None:
        """Gauges of the addresses in use. sink: told when they cannot be counted."""
        self.registry.register(Pools(lambda: node_stats(data_dirs), sink))

    def watch_cluster(self, totals: Totals) -> None:
        """Numbers of the cluster, read when they are asked for."""
        self.registry.register(ClusterNumbers(totals))


class ClusterNumbers(Collector):
    """What the cluster's rounds have counted."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """Gauges of now, counters of ever."""
        totals = self._totals
        for name, text, value in (
            ("nodes", "Nodes that the source tells of.", totals.nodes),
            ("peers", "Other nodes whose ranges and addresses are used.", totals.peers),
            ("synced", "1: the source was heard; 0: what is known is of before.", totals.synced),
        ):
            yield GaugeMetricFamily(f"podwire_cluster_{name}", text, float(value))
        if totals.heard is not None:
            yield GaugeMetricFamily(
                "podwire_cluster_source_up",
                "1: the Kubernetes API is heard now.",
                int(totals.heard),
            )
        for name, text, count in (
            ("losses", "How often the Kubernetes API was lost.", totals.losses),
            ("relists", "How often all nodes were listed anew.", totals.lists),
        ):
            yield CounterMetricFamily(f"podwire_cluster_source_{name}", text, count)
        if totals.conflist is not None:
            yield from _of_conflist(totals)
        refused = GaugeMetricFamily(
            "podwire_cluster_refused", "Ranges and addresses that are not used.", labels=("reason",)
        )
        for reason, count in sorted(totals.refused.items()):
            refused.add_metric((reason,), count)
        yield refused
        for name, label, text, counts in (
            ("steps", "kind", "Changes made to routes, neighbours and tunnels.", totals.steps),
            ("passes", "kind", "Comparisons of what is wanted with what is there.", totals.passes),
        ):
            family = CounterMetricFamily(f"podwire_cluster_{name}", text, labels=(label,))
            for kind, count in sorted(counts.items()):
                family.add_metric((kind,), count)
            yield family
        yield CounterMetricFamily(
            "podwire_cluster_pass_seconds", "Time that passes took.", totals.seconds
        )


def _of_conflist(totals: Totals) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "podwire_cluster_conflist",
        "1: the runtime's config list is there as it should be.",
        int(bool(totals.conflist)),
    )
    yield GaugeMetricFamily(
        "podwire_cluster_conflist_template",
        "1: the config list's template is used as it is; 0: it is no good.",
        int(totals.template is not False),
    )
    rivals = GaugeMetricFamily(
        "podwire_cluster_conflist_rivals", "Config lists of others beside it.", labels=("order",)
    )
    for order in ("before", "after"):
        rivals.add_metric((order,), totals.rivals[order])
    yield rivals


def node_stats(data_dirs: tuple[str, ...]) -> list[Stat]:
    """The node's range sets as they are now. What is wrong with a config list is for `podwire
    validate` to tell, not for every scrape. Raises OSError and IpamError."""
    return list(stats(configured(config_files(None), lambda _message, _remedy: None), data_dirs))


class Pools(Collector):
    """The gauges of `podwire ipam stats --metrics`. Counted in the thread that asks, at most every
    POOLS_KEPT_S."""

    def __init__(self, count: Callable[[], list[Stat]], sink: Sink) -> None:
        self._count = count
        self._sink = sink
        self._known: list[Stat] = []
        self._until_s = 0.0

    def describe(self) -> list[Metric]:
        """The names, so that registering does not count already."""
        return [_family(name) for name in METRICS]

    def collect(self) -> Iterator[Metric]:
        """Each range set once: two config lists may name the same network."""
        by_labels = {(stat.network, stat.set): stat for stat in reversed(self._current())}
        for name in METRICS:
            family = _family(name)
            for labels, stat in sorted(by_labels.items()):
                value = stat.total if name == "size" else getattr(stat, name)
                if value is not None:
                    family.add_metric(labels, value)
            yield family

    def _current(self) -> list[Stat]:
        if time.monotonic() >= self._until_s:
            try:
                self._known = self._count()
            except (OSError, IpamError) as error:
                self._known = []  # a gap in the graph, rather than numbers of long ago
                self._sink.event("warning", f"addresses cannot be counted: {error}", {})
            self._until_s = time.monotonic() + POOLS_KEPT_S
        return self._known


def _family(name: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(
        f"podwire_ipam_{name}_addresses", METRICS[name], labels=("network", "set")
    )
