"""One at a time changes what podwire has on a node: installers and uninstallers share a lock.

It is a file beside the tree, so that each of them has the same one, whether it runs on the node or
in a container that has the node's folder mounted. Who uninstalls removes file and folder while it
holds it; who has waited for it begins anew then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cni_plugin.cni.errors import CNIError, IoFailure, TryAgainLater
from cni_plugin.install.files import make_folder
from cni_plugin.install.place import Place
from ipam.errors import LockTimeout
from ipam.lock import acquire

WAIT_S = 60.0  # another installer copies and syncs some 40 MiB
SILENT_S = 1.0  # what is over within it is not worth a line

Tell = Callable[[str], None]


@contextmanager
def locked(place: Place, tell: Tell = lambda _line: None, wait_s: float = WAIT_S) -> Iterator[None]:
    """Nobody else changes what podwire has on the node. tell: that it is waited for, and for whom.
    Raises CNIError, OSError."""
    descriptor = _acquired(place, tell, wait_s)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquired(place: Place, tell: Tell, wait_s: float) -> int:
    deadline_s = time.monotonic() + wait_s
    told = False
    while True:
        make_folder(place.tree_dir)
        left_s = max(0.0, deadline_s - time.monotonic())
        try:
            return acquire(place.lock, left_s if told else min(SILENT_S, left_s))
        except FileNotFoundError as error:
            # Who uninstalls took the folder away while this one waited.
            if _is_dead(place.tree_dir) or time.monotonic() >= deadline_s:
                raise _unusable(place) from error
        except LockTimeout as error:
            if time.monotonic() >= deadline_s:
                raise _given_up(place, error, wait_s) from error
            told = True
            tell(f"waiting for {place.lock}, held by {error.held_by}, for up to {wait_s:g} s")


def _given_up(place: Place, error: LockTimeout, wait_s: float) -> CNIError:
    return TryAgainLater(
        f"{place.lock} was not free within {wait_s:g} s: held by {error.held_by}",
        "another `podwire install` or `podwire uninstall` is at work on this node: try again when"
        " it has ended",
    )


def _is_dead(folder: str) -> bool:
    """Removed where it is mounted from: it is there, and no file can be made in it, ever."""
    try:
        return os.stat(folder).st_nlink == 0
    except FileNotFoundError:
        return False


def _unusable(place: Place) -> CNIError:
    return IoFailure(
        f"{place.tree_dir} was removed from the node while it was mounted here",
        "start this container again: the folder is made anew for it",
    )
