"""How long each step of a call took, measured where the core meets its ports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Which of the ports' methods belong to which stage; the others are too quick to be worth a name.
STAGE_OF = {
    "reserve": "reserve",
    "release": "release",
    "held": "reserve",
    "usage": "usage",
    "retain": "release",
    "facts": "observe",
    "observe": "observe",
    "apply": "apply",
    "settled": "settle",
    "owned_elements": "observe",
    "load": "record",
    "save": "record",
    "remove": "record",
}


class Stages:
    """Seconds by stage, in order of first use, and when that was (perf_counter)."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.began_s: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time inside to the stage."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, began_s)

    def add(self, stage: str, began_s: float) -> None:
        """A use that began then (perf_counter) ends now."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began_s
        self.began_s.setdefault(stage, began_s)


class Timed:
    """Stands in front of a port and times the methods that STAGE_OF names."""

    def __init__(self, target: object, stages: Stages) -> None:
        self._target = target
        self._stages = stages

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        stage = STAGE_OF.get(name)
        return found if stage is None else self._timing(stage, found)

    def _timing(self, stage: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began_s = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                self._stages.add(stage, began_s)

        return call
