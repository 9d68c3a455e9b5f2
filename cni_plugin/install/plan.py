"""What has to be done to have a release on a node: decided from what is there. No I/O.

Whatever a killed installer left is just another state to start from, and a node that has all of it
needs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cni_plugin.install.place import LAUNCHERS


class Installed(NamedTuple):
    """What is on a node. versions: names of the whole ones, and whether each of those that bear the
    wanted release's name is as it was built (others: True). rests: names in the same folder that
    are no whole version. current: the name that the link leads to, "" without one. launchers: those
    that are as wanted. litter: paths of temporary files beside link and launchers."""

    versions: dict[str, bool]
    rests: tuple[str, ...] = ()
    current: str = ""
    launchers: tuple[str, ...] = ()
    litter: tuple[str, ...] = ()


class Act(NamedTuple):
    """One change, whole or not at all. verb: copy | switch | launcher | remove | tidy; subject: a
    version's or launcher's name, for tidy a path."""

    verb: str
    subject: str


def acts(name: str, found: Installed) -> tuple[Act, ...]:
    """In the order in which they are to be done: at each moment what `current` leads to is whole,
    and a launcher finds it. name: of the release wanted."""
    return tuple(_acts(folder_for(name, found), found))


def folder_for(name: str, found: Installed) -> str:
    """The folder that is to have the release: one that is damaged is not mended, because somebody
    may be running from it, but replaced by another."""
    number, folder = 1, name
    while not found.versions.get(folder, True):
        number += 1
        folder = f"{name}-{number}"
    return folder


def _acts(folder: str, found: Installed) -> Iterator[Act]:
    for rest in found.rests:
        yield Act("tidy", f"versions/{rest}")
    for path in found.litter:
        yield Act("tidy", path)
    if folder not in found.versions:
        yield Act("copy", folder)
    if found.current != folder:
        yield Act("switch", folder)
    for launcher in LAUNCHERS:
        if launcher not in found.launchers:
            yield Act("launcher", launcher)
    for version in found.versions:
        if version != folder:
            yield Act("remove", version)
