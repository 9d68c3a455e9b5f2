"""What a node refuses to an installer, in podwire's words: the path as a person knows it, and what
can be done about it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cni_plugin.cni.errors import CNIError, IoFailure
from cni_plugin.install.look import final
from cni_plugin.install.place import LAUNCHERS, Place

ROOM = "make room on the node's disk"
_AS_ROOT = (
    "run it as root; a container without capabilities writes only to folders that are root's, and"
    " where SELinux is enforced only with seLinuxOptions: {type: spc_t}"
)
_REMEDIES = {
    errno.EROFS: "the folder is on a read-only file system: mount it writable, or choose another"
    " --bin-dir",
    errno.ENOSPC: ROOM,
    errno.EDQUOT: "make room in the quota",
    errno.EACCES: _AS_ROOT,
    errno.EPERM: _AS_ROOT,
}


def refused(error: OSError, path: str) -> CNIError:
    """A system call's refusal as ours."""
    return IoFailure(f"{path}: {error.strerror}", _REMEDIES.get(error.errno or 0, ""))


@contextmanager
def translated(place: Place) -> Iterator[None]:
    """The same for what is done meanwhile."""
    try:
        yield
    except OSError as error:
        raise refused(error, final(error.filename or "a file", place)) from error


def obstacle(place: Place) -> CNIError | None:
    """What lies where podwire's files are to be, and is not to be taken away unasked."""
    for folder in (place.tree_dir, place.versions, f"{place.root}{place.bin_dir}"):
        for path in _with_parents(folder, place.root):
            if os.path.lexists(path) and not os.path.isdir(path):
                kind = "a link that leads to no folder" if os.path.islink(path) else "no folder"
                return _in_the_way(path, kind, "a folder")
    if os.path.islink(place.lock):
        return _in_the_way(place.lock, "a link", "a file")
    for path in (place.lock, place.current, *map(place.launcher, LAUNCHERS)):
        if os.path.isdir(path) and not os.path.islink(path):
            return _in_the_way(path, "a folder", "a link" if path == place.current else "a file")
    return None


def _with_parents(folder: str, root: str) -> Iterator[str]:
    """Outermost first, without the root."""
    above = os.path.dirname(folder)
    if above not in (root, "/"):
        yield from _with_parents(above, root)
    yield folder


def _in_the_way(path: str, found: str, wanted: str) -> CNIError:
    return IoFailure(f"{path} is {found}, wanted {wanted}", f"move {path} away")


def check_writable(folder: str) -> None:
    """A file could be made in it, or in the nearest folder above that is there. Raises OSError."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        # Some file systems have no files without a name, and old ones say so in this way.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
