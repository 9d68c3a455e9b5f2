"""What the scenes share: the pods, and the account of what was as it should be."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime import Refused, Runtime, Sandbox
from show import Show
from world import World

Addresses = dict[int, str]


@dataclass
class Member:
    """A pod of the demo with its network's runtime."""

    pod: Sandbox
    mode: str
    runtime: Runtime

    @property
    def addresses(self) -> Addresses:
        """By IP version, without the prefix length; empty before ADD."""
        entries = (self.pod.result or {}).get("ips", [])
        plain = [entry["address"].split("/")[0] for entry in entries]
        return {6 if ":" in address else 4: address for address in plain}

    def interface(self, *, in_pod: bool) -> dict[str, Any]:
        """The pod's interface in the result, or the last of the host's: the veth's end."""
        listed = (self.pod.result or {}).get("interfaces", [])
        found = [one for one in listed if bool(one.get("sandbox")) == in_pod]
        return found[-1] if found else {}


@dataclass
class Demo:
    """What the scenes share. passed and failures are the verdict; facts is the summary."""

    show: Show
    world: World
    runtimes: dict[str, Runtime]  # by mode
    members: list[Member] = field(default_factory=list)
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def expect(self, good: bool, text: str) -> bool:
        """Count it, and say so when it is not as it should be."""
        if good:
            self.passed += 1
        else:
            self.failures.append(text)
            self.show.outcome(good, text)
        return good

    def attempt(self, what: str, call: Callable[[], float]) -> float | None:
        """The call's milliseconds; None, and a failure noted, when the plugin refused."""
        try:
            took = call()
        except Refused as error:
            self.expect(False, f"{what}: {error}")
            return None
        self.passed += 1
        return took


def median(times: list[float | None]) -> float | None:
    """None when one was lost: a path that loses packets does not work."""
    answered = [ms for ms in times if ms is not None]
    return round(statistics.median(answered), 4) if len(answered) == len(times) else None
