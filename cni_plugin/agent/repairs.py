"""When the node is looked at for repair: at the start, after events, and every minute.

Events only say that a look may be worth it. They come in swarms (a bridge that goes takes all its
ports' events along), so the first one starts a short wait, and passes keep a distance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cni_plugin.cni.errors import CNIError
from cni_plugin.kernel.monitor import EVERYTHING, Monitor, Suspects
from cni_plugin.reconcile.repair import Mended

GATHER_S = 0.2  # events are read this long after the first: none is to hold up the call it is of
SETTLE_S = 0.1  # after they were read: more may be on their way
PACE_S = 1.0  # between the beginnings of two passes
PERIOD_S = 60.0  # without any event
FAILED_S = 5.0  # after a pass that could not look

Pass = Callable[[Suspects], Awaitable[Mended | None]]


class Repairs:
    """Listens and calls the passes, one at a time."""

    def __init__(self, run_pass: Pass, warn: Callable[[str], None]) -> None:
        self._run_pass = run_pass
        self._warn = warn
        self._suspects: Suspects | None = None
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Until it is cancelled."""
        monitor = self._monitor()
        if monitor is None:
            await self._passes()
            return
        hearing = asyncio.create_task(self._hear(monitor))
        try:
            await self._passes()
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            monitor.close()

    def _monitor(self) -> Monitor | None:
        try:
            return Monitor()
        except CNIError as error:
            self._warn(f"changes are not heard of, only looked for each minute: {error}")
            return None

    async def _hear(self, monitor: Monitor) -> None:
        """Until it is cancelled. A descriptor is not watched while events are gathered: the loop
        would wake for each."""
        loop = asyncio.get_running_loop()
        came = asyncio.Event()
        while True:
            came.clear()
            for descriptor in monitor.descriptors:
                loop.add_reader(descriptor, came.set)
            try:
                await came.wait()
            finally:
                for descriptor in monitor.descriptors:
                    loop.remove_reader(descriptor)
            await asyncio.sleep(GATHER_S)
            suspects = monitor.drain()
            if suspects is not None:
                self._suspects = suspects.joined(self._suspects)
                self._woken.set()

    async def _passes(self) -> None:
        loop = asyncio.get_running_loop()
        suspects = EVERYTHING
        while True:
            begun_s = loop.time()
            mended = await self._run_pass(suspects)
            if mended is None:
                self._suspects = suspects.joined(self._suspects)
            again_s = mended.again_s if mended else FAILED_S
            heard = await self._heard(PERIOD_S if again_s is None else min(again_s, PERIOD_S))
            await asyncio.sleep(max(SETTLE_S if heard else 0.0, begun_s + PACE_S - loop.time()))
            suspects = self._take()

    async def _heard(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    def _take(self) -> Suspects:
        taken = self._suspects or Suspects()
        self._suspects = None
        self._woken.clear()
        return taken
