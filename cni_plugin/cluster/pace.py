"""How often: tries that fail are further and further apart, changes are told together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

BASE_S, MOST_S = 0.5, 30.0
DOUBLINGS = 16  # beyond that 2 ** attempt says nothing new


def delay_s(attempt: int, chance: float, base_s: float = BASE_S, most_s: float = MOST_S) -> float:
    """How long to wait before the next try. attempt: how many have failed in a row, 0: none, go on
    at once. chance: 0 to 1, random.

    Exponential with full jitter: what a cluster's agents lost together they do not ask for
    together. Source: AWS Architecture Blog, "Exponential Backoff And Jitter"."""
    if attempt <= 0:
        return 0.0
    return chance * min(most_s, base_s * 2.0 ** min(attempt - 1, DOUBLINGS))


class Gathered:
    """Calls `tell` soon after a wake, and at least apart_s seconds after it began the time before:
    the first change goes out at once, a burst behind it as one."""

    def __init__(self, tell: Callable[[], None], apart_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tell = tell
        self._apart_s = apart_s
        self._next_s = self._loop.time()
        self._pending: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """There is something to tell."""
        if self._pending is None:
            self._pending = self._loop.call_at(self._next_s, self._go)

    def close(self) -> None:
        """Nothing more is told."""
        if self._pending is not None:
            self._pending.cancel()

    def _go(self) -> None:
        self._pending = None
        self._next_s = self._loop.time() + self._apart_s
        self._tell()
