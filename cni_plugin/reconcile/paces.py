"""How often something is put back that somebody keeps taking away: pure bookkeeping, times in
seconds on one clock.

Two programs that undo each other would otherwise do nothing else, at the node's cost. Who takes
something away now and then, as a person does, has it back at once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Generic, NamedTuple, TypeVar

FREE = 3  # repairs in a row without a wait
FIRST_S, MAX_S = 2.0, 60.0  # the wait after the next one, doubled with each
CALM_S = 60.0  # beyond its wait, then it was left in peace

Name = TypeVar("Name", bound=Hashable)


class _Pace(NamedTuple):
    repaired_s: float  # the last time
    in_a_row: int
    wait_s: float  # until the next time
    what: str

    @property
    def due_s(self) -> float:
        return self.repaired_s + self.wait_s


class Paces(Generic[Name]):
    """When each object was put back, and when it may be again."""

    def __init__(self) -> None:
        self._known: dict[Name, _Pace] = {}
        self._withheld: set[Name] = set()

    def begin(self, now_s: float) -> list[str]:
        """A look at all begins: a sentence for each object whose wait is over and forgotten."""
        self._withheld.clear()
        calm = [name for name, pace in self._known.items() if now_s > pace.due_s + CALM_S]
        paces = [self._known.pop(name) for name in calm]
        return [f"{pace.what}: nobody undoes it any more" for pace in paces if pace.wait_s]

    def due(self, names: Collection[Name], now_s: float) -> set[Name]:
        """Of the names of what is missing, those that may be put back now."""
        early = {name for name in names if name in self._known and now_s < self._known[name].due_s}
        self._withheld |= early
        return set(names) - early

    def repaired(self, name: Name, what: str, now_s: float) -> str:
        """It was put back; a sentence when that will be done less often now. what: a command."""
        before = self._known.get(name)
        in_a_row = before.in_a_row + 1 if before and now_s <= before.due_s + CALM_S else 1
        wait_s = min(FIRST_S * 2 ** min(in_a_row - FREE - 1, 10), MAX_S) if in_a_row > FREE else 0.0
        self._known[name] = _Pace(now_s, in_a_row, wait_s, what)
        if not wait_s or (before and before.wait_s == wait_s):
            return ""
        return f"{what}: somebody undoes it again and again, so it is done every {wait_s:g} s now"

    def again_s(self, now_s: float) -> float | None:
        """How long until the first of what was withheld may be put back; None: nothing was."""
        if not self._withheld:
            return None
        return max(0.0, min(self._known[name].due_s for name in self._withheld) - now_s)
