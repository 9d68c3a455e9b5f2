"""Looks, plans and acts, again while there is something to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from cni_plugin.cni.errors import CNIError
from cni_plugin.uninstall.act import act
from cni_plugin.uninstall.look import look, look_for_hurdles
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import Found, Hurdles, Thing, plan

LOOK_S, WHOLE_LOOK_S = 1.0, 30.0


class Ended(NamedTuple):
    """found: what is there at the end. waits: why the uninstallation is not finished, "" when it
    is."""

    removed: tuple[Thing, ...]
    found: Found
    waits: str
    failures: tuple[str, ...] = ()


def uninstall(
    scope: Scope,
    *,
    force: bool = False,
    wait_s: float = 0.0,
    tell: Callable[[str], None] = lambda _line: None,
) -> Ended:
    """Removes what may go, for at most wait_s seconds again as more of it may. tell: progress, a
    line when something has changed."""
    deadline_s = time.monotonic() + wait_s
    removed: list[Thing] = []
    failures: tuple[str, ...] = ()
    told = ""
    while True:
        found = look(scope)
        going = plan(found, force=force)
        if going.things:
            failures = act(scope, going.things)
            after = look(scope)
            removed += (thing for thing in going.things if thing not in after.things)
            found, going = after, plan(after, force=force)._replace(things=())
        if not going.waits or time.monotonic() >= deadline_s:
            return Ended(tuple(removed), found, going.waits, failures)
        if going.waits != told:
            told = going.waits
            tell(f"waiting: {told}")
        _pause(scope, Hurdles(found.attachments, found.agent), deadline_s)


def _pause(scope: Scope, hurdles: Hurdles, deadline_s: float) -> None:
    """Until something is out of the way, or it is time for a whole look: that asks the Kubernetes
    API and executes iptables."""
    deadline_s = min(deadline_s, time.monotonic() + WHOLE_LOOK_S)
    while time.monotonic() < deadline_s:
        time.sleep(LOOK_S)
        try:
            if look_for_hurdles(scope) != hurdles:
                return
        except CNIError:
            return  # the whole look tells
