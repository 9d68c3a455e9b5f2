"""Whether the agent lives (its loop and its worker threads answer) and is ready (nobody has set a
reason against it), and what is wrong all the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Event, Lock
from typing import NamedTuple

ANSWER_LIMIT_S = 3.0  # for all signs of life of one probe together


class Readiness:
    """Why the agent is not ready, by the name of the part that set the reason. For any thread."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._lock = Lock()

    def set(self, name: str, reason: str) -> None:
        """Not ready, because of this; an earlier reason of that name is replaced."""
        with self._lock:
            self._reasons[name] = " ".join(reason.split())  # one line each

    def clear(self, name: str) -> None:
        """That part is ready, or never was not."""
        with self._lock:
            self._reasons.pop(name, None)

    def reasons(self) -> tuple[str, ...]:
        """One line a part that is not ready; none: ready."""
        with self._lock:
            return tuple(f"{name}: {reason}" for name, reason in self._reasons.items())

    def note(self, name: str, text: str) -> None:
        """What is wrong with that part and harms nobody yet; "": nothing any more."""
        with self._lock:
            self._notes[name] = " ".join(text.split())

    def notes(self) -> tuple[str, ...]:
        """One line each."""
        with self._lock:
            return tuple(f"note: {name}: {text}" for name, text in self._notes.items() if text)


class Watched(NamedTuple):
    """A part that must answer. ask: has the part call what it is given, in its turn. served: how
    much it has done so far: one with much to do is late with its answer, and alive."""

    name: str
    ask: Callable[[Callable[[], object]], object]
    served: Callable[[], int]


class Pulse:
    """Asks the parts for signs of life. From any thread; nobody but the asker waits."""

    def __init__(self, parts: Sequence[Watched], limit_s: float = ANSWER_LIMIT_S) -> None:
        self._parts = parts
        self._limit_s = limit_s
        self._asked: dict[str, Event] = {}  # one that has no answer yet is not asked again
        self._lock = Lock()

    def stuck(self) -> tuple[str, ...]:
        """One line a part that neither answers nor gets on with its work."""
        with self._lock:
            before = {part.name: part.served() for part in self._parts}
            for part in self._parts:
                self._ask(part)
            end_s = time.monotonic() + self._limit_s
            late = [part for part in self._parts if not self._answered(part, end_s)]
            return tuple(
                f"{part.name} has not answered for {self._limit_s:g} s"
                for part in late
                if part.served() == before[part.name]
            )

    def _ask(self, part: Watched) -> None:
        asked = self._asked.get(part.name)
        if asked is None or asked.is_set():
            answer = self._asked[part.name] = Event()
            try:
                part.ask(answer.set)
            except RuntimeError:  # a loop that has ended; it stays without an answer
                return

    def _answered(self, part: Watched, end_s: float) -> bool:
        return self._asked[part.name].wait(max(0.0, end_s - time.monotonic()))
