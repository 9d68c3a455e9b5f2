"""Which events tell that something is not as it should be. Pure, but for what it remembers.

Our own changes come back as events that agree with what is wanted; those are no reason to look.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cni_plugin.kernel.drift import Event
from cni_plugin.model.objects import Addr, Key, Obj, key, satisfied
from ipam.values import IPAddress


class Judge:
    """Remembers the links' states, because their events often tell nothing new."""

    def __init__(self) -> None:
        self._states: dict[str, object] = {}

    def is_drift(
        self, event: Event, wanted: Mapping[Key, Obj], addresses: Collection[IPAddress]
    ) -> bool:
        """wanted: all that is. addresses: this node's."""
        if event.link is not None:
            name, state = event.link
            before = self._states.pop(name, None)
            if not event.gone:
                self._states[name] = state
            return event.gone or before != state
        if event.obj is not None:
            return _contradicts(event.obj, wanted, gone=event.gone)
        return event.address in addresses


def _contradicts(obj: Obj, wanted: Mapping[Key, Obj], *, gone: bool) -> bool:
    here = wanted.get(key(obj))
    if gone:
        return here is not None
    if isinstance(obj, Addr):  # one more harms nobody
        return False
    return here is None or not satisfied(here, obj)
