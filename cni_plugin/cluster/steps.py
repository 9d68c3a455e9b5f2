"""From what is wanted and what is there to the steps of one pass, and those that must wait. Pure.

Additions and changes first, then removals: no packet finds a gap. When the way to a peer's pods
goes over to a tunnel that was just made, it waits until the peers had time to make theirs; and a
tunnel that is no longer wanted stays a while, for those peers that still send by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cni_plugin.model.objects import Addr, Fdb, Neigh, Obj, RouteTo, Sysctl, TxChecksum, Up, Vxlan
from cni_plugin.model.plan import Found, Step, diff, in_order_of_removal

KEPT = (Sysctl, TxChecksum)  # a value has no absence to go back to
LISTEN_S = 2.0  # all nodes have heard of a switch of backends by then, and made their tunnels
LINGER_S = 10.0  # and by then nobody sends by one that is not wanted


class Ages(NamedTuple):
    """By tunnel's name, in seconds. made: since we made it. unwanted: since it is not wanted."""

    made: Mapping[str, float] = {}
    unwanted: Mapping[str, float] = {}


class Steps(NamedTuple):
    """steps: to be done now, in order. wait_s: until what is held back may be done; None: nothing
    is."""

    steps: tuple[Step, ...]
    wait_s: float | None


def steps_of(wanted: Iterable[Obj], doomed: Iterable[Obj], found: Found, ages: Ages) -> Steps:
    """doomed: what is there and no longer wanted."""
    differences = diff(wanted, found)
    made = {s.wanted.name: 0.0 for s in differences if isinstance(s.wanted, Vxlan) and not s.found}
    ages = ages._replace(made={**ages.made, **made})
    waits = {step: _change_waits_s(step, ages) for step in differences if _goes_over(step)}
    now = [step for step in differences if waits.get(step, 0.0) <= 0]
    lingering = {name: LINGER_S - age_s for name, age_s in ages.unwanted.items()}
    removals = []
    left = [wait_s for wait_s in waits.values() if wait_s > 0]
    for obj in doomed:
        wait_s = lingering.get(_tunnel_of(obj))
        if wait_s is not None and wait_s > 0:
            left.append(wait_s)
        elif isinstance(obj, Vxlan) or (wait_s is None and not isinstance(obj, KEPT)):
            removals.append(Step(None, obj))  # what hangs on a link goes with it
    return Steps((*now, *in_order_of_removal(removals)), min(left, default=None))


def _goes_over(step: Step) -> bool:
    """Whether it moves an existing route to another link."""
    wanted, found = step.wanted, step.found
    return isinstance(wanted, RouteTo) and isinstance(found, RouteTo) and wanted.link != found.link


def _change_waits_s(step: Step, ages: Ages) -> float:
    link = step.wanted.link if isinstance(step.wanted, RouteTo) else ""
    return LISTEN_S - ages.made[link] if link in ages.made else 0.0


def _tunnel_of(obj: Obj) -> str:
    """The link that an object is, or lives and dies with."""
    if isinstance(obj, Vxlan):
        return obj.name
    return obj.link if isinstance(obj, (Addr, Up, Neigh, Fdb)) else ""
