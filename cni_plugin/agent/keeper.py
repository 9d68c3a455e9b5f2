"""What the agent does for the node by itself: rolls back, frees what the dead left, repairs.

One thread, so that the rounds do not meet; whatever goes wrong in one is told and ends with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.ports import Shared, Worker
from cni_plugin.agent.recovery import recover
from cni_plugin.agent.repairs import Repairs
from cni_plugin.agent.report import Sink
from cni_plugin.agent.stages import Stages
from cni_plugin.disk import DiskRecords
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.monitor import Suspects
from cni_plugin.reconcile.decide import Ruling
from cni_plugin.reconcile.node import node_reconciler
from cni_plugin.reconcile.repair import Mended, Repairer

ROUND_S = 60.0  # two sightings of a dead attachment are at least this far apart


class Keeper:
    """Rounds in a thread of their own. changed: told the networks' names after something was
    freed or repaired, so that what is remembered of them is forgotten."""

    def __init__(
        self,
        config: AgentConfig,
        sink: Sink,
        readiness: Readiness,
        changed: Callable[[], None],
    ) -> None:
        self._config = config
        self._sink = sink
        self._readiness = readiness
        self._changed = changed
        self._thread = ThreadPoolExecutor(1, "keeper")
        shared = Shared()
        host = Host(netns=shared.netns)
        self._worker = Worker(shared, patient=False, together=False, host=host)
        self._reconciler = node_reconciler(self._warn, config.data_dirs)
        self._repairer = Repairer(self._worker.host)

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._round("recovery", self._recover)
        async with asyncio.TaskGroup() as rounds:
            if self._config.garbage:
                rounds.create_task(self._garbage())
            if self._config.repair:
                rounds.create_task(Repairs(self._repair, self._warn).run())

    async def _garbage(self) -> None:
        while True:
            await self._round("garbage", self._collect)
            await asyncio.sleep(ROUND_S)

    async def _repair(self, suspects: Suspects) -> Mended | None:
        """None: the pass itself failed."""
        ended: list[Mended] = []

        def work() -> tuple[list[str], list[str]]:
            ended.append(self._repairer.run(suspects))
            return list(ended[0].done), list(ended[0].failures)

        await self._round("repair", work)
        if ended and ended[0].paces:
            self._sink.paced(ended[0].paces)
        return ended[0] if ended else None

    async def _round(self, what: str, work: Callable[[], tuple[list[str], list[str]]]) -> None:
        loop = asyncio.get_running_loop()
        try:
            done, failed = await loop.run_in_executor(self._thread, work)
        except Exception as error:  # noqa: BLE001  the next round may do better
            done, failed = [], [f"{type(error).__name__}: {error}"]
            self._readiness.set(what, f"the last round failed: {failed[0]}")
        else:
            self._readiness.clear(what)
        if done:
            self._changed()
        if done or failed:
            self._sink.repaired(what, tuple(done), tuple(failed))

    def _recover(self) -> tuple[list[str], list[str]]:
        ports = self._worker.ports(None, 0, Stages(), self._warn)
        return recover(DiskRecords(), ports)

    def _collect(self) -> tuple[list[str], list[str]]:
        report = self._reconciler.run_once()
        return [_told(ruling) for ruling in report.freed], list(report.failures)

    def _warn(self, line: str) -> None:
        self._sink.event("warning", line, {})

    def close(self) -> None:
        """Waits for a round that is under way."""
        self._thread.shutdown()
        self._worker.host.close()


def _told(ruling: Ruling) -> str:
    container_id, ifname = ruling.subject.attachment
    return f"{ifname} of {container_id} in {ruling.subject.network} freed: {ruling.reason}"
