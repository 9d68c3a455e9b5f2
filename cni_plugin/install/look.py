"""Reads what is on a node of podwire's files."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator

from cni_plugin.folder import ABSENT
from cni_plugin.install.place import INTERPRETER, LAUNCHER, LAUNCHERS, TEMPORARY, Place
from cni_plugin.install.plan import Installed
from cni_plugin.install.release import Release, damage

EXECUTABLE = 0o100755  # a regular file that all may execute


def look(place: Place, release: Release) -> Installed:
    """Raises OSError."""
    versions, rests = {}, []
    own = re.compile(rf"{re.escape(release.name)}(-[0-9]+)?")
    for name in names(place.versions):
        path = f"{place.versions}/{name}"
        linked = os.path.islink(path)
        if name.startswith(TEMPORARY) or not (linked or os.path.exists(f"{path}/{INTERPRETER}")):
            rests.append(name)
        else:
            # A link is never the version that is wanted: what it leads to is somebody else's. It
            # goes after the switch, for `current` may lead to it.
            versions[name] = not own.fullmatch(name) or not (linked or damage(release, path))
    wanted = release.digest(LAUNCHER)
    launchers = tuple(name for name in LAUNCHERS if _is_so(place.launcher(name), wanted))
    return Installed(versions, tuple(rests), current_of(place), launchers, tuple(litter(place)))


def names(folder: str) -> tuple[str, ...]:
    """Sorted; none when there is no such folder. Raises OSError."""
    try:
        return tuple(sorted(os.listdir(folder)))
    except ABSENT:
        return ()


def current_of(place: Place) -> str:
    """The version's name that the link leads to; empty when there is none or it is no link."""
    try:
        return os.readlink(place.current).removeprefix("versions/")
    except OSError:
        return ""


def litter(place: Place) -> Iterator[str]:
    """Temporary files that a killed installer left, but those in the versions' folder."""
    link = temporary(place.current)
    if os.path.lexists(link):
        yield link
    for name in LAUNCHERS:
        path = temporary(place.launcher(name))
        if os.path.lexists(path):
            yield path


def temporary(path: str) -> str:
    """Where what will be `path` is made."""
    folder, name = os.path.split(path)
    return f"{folder}/{TEMPORARY}{name}.podwire-new"


def final(path: str, place: Place) -> str:
    """What a temporary path is made for; any other path as it is."""
    unfinished = f"{place.versions}/{TEMPORARY}"
    if path.startswith(unfinished):
        return f"{place.versions}/{path.removeprefix(unfinished)}"
    known = (place.current, *map(place.launcher, LAUNCHERS))
    return next((one for one in known if path == temporary(one)), path)


def _is_so(path: str, digest: str) -> bool:
    """Whether it is this very executable, and a regular file: runtimes look for one."""
    try:
        if os.lstat(path).st_mode != EXECUTABLE:
            return False
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() == digest
    except ABSENT:
        return False


def is_regular(path: str) -> bool:
    """Without following a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False
