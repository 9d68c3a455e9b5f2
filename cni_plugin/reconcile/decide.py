"""Who may be freed: the dead that were seen dead before, long enough ago. Pure.

A false free gives a living pod's address away, a leak only costs an address: so death is to be
seen twice, and any doubt in between starts again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cni_plugin.reconcile.evidence import Evidence, Subject
from cni_plugin.reconcile.life import DEAD, Life, judge

GRACE_S = 60.0  # between the two sightings, on the boot clock
# Without a record podwire cannot tell an attachment from an ADD still under way in another
# plugin's chain; a kubelet gives that up after 4 minutes (RunPodSandbox).
GRACE_UNRECORDED_S = 300.0

Incarnation = tuple[object, ...]
Strikes = Mapping[Incarnation, float]  # to the boot clock (seconds) of the first sighting


class Ruling(NamedTuple):
    """What is decided about one attachment. wait_s: until it may be freed, 0 for any other."""

    subject: Subject
    life: Life
    doomed: bool
    reason: str
    wait_s: float = 0.0


class Decision(NamedTuple):
    """Every attachment's ruling, and the strikes to remember."""

    rulings: tuple[Ruling, ...]
    strikes: Strikes

    @property
    def doomed(self) -> tuple[Subject, ...]:
        return tuple(ruling.subject for ruling in self.rulings if ruling.doomed)


def decide(now_s: float, seen: Iterable[Subject], evidence: Evidence, earlier: Strikes) -> Decision:
    """now_s: boot clock. earlier: strikes of the passes before; those of attachments that live
    again, or are gone, are forgotten."""
    rulings = tuple(_rule(now_s, subject, evidence, earlier) for subject in seen)
    strikes = {
        ruling.subject.incarnation: _first_s(now_s, ruling.subject, earlier)
        for ruling in rulings
        if ruling.life.state == DEAD
    }
    return Decision(rulings, strikes)


def grace_s(subject: Subject) -> float:
    """How far apart the two sightings must be. What another boot left needs no second look."""
    if subject.past:
        return 0.0
    return GRACE_S if subject.record else GRACE_UNRECORDED_S


def _rule(now_s: float, subject: Subject, evidence: Evidence, earlier: Strikes) -> Ruling:
    life = judge(subject, evidence)
    if life.state != DEAD:
        return Ruling(subject, life, doomed=False, reason=life.reason)
    since_s = now_s - _first_s(now_s, subject, earlier)
    wait_s = grace_s(subject) - since_s
    if wait_s > 0:
        reason = f"{life.reason}; to be seen so again in {wait_s:.0f} s or later"
        return Ruling(subject, life, doomed=False, reason=reason, wait_s=wait_s)
    return Ruling(subject, life, doomed=True, reason=f"{life.reason}; so for {since_s:.0f} s")


def _first_s(now_s: float, subject: Subject, earlier: Strikes) -> float:
    """A time in the future is not of this boot."""
    first_s = earlier.get(subject.incarnation, now_s)
    return min(first_s, now_s)
