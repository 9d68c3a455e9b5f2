"""Move a network's reservations to another data folder, or say whether a folder can be taken over.

Each step leaves every reservation in at least one of the two folders, and may be repeated: killed
half-way, the same command goes on. Links on one file system, synced copies between two.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address

from ipam.disk import DiskLeases, folder_path, make_folders
from ipam.errors import AddressInUse, InvalidConf
from ipam.files import (
    BOOT_ID,
    LAST_RESERVED,
    LOCK,
    OWNERS,
    RELEASED,
    STICKY,
    TEMP,
    Folder,
    address_of,
    index_name,
    parse_owner,
)
from ipam.lean_typing import NamedTuple
from ipam.values import IpamConf, Owner

LINES = 2  # of a reservation: container id, ifname
SHOWN = 10  # clashes named in a message


class Fitness(NamedTuple):
    """faults: why a folder cannot be taken over as it is. notes: what to know otherwise."""

    reservations: int
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def fitness(path: str) -> Fitness:
    """Whether podwire can go on with a host-local folder, judged without touching it.

    Raises OSError when it cannot be read."""
    faults = list(_folder_faults(path))
    notes: list[str] = []
    count = 0
    folder = Folder(path)
    with os.scandir(path) as found:
        for file in sorted(found, key=lambda entry: entry.name):
            if address_of(file.name) is not None:
                count += 1
                _review(folder, file, faults, notes)
            elif not _is_known(file.name):
                notes.append(f"{file.path}: not a reservation, left alone")
    if folder.status(BOOT_ID) is not None:
        notes.append(f"{path}: podwire has taken it over already")
    return Fitness(count, tuple(faults), tuple(notes))


def migrate(
    leases: DiskLeases, source: str, target: str, network: str, moved: Callable[[], None]
) -> int:
    """Moves the reservations of data_dir source to data_dir target; how many.

    moved: called when the target holds all of them and the source still does, for whoever has
    noted where they are. Raises AddressInUse when an address is held by different owners,
    InvalidConf, StoreFailed, LockTimeout; then the source is whole."""
    paths = {one: folder_path(one, network) for one in (source, target)}
    if os.path.realpath(paths[source]) == os.path.realpath(paths[target]):
        raise InvalidConf(f"{paths[source]} and {paths[target]} are the same folder")
    if os.path.realpath(paths[target]).startswith(f"{os.path.realpath(paths[source])}/"):
        raise InvalidConf(
            f"{paths[target]} lies in {paths[source]}", "TO is a data folder, without the network"
        )
    if not os.path.isdir(paths[source]):
        raise InvalidConf(f"{paths[source]} is not a folder of reservations")
    make_folders(paths[target])
    with ExitStack() as locks:
        for data_dir in sorted(paths, key=paths.__getitem__):  # one order: no deadlock
            conf = IpamConf("podwire-ipam", data_dir=data_dir)
            locks.enter_context(leases.exclusively(conf, network))
            leases.retain(conf, network, (), {})  # frees nobody: settles the boot and heals
        move = _Move(Folder(paths[source]), Folder(paths[target]))
        move.copy()
        moved()
        return move.clear()


class _Move:
    """Two locked folders."""

    def __init__(self, source: Folder, target: Folder) -> None:
        self._source = source
        self._target = target
        self._owners = _readable(source)
        self._one_disk = os.stat(source.path).st_dev == os.stat(target.path).st_dev

    def copy(self) -> None:
        """Everything into the target, durable."""
        self._refuse_clashes()
        self._target.make_index()
        for name, owner in self._owners.items():
            self._publish(name, owner)
        for name in self._logs():
            data = self._source.read(name)
            if data and self._target.status(name) is None:
                self._target.replace(name, data)
        for folder in (self._target.at(OWNERS), self._target.path):
            _sync(folder)

    def clear(self) -> int:
        """Nothing of it in the source; the folder with its lock stays."""
        for name, owner in self._owners.items():
            self._source.unlink(name)
            if index_name(owner):
                self._source.unlink(f"{OWNERS}/{index_name(owner)}")
        for name in self._logs():
            self._source.unlink(name)
        return len(self._owners)

    def _refuse_clashes(self) -> None:
        theirs = self._target.owners()
        clashes = [
            name
            for name, owner in self._owners.items()
            if name in theirs and (theirs[name] or Owner("", ""))[:2] != owner[:2]
        ]
        if clashes:
            clashes.sort(key=lambda name: (":" in name, int(ip_address(name))))
            more = f" and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
            raise AddressInUse(
                f"{self._target.path} holds {', '.join(clashes[:SHOWN])}{more} for others",
                "nothing was moved; release them in one of the two folders first",
            )

    def _publish(self, name: str, owner: Owner) -> None:
        """As an ADD does: the owner's synced file first, then the address as a link to it."""
        index = f"{OWNERS}/{index_name(owner)}" if index_name(owner) else TEMP
        data = self._source.read(name) or b""
        if index == TEMP:
            self._target.create_temp(data)
        elif parse_owner(self._target.read(index) or b"") is None:
            self._target.unlink(index)
            if self._one_disk:
                os.link(self._source.at(name), self._target.at(index))
                os.chmod(self._target.at(index), 0o600)  # host-local's are 0644
            else:
                self._target.create(index, data)
        self._target.link(index, name)
        if index == TEMP:
            self._target.discard(TEMP)

    def _logs(self) -> tuple[str, ...]:
        positions = (n for n in os.listdir(self._source.path) if n.startswith(LAST_RESERVED))
        return (*sorted(positions), RELEASED, STICKY)


def _readable(folder: Folder) -> dict[str, Owner]:
    """Address to owner. Raises AddressInUse for one that names nobody though a pod has it."""
    found: dict[str, Owner] = {}
    for name, owner in folder.owners().items():
        if owner is None:
            raise AddressInUse(
                f"{folder.at(name)} names no owner, but a pod of this node has the address",
                "delete that pod first; `podwire ipam check` tells more",
            )
        found[name] = owner
    return found


def _folder_faults(path: str) -> Iterator[str]:
    if os.path.islink(path):
        yield f"{path}: a symbolic link; give the folder itself"
    if os.pathconf(path, "PC_LINK_MAX") < LINES:
        yield f"{path}: its file system has no hard links (wanted: ext4, xfs, btrfs, tmpfs)"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        yield f"{path}: its file system is read-only"
    elif not os.access(path, os.W_OK | os.X_OK):
        yield f"{path}: cannot be written by this user; run it as root"


def _review(folder: Folder, file: os.DirEntry[str], faults: list[str], notes: list[str]) -> None:
    mode = file.stat(follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        faults.append(f"{file.path}: no regular file, so its address would stay taken for ever")
        return
    data = folder.read(file.name) or b""
    owner = parse_owner(data)
    if owner is None:
        notes.append(f"{file.path}: names no owner; freed when podwire finds no pod with it")
    elif not owner.ifname:
        notes.append(f"{file.path}: host-local's old format, any interface of the container")
    elif len(data.decode(errors="replace").strip().split("\r\n")) > LINES:
        notes.append(f"{file.path}: more than two lines (a fork of host-local); they are ignored")


def _is_known(name: str) -> bool:
    ours = (LOCK, BOOT_ID, RELEASED, STICKY, OWNERS, TEMP)
    return name in ours or name.startswith(LAST_RESERVED)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
