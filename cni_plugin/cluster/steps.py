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
    waits = []
    steps = []
    for step in diff(wanted, found):
        wait_s = _change_waits_s(step, ages)
        if wait_s > 0:
            waits.append(wait_s)
        else:
            steps.append(step)
    removals = []
    lingering = {}
    for name, age_s in ages.unwanted.items():
        if age_s < LINGER_S:
            lingering[name] = LINGER_S - age_s
    for obj in doomed:
        tunnel = _tunnel_of(obj)
        if tunnel in lingering:
            waits.append(lingering[tunnel])
        elif not isinstance(obj, (Sysctl, TxChecksum)) and (
            isinstance(obj, Vxlan) or tunnel not in ages.unwanted
        ):  # what hangs on a link goes with it
            removals.append(Step(None, obj))
    steps += in_order_of_removal(removals)
    return Steps(tuple(steps), min(waits, default=None))


def _change_waits_s(step: Step, ages: Ages) -> float:
    if not isinstance(step.wanted, RouteTo) or not isinstance(step.found, RouteTo):
        return 0.0
    if step.wanted.link == step.found.link or step.wanted.link not in ages.made:
        return 0.0
    return LISTEN_S - ages.made[step.wanted.link]


def _tunnel_of(obj: Obj) -> str:
    """The link that an object is, or lives and dies with."""
    if isinstance(obj, Vxlan):
        return obj.name
    return obj.link if isinstance(obj, (Addr, Up, Neigh, Fdb)) else ""
