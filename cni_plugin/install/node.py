"""Puts a release on a node: looks, plans, acts, under the node's lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from cni_plugin.cni.errors import CNIError, IoFailure
from cni_plugin.durable import sync_folder
from cni_plugin.install.files import copy_release, make_folder, put_executable, put_link, remove
from cni_plugin.install.lock import Tell, locked
from cni_plugin.install.look import final, look
from cni_plugin.install.place import INTERPRETER, LAUNCHER, TEMPORARY, Place
from cni_plugin.install.plan import Act, acts
from cni_plugin.install.refusal import ROOM, check_writable, obstacle, refused, translated
from cni_plugin.install.release import Entry, Release, read_entry
from cni_plugin.install.trial import try_tree

SPARE_BYTES = 8 << 20  # beyond the files' own size: blocks, folders, and a node that is not full


class Done(NamedTuple):
    """An act and, where it was not to be done now, why."""

    act: Act
    kept: str = ""


class Unfinished(CNIError):
    """An act failed. done: those before it, which stay as they are."""

    def __init__(self, error: CNIError, done: Iterable[Done]) -> None:
        super().__init__(error.msg, error.details, code=error.code)
        self.done = tuple(done)


def install(place: Place, release: Release, tell: Tell = lambda _line: None) -> tuple[Done, ...]:
    """Brings the node to the release; () when it was there. tell: what is waited for. Raises
    CNIError, Unfinished when something was done before: what was there still works."""
    machine = os.uname().machine
    if release.arch != machine:
        raise CNIError(
            f"the tree in {release.path} is for {release.arch}, this node is {machine}",
            "use the image of this node's architecture",
        )
    if found := obstacle(place):
        raise found
    with translated(place), locked(place, tell):
        wanted = acts(release.name, look(place, release))
        done: list[Done] = []
        # What a killed installer left goes first: it may be what fills the disk.
        _do((act for act in wanted if act.verb == "tidy"), place, release, done)
        rest = [act for act in wanted if act.verb != "tidy"]
        _check(rest, place, release)
        _do(rest, place, release, done)
        return tuple(done)


def _check(wanted: Iterable[Act], place: Place, release: Release) -> None:
    """What can be known of before anything is changed. Raises CNIError, OSError."""
    verbs = {act.verb for act in wanted}
    if "switch" in verbs:
        check_writable(place.tree_dir)
    if "copy" in verbs:
        check_writable(place.versions)
        _need_space(place, release)
    if "launcher" in verbs:
        check_writable(f"{place.root}{place.bin_dir}")


def _do(wanted: Iterable[Act], place: Place, release: Release, done: list[Done]) -> None:
    for act in wanted:
        try:
            kept = _ACTS[act.verb](act.subject, place, release)
        except OSError as error:
            path = error.filename or _subject(act, place)
            # What is tidied is a temporary path itself.
            path = path if act.verb == "tidy" else final(path, place)
            raise Unfinished(refused(error, path), done) from error
        except CNIError as error:
            raise Unfinished(error, done) from error
        done.append(Done(act, kept))


def _subject(act: Act, place: Place) -> str:
    """Its path, for an error that names none: one of writing."""
    if act.verb == "launcher":
        return place.launcher(act.subject)
    if act.verb == "switch":
        return place.current
    folder = place.tree_dir if act.verb == "tidy" else place.versions
    return os.path.join(folder, act.subject)


def _copy(name: str, place: Place, release: Release) -> str:
    path, made = f"{place.versions}/{name}", f"{place.versions}/{TEMPORARY}{name}"
    make_folder(place.versions)
    remove(made)
    try:
        copy_release(release, made)
        try_tree(made, path)
        os.rename(made, path)
    except (OSError, CNIError):
        with suppress(OSError):  # the first failure is the one to tell of
            remove(made)
        raise
    sync_folder(place.versions)
    return ""


def _switch(name: str, place: Place, _release: Release) -> str:
    put_link(f"versions/{name}", place.current)
    return ""


def _launcher(name: str, place: Place, release: Release) -> str:
    data = read_entry(release, Entry(LAUNCHER, release.digest(LAUNCHER)))
    make_folder(f"{place.root}{place.bin_dir}")
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


def _need_space(place: Place, release: Release) -> None:
    folder = place.versions if os.path.isdir(place.versions) else place.tree_dir
    found = os.statvfs(folder)
    free, wanted = found.f_bavail * found.f_frsize, release.size + SPARE_BYTES
    if free < wanted:
        raise IoFailure(f"{folder} has {free >> 20} MiB free, wanted {wanted >> 20}", ROOM)
    inodes = 2 * len(release.entries)
    if found.f_files and found.f_favail < inodes:  # 0: inodes are not counted
        raise IoFailure(f"{folder} has {found.f_favail} inodes free, wanted {inodes}", ROOM)
