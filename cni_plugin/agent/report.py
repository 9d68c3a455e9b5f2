"""What there is to say of one call, for logs, metrics and traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")


class CallReport(NamedTuple):
    """One call from its arrival to its answer. Times in seconds; began_s on the wall clock.

    code: 0, or the CNI error's. stages: how long each port was used (reserve, observe, apply, ...),
    in order of first use; starts: the moment of that use, in seconds after began_s. outcome: done |
    failed | declined | dropped (the caller went away before it was begun) | remembered (STATUS,
    answered from memory) | undone (a DEL of an ADD whose answer nobody took)."""

    verb: str
    network: str
    container_id: str
    ifname: str
    netns: str
    pod: str
    request: str
    outcome: str
    code: int
    message: str
    began_s: float
    waited_s: float
    ran_s: float
    stages: tuple[tuple[str, float], ...]
    environ: Mapping[str, str]
    starts: tuple[tuple[str, float], ...] = ()


def known_verb(verb: str) -> str:
    """The verb where it names a series or a span: of what callers made up all is `other`."""
    return verb if verb in VERBS else "other"


class Sink(Protocol):
    """Whoever wants to know. Called from any thread; must neither raise nor wait."""

    def call(self, report: CallReport) -> None:
        """A call has ended."""

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        """The node was looked after. what: garbage | repair | recovery. lines: what was done, a
        sentence each."""

    def paced(self, lines: tuple[str, ...]) -> None:
        """Something that somebody keeps undoing is put back less often from now on, or no longer
        so. lines: a sentence each."""

    def event(self, level: str, message: str, fields: Mapping[str, object]) -> None:
        """Anything else worth a line. level: info | warning | error."""
