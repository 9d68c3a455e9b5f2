"""Looks, plans and acts, again while there is something to wait for."""

from __future__ import annotations

import time
from typing import NamedTuple

from cni_plugin.cni.errors import CNIError
from cni_plugin.install.lock import Tell
from cni_plugin.uninstall.act import act
from cni_plugin.uninstall.lists import keep, put_back
from cni_plugin.uninstall.look import look, look_for_hurdles
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import CONFLIST, Acted, Failure, Found, Hurdles, Thing, plan

LOOK_S, WHOLE_LOOK_S = 1.0, 30.0
SETTLE_S = 1.0  # within it a call that a runtime had begun by a config list is seen


class Ended(NamedTuple):
    """found: what is there at the end. waits: why the uninstallation is not finished, "" when it
    is."""

    removed: tuple[Thing, ...]
    found: Found
    waits: str
    failures: tuple[Failure, ...] = ()


def uninstall(
    scope: Scope,
    *,
    force: bool = False,
    wait_s: float = 0.0,
    tell: Tell = lambda _line: None,
) -> Ended:
    """Removes what may go, for at most wait_s seconds again as more of it may. tell: progress, a
    line when something has changed."""
    deadline_s = time.monotonic() + wait_s
    removed: list[Thing] = []
    failures: tuple[Failure, ...] = ()
    told = ""
    while True:
        found = look(scope)
        going = plan(found, force=force)
        if going.things:
            acted = _act(scope, going.things, found, tell, force=force)
            failures, after = acted.failures, look(scope)
            removed += (thing for thing in acted.things if thing not in after.things)
            found, going = after, plan(after, force=force)._replace(things=())
        if not going.waits or time.monotonic() >= deadline_s:
            return Ended(tuple(removed), found, going.waits, failures)
        if going.waits != told:
            told = going.waits
            tell(f"waiting: {told}")
        _pause(scope, Hurdles(found.attachments, found.agent), deadline_s)


def _act(
    scope: Scope, things: tuple[Thing, ...], found: Found, tell: Tell, *, force: bool
) -> Acted:
    """The config lists first. Nobody starts a pod by them then, and what the rest is for is seen
    anew: one may have been started since the look. Its end needs the lists as well, so they are put
    back unless there is another plugin's."""
    lists = tuple(thing for thing in things if thing.kind == CONFLIST)
    rest = tuple(thing for thing in things if thing.kind != CONFLIST)
    if force or not lists or not rest:
        return act(scope, things, tell)
    kept = keep(thing.what for thing in lists)
    first = act(scope, lists, tell)
    time.sleep(SETTLE_S)
    try:
        hurdles = look_for_hurdles(scope)
    except CNIError as error:
        blind = Failure("whether pods are attached cannot be seen", str(error))
        first = first._replace(failures=(*first.failures, blind))
    else:
        if not hurdles.attachments:
            then = act(scope, rest, tell)
            return Acted((*first.things, *then.things), (*first.failures, *then.failures))
    put = () if found.others else put_back(kept)
    return first._replace(failures=(*first.failures, *put))


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
