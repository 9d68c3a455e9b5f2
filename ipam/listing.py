"""A network's folder as it lies there, for people and for what decides from a distance.

Only reads, and takes no lock: a held lock or a read-only disk must not hide the store. So a
reservation may come or go meanwhile; whoever acts on a listing looks again under the lock.
"""

from __future__ import annotations

import os
from _socket import AF_INET, inet_pton
from collections.abc import Callable, Iterator
from operator import itemgetter

from ipam.disk import folder_path
from ipam.errors import InvalidConf
from ipam.files import BOOT_ID, OWNERS, Folder, address_of, parse_owner
from ipam.lean_typing import NamedTuple
from ipam.node import Node, read_boot_id
from ipam.settle import is_past
from ipam.values import Owner


class Entry(NamedTuple):
    """One reservation. address: as ipaddress writes it. owner None: torn. since_ns: the file's
    mtime (wall clock, nanoseconds); it is written once, so this is when it was reserved."""

    address: str
    owner: Owner | None
    since_ns: int
    mode: int


class Other(NamedTuple):
    """Any other file of the folder or of `.owners/`, by its name below the folder."""

    name: str
    mode: int
    size: int
    links: int


class Listing(NamedTuple):
    """A folder. past: its reservations are another boot's, dropped at the next ADD. marked: it
    bears the mark of a boot, that is podwire has taken it over. mode: the folder's own."""

    data_dir: str
    network: str
    entries: tuple[Entry, ...] = ()
    others: tuple[Other, ...] = ()
    past: bool = False
    marked: bool = False
    mode: int = 0o40700

    @property
    def path(self) -> str:
        return f"{self.data_dir.rstrip('/')}/{self.network}"


def networks(data_dir: str) -> tuple[str, ...]:
    """The names of the folders below a data dir; none when it is not there. Raises OSError."""
    try:
        with os.scandir(data_dir) as found:
            return tuple(sorted(e.name for e in found if e.is_dir(follow_symlinks=False)))
    except FileNotFoundError:
        return ()


def read_listing(
    data_dir: str,
    network: str,
    boot_id: Callable[[], str] = read_boot_id,
    *,
    whole: bool = True,
) -> Listing | None:
    """None when there is no such folder. whole: with the files of `.owners/`. Raises OSError and
    InvalidConf."""
    path = folder_path(data_dir, network)
    folder = Folder(path)
    try:
        index = folder.index()  # before the addresses: a reservation is entered here first
        entries, others = _files(folder, index)
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    node = Node(lambda _address: False, boot_id)
    return Listing(
        data_dir=data_dir,
        network=network,
        entries=entries,
        others=tuple(sorted((*others, *(_index_files(folder) if whole else ())))),
        past=is_past(folder, node),
        marked=folder.status(BOOT_ID) is not None,
        mode=mode,
    )


def all_listings(
    data_dirs: tuple[str, ...],
    boot_id: Callable[[], str] = read_boot_id,
    *,
    whole: bool = True,
) -> Iterator[Listing]:
    """Every network below the data dirs. A folder whose name no network can have is passed over."""
    for data_dir in dict.fromkeys(data_dirs):
        for network in networks(data_dir):
            try:
                found = read_listing(data_dir, network, boot_id, whole=whole)
            except InvalidConf:
                continue
            if found is not None:
                yield found


def _files(folder: Folder, index: dict[int, Owner]) -> tuple[tuple[Entry, ...], list[Other]]:
    """One pass over the folder; only what the index does not know is opened. Entries come in the
    order of their addresses, IPv4 first."""
    entries: list[tuple[int, bytes, Entry]] = []
    others: list[Other] = []
    with os.scandir(folder.path) as found:
        for file in found:
            parsed = _parsed(file.name)
            try:
                status = file.stat(follow_symlinks=False)
                if parsed is None:
                    others.append(Other(file.name, status.st_mode, status.st_size, status.st_nlink))
                    continue
                owner = index.get(file.inode()) or parse_owner(folder.read(file.name) or b"")
            except FileNotFoundError:
                continue  # released meanwhile
            address, packed = parsed
            entry = Entry(address, owner, status.st_mtime_ns, status.st_mode)
            entries.append((len(packed), packed, entry))
    entries.sort(key=itemgetter(0, 1))
    in_order = tuple(entry for _size, _packed, entry in entries)
    return in_order, [other for other in others if other.name != OWNERS]


def _parsed(name: str) -> tuple[str, bytes] | None:
    """The address that a file is named after, as text and packed; None for every other file.

    inet_pton takes only the one way to write an IPv4 address and costs a tenth of ip_address."""
    try:
        return name, inet_pton(AF_INET, name)
    except (OSError, ValueError):
        address = address_of(name)
    return None if address is None else (str(address), address.packed)


def _index_files(folder: Folder) -> Iterator[Other]:
    try:
        with os.scandir(folder.at(OWNERS)) as found:
            for file in found:
                try:
                    status = file.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                name = f"{OWNERS}/{file.name}"
                yield Other(name, status.st_mode, status.st_size, status.st_nlink)
    except FileNotFoundError:
        return
