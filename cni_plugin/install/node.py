"""Puts a release on a node: looks, plans, acts, under the node's lock."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cni_plugin.cni.errors import CNIError, IoFailure
from cni_plugin.durable import sync_folder
from cni_plugin.install.files import copy_release, make_folder, put_executable, put_link, remove
from cni_plugin.install.look import look
from cni_plugin.install.place import INTERPRETER, LAUNCHER, TEMPORARY, Place
from cni_plugin.install.plan import Act, acts
from cni_plugin.install.release import Entry, Release, read_entry
from cni_plugin.install.trial import try_tree
from ipam.errors import LockTimeout
from ipam.lock import acquire

LOCK_WAIT_S = 60.0  # another installer copies and syncs some 40 MiB
SPARE_BYTES = 8 << 20  # beyond the files' own size: blocks, folders, and a node that is not full


class Done(NamedTuple):
    """An act and, where it was not to be done now, why."""

    act: Act
    kept: str = ""


def install(place: Place, release: Release) -> tuple[Done, ...]:
    """Brings the node to the release; () when it was there. Raises CNIError: what was there before
    still works."""
    machine = os.uname().machine
    if release.arch != machine:
        raise CNIError(
            f"the tree in {release.path} is for {release.arch}, this node is {machine}",
            "use the image of this node's architecture",
        )
    with translated(), locked(place):
        make_folder(place.versions)
        make_folder(f"{place.root}{place.bin_dir}")
        wanted = acts(release.name, look(place, release))
        if any(act.verb == "copy" for act in wanted):
            _need_space(place, release)
        return tuple(Done(act, _do(act, place, release)) for act in wanted)


def _do(act: Act, place: Place, release: Release) -> str:
    """Why it was not done; empty when it was."""
    return _ACTS[act.verb](act.subject, place, release)


def _copy(name: str, place: Place, release: Release) -> str:
    made = f"{place.versions}/{TEMPORARY}{name}"
    remove(made)
    try:
        copy_release(release, made)
        try_tree(made)
    except (OSError, CNIError):
        remove(made)
        raise
    os.rename(made, f"{place.versions}/{name}")
    sync_folder(place.versions)
    return ""


def _switch(name: str, place: Place, _release: Release) -> str:
    put_link(f"versions/{name}", place.current)
    return ""


def _launcher(name: str, place: Place, release: Release) -> str:
    data = read_entry(release, Entry(LAUNCHER, release.digest(LAUNCHER)))
    put_executable(data, place.launcher(name))
    return ""


def _remove(name: str, place: Place, _release: Release) -> str:
    return remove_version(f"{place.versions}/{name}")


def _tidy(path: str, place: Place, _release: Release) -> str:
    remove(os.path.join(place.tree_dir, path))
    return ""


_ACTS: dict[str, Callable[[str, Place, Release], str]] = {
    "copy": _copy,
    "switch": _switch,
    "launcher": _launcher,
    "remove": _remove,
    "tidy": _tidy,
}


def remove_version(path: str) -> str:
    """Removes a version unless a process runs from it; then the reason.

    Each process holds a shared lock on the interpreter's file (hack/tree/python3.c). Its name goes
    first, and while the lock is held: who has executed it and does not hold it yet sees then that
    it is gone, and goes where `current` leads. Of a link only itself goes: what it leads to is
    somebody else's. Raises OSError."""
    if os.path.islink(path):
        remove(path)
        return ""
    interpreter = f"{path}/{INTERPRETER}"
    descriptor = os.open(interpreter, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(interpreter)
    except BlockingIOError:
        return "a process runs from it"
    finally:
        os.close(descriptor)
    remove(path)
    return ""


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Nobody else changes what podwire has on the node. Raises CNIError, OSError."""
    descriptor = -1
    while descriptor < 0:
        make_folder(place.tree_dir)
        try:
            descriptor = acquire(place.lock, LOCK_WAIT_S)
        except FileNotFoundError:
            continue  # who uninstalls took the folder away while this one waited
        except LockTimeout as error:
            raise CNIError(error.msg, error.details) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def translated() -> Iterator[None]:
    """A system call's refusal as ours, with what can be done about it."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "nothing of what was installed has changed")
        raise IoFailure(f"{error.filename or 'a file'}: {error.strerror}", remedy) from error


_REMEDIES = {
    errno.EROFS: "the folder is on a read-only file system: mount it writable, or choose another"
    " --bin-dir",
    errno.ENOSPC: "make room on the node's disk; what was installed still works",
    errno.EDQUOT: "make room in the quota; what was installed still works",
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root",
}


def _need_space(place: Place, release: Release) -> None:
    found = os.statvfs(place.versions)
    free, wanted = found.f_bavail * found.f_frsize, release.size + SPARE_BYTES
    if free < wanted:
        raise IoFailure(
            f"{place.versions} has {free >> 20} MiB free, wanted {wanted >> 20}",
            _REMEDIES[errno.ENOSPC],
        )
    if found.f_files and found.f_favail < 2 * len(release.entries):  # 0: inodes are not counted
        raise IoFailure(
            f"{place.versions} has {found.f_favail} inodes free, wanted {2 * len(release.entries)}",
            _REMEDIES[errno.ENOSPC],
        )
