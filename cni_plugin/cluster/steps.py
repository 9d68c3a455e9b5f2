"""From what is wanted and what is there to the steps of one pass, and those that must wait. Pure.

Additions and changes first, then removals: no packet finds a gap. The filter comes before all else,
each of its transactions being one moment: who may send is known before it is reached. Where a way
that is still good
goes over to a tunnel, it waits until the peer had time to make its own end; and a tunnel that is no
longer wanted stays a while, for those peers that still send by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from cni_plugin.filter.masquerade import BASE
from cni_plugin.model.names import TUNNEL_PREFIX
from cni_plugin.model.objects import (
    Addr,
    Element,
    Fdb,
    Key,
    Neigh,
    Obj,
    RouteTo,
    RuleChain,
    Sysctl,
    TxChecksum,
    Up,
    Vxlan,
    key,
)
from cni_plugin.model.plan import Found, Step, diff, in_order_of_removal

KEPT = (Sysctl, TxChecksum)  # a value has no absence to go back to
LISTEN_S = 2.0  # all nodes have heard of a switch of backends by then, and made their tunnels
LINGER_S = 10.0  # and by then nobody sends by one that is not wanted


class Ages(NamedTuple):
    """In seconds. held: since a route is held back, by its key. unwanted: since a tunnel is not
    wanted, by its name."""

    held: Mapping[Key, float] = {}
    unwanted: Mapping[str, float] = {}


class Steps(NamedTuple):
    """steps: to be done now, in order. held: routes that go over later. wait_s: until what is held
    back may be done; None: nothing is."""

    steps: tuple[Step, ...]
    held: tuple[Key, ...]
    wait_s: float | None


def steps_of(
    wanted: Iterable[Obj],
    doomed: Iterable[Obj],
    found: Found,
    ages: Ages,
    direct: Callable[[], Collection[Obj]],
) -> Steps:
    """doomed: what is there and no longer wanted. direct: the plain routes that would be right now;
    asked only when it matters."""
    differences = diff(wanted, found)
    held = _held(differences, ages, direct)
    now = [step for step in differences if key(step.subject) not in held]
    waits = list(held.values())
    lingering = {name: LINGER_S - age_s for name, age_s in ages.unwanted.items()}
    removals = []
    for obj in doomed:
        wait_s = lingering.get(_tunnel_of(obj))
        if wait_s is not None and wait_s > 0:
            waits.append(wait_s)
        elif isinstance(obj, Vxlan) or (wait_s is None and not isinstance(obj, KEPT)):
            removals.append(Step(None, obj))  # what hangs on a link goes with it
    steps = (*now, *in_order_of_removal(removals))
    filtered = sorted(filter(_is_of_filter, steps), key=_turn_in_filter)
    others = [step for step in steps if not _is_of_filter(step)]
    return Steps((*filtered, *others), tuple(held), min(waits, default=None))


def _is_of_filter(step: Step) -> bool:
    return isinstance(step.subject, (RuleChain, Element))


def _turn_in_filter(step: Step) -> int:
    """The base chain brings the sets. A range that another one is to take the place of goes before
    it. The chains that drop come when it is known whom they let through."""
    if isinstance(step.subject, Element):
        return 1 if step.wanted is None else 2
    if step.wanted is None:
        return 4
    return 0 if key(step.subject) == key(BASE) else 3


def _held(
    differences: Iterable[Step], ages: Ages, direct: Callable[[], Collection[Obj]]
) -> dict[Key, float]:
    """The routes that go over to a tunnel later, and in how many seconds."""
    over = [step for step in differences if _goes_over(step)]
    waits = {key(step.subject): LISTEN_S - ages.held.get(key(step.subject), 0.0) for step in over}
    over = [step for step in over if waits[key(step.subject)] > 0]
    if not over:
        return {}
    good = direct()
    return {
        key(step.subject): waits[key(step.subject)]
        for step in over
        if step.found in good or getattr(step.found, "link", "") in ages.unwanted
    }


def _goes_over(step: Step) -> bool:
    """Whether it moves an existing route to a tunnel."""
    wanted, found = step.wanted, step.found
    return (
        isinstance(wanted, RouteTo)
        and isinstance(found, RouteTo)
        and wanted.link != found.link
        and wanted.link.startswith(TUNNEL_PREFIX)
    )


def _tunnel_of(obj: Obj) -> str:
    """The link that an object is, or lives and dies with."""
    if isinstance(obj, Vxlan):
        return obj.name
    return obj.link if isinstance(obj, (Addr, Up, Neigh, Fdb)) else ""
