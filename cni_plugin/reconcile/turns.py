"""Whose turn it is to be looked at closely: pure bookkeeping, times in seconds on one clock."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Generic, NamedTuple, TypeVar

SAMPLE = 10  # whose turn it is in each period: those that had none for the longest time
PERIOD_S = 60.0
BUSY_S = 0.5  # until somebody who works on it is asked for again
BACKOFF_S, BACKOFF_MAX_S = 1.0, 60.0  # after a failure, doubled with each

Name = TypeVar("Name", bound=Hashable)


class _Wait(NamedTuple):
    until_s: float
    backoff_s: float  # of the failure before; 0: there was none


class Turns(Generic[Name]):
    """What was looked at when, and what must wait."""

    def __init__(self) -> None:
        self._looked: dict[Name, float] = {}
        self._waiting: dict[Name, _Wait] = {}
        self._sampled_s = float("-inf")

    def sample(self, present: Collection[Name], now_s: float) -> list[Name]:
        """Whose turn it is; nobody's until a period has passed."""
        if now_s < self._sampled_s + PERIOD_S:
            return []
        self._sampled_s = now_s
        chosen = sorted(present, key=self._last_look)[:SAMPLE]
        self._looked.update(dict.fromkeys(chosen, now_s))
        return chosen

    def choose(
        self,
        present: Collection[Name],
        suspects: Collection[Name],
        now_s: float,
        *,
        everything: bool,
    ) -> list[Name]:
        """Who is to be looked at now, in the order of present: suspects, and who has waited long
        enough."""
        self._forget_others(present)
        chosen = set(present) if everything else {*suspects, *self._waiting}
        return [name for name in present if name in chosen and not self._must_wait(name, now_s)]

    def _last_look(self, name: Name) -> float:
        return self._looked.get(name, float("-inf"))

    def _must_wait(self, name: Name, now_s: float) -> bool:
        return name in self._waiting and now_s < self._waiting[name].until_s

    def _forget_others(self, present: Collection[Name]) -> None:
        for known in (self._looked, self._waiting):
            for name in known.keys() - set(present):
                del known[name]

    def busy(self, name: Name, now_s: float) -> None:
        """Somebody works on it: it will be asked for again."""
        before = self._waiting.get(name)
        self._waiting[name] = _Wait(now_s + BUSY_S, before.backoff_s if before else 0.0)

    def looked(self, name: Name, now_s: float, *, failed: bool) -> None:
        """It was looked at. failed: not all could be put back."""
        self._looked[name] = now_s
        before = self._waiting.pop(name, None)
        if failed:
            doubled = 2 * before.backoff_s if before else 0.0
            backoff_s = min(max(doubled, BACKOFF_S), BACKOFF_MAX_S)
            self._waiting[name] = _Wait(now_s + backoff_s, backoff_s)

    def again_s(self, now_s: float) -> float | None:
        """How long until the first of those who wait may be tried again."""
        if not self._waiting:
            return None
        return max(0.0, min(wait.until_s for wait in self._waiting.values()) - now_s)
