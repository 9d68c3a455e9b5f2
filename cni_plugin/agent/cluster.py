"""The agent's part in the cluster: when passes are made, and what is told of them.

A pass follows each change of the source at once, an event of the kernel that contradicts what is
wanted a moment later, and 30 s of nothing. Passes have a thread of their own, so that no call and
no other round waits for 15,000 routes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import Sink
from cni_plugin.agent.totals import Totals
from cni_plugin.cluster.conf import ClusterConf
from cni_plugin.cluster.judge import Judge
from cni_plugin.cluster.reconciler import Plan, Reconciler, Report
from cni_plugin.cluster.source import Source
from cni_plugin.cluster.values import Cluster, Node, Refused
from cni_plugin.cni.errors import CNIError
from cni_plugin.kernel.drift import Drift
from cni_plugin.kernel.filter_drift import FilterDrift
from cni_plugin.kernel.host import Host
from ipam.values import IPAddress

NAME = "cluster"  # of the round and of the readiness' reason
PERIOD_S = 30.0  # between whole passes
SETTLE_S = 0.2  # after the first event: they come in swarms
PACE_S = 1.0  # between whole passes after events
FAILED_S = 2.0  # after a pass that could not look
UNHEARD = "its nodes are not known yet"

_Ear = TypeVar("_Ear", Drift, FilterDrift)
Ready = Callable[[Node, int | None], None]  # this node and its pods' MTU in bytes


class ClusterRounds:
    """Listens to the source and to the kernel, and lets the reconciler run. ready: told after each
    pass that leaves the node ready for pods."""

    def __init__(
        self,
        conf: ClusterConf,
        source: Source,
        sink: Sink,
        readiness: Readiness,
        totals: Totals,
        ready: Ready = lambda _node, _mtu: None,
    ) -> None:
        self._ready = ready
        self._sink = sink
        self._readiness = readiness
        self._host = Host()
        plan = Plan(conf.node, conf.backend, conf.rules, conf.settings, conf.policy)
        self._reconciler = Reconciler(plan, self._host)
        self._source = source
        self._name = conf.node
        self._thread = ThreadPoolExecutor(1, NAME)
        self._judge = Judge()
        self._cluster: Cluster | None = None
        self._addresses: frozenset[IPAddress] = frozenset()
        self._woken = asyncio.Event()
        self._changed = False  # the source has told something since the last pass began
        self._drifted = False  # the kernel has
        self._me: Node | None = None  # as the last pass would have it known
        self._renewed = asyncio.Event()  # a pass has ended
        self._told_failures: set[str] = set()
        self._told_refused: set[Refused] = set()
        self.totals = totals
        readiness.set(NAME, UNHEARD)

    async def run(self) -> None:
        """Until it is cancelled."""
        drift, of_filter = self._listen(Drift), self._listen(FilterDrift)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                if drift is not None:
                    loop.add_reader(drift.descriptor, self._heard, drift)
                if of_filter is not None and of_filter.descriptor is not None:
                    tasks.create_task(self._hear_filter(of_filter, of_filter.descriptor))
                tasks.create_task(self._listen_to_source())
                tasks.create_task(self._passes())
                tasks.create_task(self._announce())
        finally:
            if drift is not None:
                loop.remove_reader(drift.descriptor)
                drift.close()
            if of_filter is not None:
                of_filter.close()

    def close(self) -> None:
        """Waits for a pass that is under way. What is there stays: pods go on talking."""
        self._thread.shutdown()
        self._host.close()

    # what wakes

    def _listen(self, ear: type[_Ear]) -> _Ear | None:
        try:
            return ear()
        except CNIError as error:
            self._warn(f"changes are not heard of, only looked for each {PERIOD_S:g} s: {error}")
            return None

    async def _listen_to_source(self) -> None:
        while True:
            try:
                await self._source.run(self._told)
            except Exception as error:  # noqa: BLE001  what it said before stays
                self._warn(f"cluster: the source failed: {type(error).__name__}: {error}")
            await asyncio.sleep(FAILED_S)

    async def _announce(self) -> None:
        """Lets the others know of this node, after each pass that made it another."""
        known: Node | None = None
        while True:
            await self._renewed.wait()
            self._renewed.clear()
            if self._me is None or self._me == known:
                continue
            me = self._me
            try:
                await self._source.announce(me)
                known = me
            except Exception as error:  # noqa: BLE001  after the next pass it may do better
                self._warn(f"cluster: this node cannot be announced: {error}")

    def _told(self, cluster: Cluster) -> None:
        """By the source."""
        self._cluster = cluster
        own = cluster.node(self._name)
        self._addresses = frozenset(own.addresses if own else ())
        self._changed = True
        self._woken.set()

    def _heard(self, drift: Drift) -> None:
        """By the kernel."""
        events = drift.drain(self._reconciler.indices)
        wanted = self._reconciler.desired.objects
        # Of every event, because the judge remembers.
        drifts = [self._judge.is_drift(one, wanted, self._addresses) for one in events or ()]
        if events is None or any(drifts):
            self._drifted = True
            self._woken.set()

    async def _hear_filter(self, ear: FilterDrift, descriptor: int) -> None:
        """Until it is cancelled. Gathered: each call of the runtime changes the table too."""
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        while True:
            came.clear()
            loop.add_reader(descriptor, came.set)
            try:
                await came.wait()
            finally:
                loop.remove_reader(descriptor)
            await asyncio.sleep(SETTLE_S)
            if ear.drain(self._host.filter_port):
                self._drifted = True
                self._woken.set()

    # passes

    async def _passes(self) -> None:
        loop = asyncio.get_running_loop()
        whole_s = due_s = loop.time()  # of the last whole pass; when the next one is due
        while True:
            await self._until(due_s)
            drifted, self._drifted = self._drifted, False
            if self._cluster is None:
                due_s = loop.time() + PERIOD_S
                continue
            if drifted and not self._changed:
                await asyncio.sleep(max(SETTLE_S, whole_s + PACE_S - loop.time()))
            self._drifted = False
            whole = drifted or loop.time() >= due_s
            again_s = await self._pass(whole=whole)
            if whole:
                whole_s, due_s = loop.time(), loop.time() + PERIOD_S
            due_s = min(due_s, loop.time() + again_s)

    async def _until(self, due_s: float) -> None:
        try:
            async with asyncio.timeout_at(due_s):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _pass(self, *, whole: bool) -> float:
        """In how many seconds another whole one is due, at the latest."""
        cluster = self._cluster
        assert cluster is not None  # noqa: S101  _passes waits for it
        self._changed = False
        loop = asyncio.get_running_loop()
        work: Callable[[], Report] = lambda: self._reconciler.run(cluster, whole=whole)  # noqa: E731
        try:
            report = await loop.run_in_executor(self._thread, work)
        except Exception as error:  # noqa: BLE001  the next pass may do better
            self._tell_failures((f"the node cannot be looked at: {error}",))
            self._readiness.set(NAME, f"the last pass failed: {type(error).__name__}: {error}")
            return FAILED_S
        self._tell(cluster, report)
        return PERIOD_S if report.again_s is None else report.again_s

    # what is told

    def _tell(self, cluster: Cluster, report: Report) -> None:
        self._count(cluster, report)
        self._me = report.node
        self._renewed.set()
        if report.reasons:
            self._readiness.set(NAME, "; ".join(report.reasons))
        else:
            self._readiness.clear(NAME)
            if report.node is not None:
                self._ready(report.node, report.mtu)
        for one in report.refused:
            if one not in self._told_refused:
                fields = {"node": one.node, "reason": one.reason}
                self._sink.event("warning", f"cluster: refused: {one.text}", fields)
        self._told_refused = set(report.refused)
        if report.repaired:
            self._sink.repaired(NAME, report.repaired, ())
        self._tell_failures(report.failures)
        done = {kind: count for kind, count in report.counts.items() if count}
        if done:
            told = {"backend": report.backend, "peers": report.peers, "pod_mtu": report.mtu}
            ms = round(report.took_s * 1000, 1)
            self._sink.event("info", "cluster: programmed", {**told, **done, "ms": ms})

    def _tell_failures(self, failures: tuple[str, ...]) -> None:
        """Those that were not told after the pass before."""
        new = tuple(one for one in failures if one not in self._told_failures)
        self._told_failures = set(failures)
        if new:
            self._sink.repaired(NAME, (), new)

    def _count(self, cluster: Cluster, report: Report) -> None:
        totals = self.totals
        totals.nodes, totals.peers = len(cluster.nodes), report.peers
        totals.synced = cluster.synced
        totals.refused = Counter(one.reason for one in report.refused)
        totals.steps.update(report.counts)
        totals.passes["whole" if report.whole else "change"] += 1
        totals.seconds += report.took_s

    def _warn(self, line: str) -> None:
        self._sink.event("warning", line, {})
