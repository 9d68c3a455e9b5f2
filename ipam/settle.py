"""Make a folder trustworthy under its lock: another boot, a foreign or wiped folder, torn files.

Each step may be interrupted and repeated: what marks it as done comes last.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address

from ipam.files import (
    BOOT_ID,
    OWNERS,
    RELEASED,
    STICKY,
    TEMP,
    Folder,
    address_of,
    content,
    index_name,
    parse_owner,
)
from ipam.logs import parse_sticky, sticky_lines
from ipam.node import Node
from ipam.values import Owner

STICKY_MAX = 8192  # addresses whose last pod is remembered; more than a node ever runs


def is_past(folder: Folder, node: Node) -> bool:
    """True when the reservations are of another boot: their pods died with it."""
    marker, now = folder.read(BOOT_ID), node.boot_id()
    return bool(now) and marker is not None and _is_marker(marker) and marker != _marker(now)


def settle(folder: Folder, node: Node) -> None:
    """Purge what another boot left, adopt what has no marker, then write the marker.

    A marker that is no marker (torn) counts as none: adopting keeps addresses that GC may
    free, purging could not give them back. File times are not asked, clocks jump.
    """
    marker, now = folder.read(BOOT_ID), node.boot_id()
    if not now or marker == _marker(now):
        return
    if marker is not None and _is_marker(marker):
        _purge(folder, node)
    else:
        _adopt(folder, node)
    folder.replace(BOOT_ID, _marker(now))


def build_index(folder: Folder, node: Node) -> None:
    """Enter every reservation with a readable owner into `.owners`, and heal the others."""
    folder.make_index()
    found = list(folder.unindexed())
    for name, who in found:
        if who is not None:
            folder.add_to_index(name, who)
    reclaim(folder, node, [name for name, who in found if who is None])


def heal(folder: Folder, node: Node) -> tuple[str, ...]:
    """Restore torn reservations that the index knows, reclaim those that nobody knows or uses.

    Reads every reservation. Returns the names reclaimed.
    """
    for owner, name in _torn_but_indexed(folder).items():
        folder.restore(f"{OWNERS}/{index_name(owner)}", content(owner))
        node.warn(f"healed torn file {folder.at(name)}: {owner.container_id} holds it")
    return reclaim(folder, node, [name for name, who in folder.unindexed() if who is None])


def reclaim(folder: Folder, node: Node, torn: Sequence[str]) -> tuple[str, ...]:
    """Remove torn reservations whose addresses are not in use; the names that were removed."""
    freed = []
    for name in torn:
        path = folder.at(name)
        if node.evidence(ip_address(name)):
            node.warn(f"torn file {path} kept: the address is in use on this node")
            continue
        try:
            folder.unlink(name)
        except (IsADirectoryError, PermissionError) as error:
            node.warn(f"torn file {path} kept: {error.strerror}")
            continue
        node.warn(f"healed torn file {path}: it named no owner, the address is free again")
        freed.append(name)
    return tuple(freed)


def compact_sticky(folder: Folder) -> None:
    """Rewrite the log of sticky addresses with the latest line of each address."""
    log = folder.read(STICKY)
    if log:
        latest = list(parse_sticky(log).items())[-STICKY_MAX:]
        folder.replace(STICKY, b"".join(sticky_lines(pod, (name,)) for name, pod in latest))


def _purge(folder: Folder, node: Node) -> None:
    """Drop every reservation of the other boot. Rotation, stickiness and what a person reserved
    stay."""
    names = [
        name
        for name, who in folder.owners().items()
        if address_of(name) is not None and (who is None or not who.by_hand)
    ]
    for name in names:
        folder.unlink(name)
    for name in (*folder.stale_index(), RELEASED, TEMP):
        folder.unlink(name)
    compact_sticky(folder)
    if names:
        node.warn(f"{folder.path}: dropped {len(names)} reservations of an earlier boot")


def _adopt(folder: Folder, node: Node) -> None:
    """Take over a folder without a marker: host-local's, a new or a wiped one."""
    os.chmod(folder.path, 0o700)  # no pathlib; host-local's is 0755
    folder.unlink(TEMP)
    build_index(folder, node)


def _torn_but_indexed(folder: Folder) -> dict[Owner, str]:
    known = folder.index()
    pairs = [(known[inode], name) for name, inode in folder.inodes().items() if inode in known]
    return {who: name for who, name in pairs if parse_owner(folder.read(name) or b"") != who}


def _marker(boot_id: str) -> bytes:
    return f"boot_id {boot_id}\n".encode()


def _is_marker(data: bytes) -> bool:
    return data.startswith(b"boot_id ") and data.endswith(b"\n")
