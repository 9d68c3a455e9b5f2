"""The file-backed store: host-local's folder, taken over in place, made to lose nothing.

Every public method is one locked section: take the lock, settle which boot the reservations
belong to, act, unlock. An OSError in it becomes StoreFailed with the path and a remedy.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address

from ipam.allocate import assign, cooling, lease, require_usable
from ipam.errors import InvalidConf, StoreFailed
from ipam.files import LOCK, OWNERS, RELEASED, TEMP, Folder, index_name
from ipam.lock import acquire
from ipam.logs import NEVER_S, parse_released, released_line
from ipam.memory import FolderMemory, Memory, pools_of
from ipam.node import Node, boot_clock_s, log_nothing, read_boot_id
from ipam.ranges import pool
from ipam.released import ReleasedLog
from ipam.reserve import Reservation, usage
from ipam.settle import heal, is_past, settle
from ipam.values import IPAddress, IpamConf, IPInterface, Lease, Owner, SetUsage

# No pathlib: the direct path pays for every import.

LOCK_TIMEOUT_S = 30.0  # a CRI call has 120 s in all

# A path that leads nowhere: no reservation can be there.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)

_REMEDIES = {
    errno.EROFS: "mount the file system writable",
    errno.ENOSPC: "free space or inodes on that file system",
    errno.EDQUOT: "raise the quota or free space",
    errno.EIO: "the disk fails: check the kernel log and the file system",
    errno.EACCES: "run as root and check the folder's owner, mode and security label",
    errno.EPERM: "check immutable flags and that the file system allows hard links",
    errno.ENOENT: "no folder can be made there, or it was removed meanwhile: change dataDir",
    errno.ENOTDIR: "a parent of the folder is a file: remove it or change dataDir",
    errno.EISDIR: "a folder lies where a file belongs: look whose it is, and remove it",
    errno.ELOOP: "the lock must be a regular file, not a symbolic link",
    errno.EMFILE: "raise the limit of open files",
    errno.ENFILE: "raise fs.file-max",
    errno.EMLINK: "use a file system that allows hard links (ext4, xfs, btrfs, tmpfs)",
}


class DiskLeases:
    """`ipam.store.Store` in files; structurally also `cni_plugin.ports.Leases`.

    evidence(network, address), boot_id, clock_s, warn: see `ipam.node.Node`. memory: what is
    shared with other stores of a process that lives as long as the boot at most.
    """

    def __init__(
        self,
        evidence: Callable[[str, IPAddress], bool],
        *,
        boot_id: Callable[[], str] = read_boot_id,
        clock_s: Callable[[], float] = boot_clock_s,
        warn: Callable[[str], None] = log_nothing,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        memory: Memory | None = None,
    ) -> None:
        self._evidence = evidence
        self._node = Node(lambda _address: False, boot_id, clock_s, warn)
        self._lock_timeout_s = lock_timeout_s
        self._memory = memory
        self._held: set[str] = set()  # folders that `exclusively` keeps locked

    def reserve(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface]
    ) -> tuple[Lease, ...]:
        """See `Store.reserve`."""
        addresses = self.take(conf, network, owner, requested)
        paired = enumerate(zip(conf.range_sets, addresses, strict=True))
        return tuple(lease(range_set, index, address) for index, (range_set, address) in paired)

    def take(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface] = ()
    ) -> tuple[IPAddress, ...]:
        """As `reserve`, without what follows from the range an address lies in."""
        wanted = assign(conf.range_sets, requested)
        pools = self._memory.pools(conf.range_sets) if self._memory else pools_of(conf.range_sets)
        for of, address in zip(pools, wanted, strict=True):
            if address is not None:
                require_usable(of, address)
        path = folder_path(conf.data_dir, network)
        locked = self._locked(path, create=True)
        with locked as folder:
            node = self._node_of(network)
            memory = locked.known(self._memory)
            if memory is None or not memory.settled:
                settle(folder, node)
            if memory is not None:
                memory.settled = True
            with ReleasedLog(folder, memory.released if memory else None) as log:
                return Reservation(node, folder, conf, owner, log).make(pools, wanted)

    def release(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = (), *,
        unused: bool = False,
    ) -> tuple[IPAddress, ...]:  # fmt: skip
        """See `Store.release`."""
        locked = self._existing(conf, network)
        if locked is None:
            return ()
        names = tuple(map(str, hint))
        try:
            with locked as folder:
                freed = self._release(folder, network, owner, names)
                self._note_released(folder, freed, NEVER_S if unused else self._node.clock_s())
                return _addresses(freed)
        except _NoLock:
            # Without the lock nothing can be freed, and nothing need be when nothing is held.
            if locked.look(owner, names):
                raise
            return ()

    def _release(
        self, folder: Folder, network: str, owner: Owner, hint: tuple[str, ...]
    ) -> tuple[str, ...]:
        try:
            settle(folder, self._node_of(network))
        except OSError as error:
            # What is the owner's is found and freed in an unsettled folder, too.
            self._node.warn(f"{folder.path} is not settled: {_failure(error, folder.path).msg}")
        freed = folder.held(owner, hint)
        for name in freed:
            folder.unlink(name)
        index = f"{OWNERS}/{index_name(owner)}"
        # A read-only file system refuses to unlink even what is not there.
        if index_name(owner) and (freed or folder.status(index) is not None):
            folder.unlink(index)
        return freed

    def held(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = ()
    ) -> tuple[IPAddress, ...]:
        """See `Store.held`."""
        locked = self._existing(conf, network)
        if locked is None:
            return ()
        names = tuple(map(str, hint))
        try:
            with locked as folder:
                if is_past(folder, self._node):
                    return ()
                return _addresses(folder.held(owner, names))
        except _NoLock:
            return _addresses(locked.look(owner, names))

    def owners(self, conf: IpamConf, network: str) -> dict[IPAddress, Owner]:
        """See `Store.owners`."""
        locked = self._existing(conf, network)
        if locked is None:
            return {}
        with locked as folder:
            if is_past(folder, self._node):
                return {}
            found = {name: who for name, who in folder.owners().items() if who is not None}
            by_address = {ip_address(name): who for name, who in found.items()}
            return {address: by_address[address] for address in _addresses(found)}

    def usage(self, conf: IpamConf, network: str) -> tuple[SetUsage, ...]:
        """See `Store.usage`."""
        pools = [pool(range_set) for range_set in conf.range_sets]
        names: set[str] = set()
        log = b""
        locked = self._existing(conf, network, absent=(errno.ENOENT,))
        if locked is not None:
            with locked as folder:
                if os.statvfs(folder.path).f_flag & os.ST_RDONLY:
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS), folder.path)
                if is_past(folder, self._node):
                    names = {n for n, who in folder.owners().items() if who and who.by_hand}
                else:
                    names, log = folder.taken(), folder.read(RELEASED) or b""
        cool = cooling(parse_released(log), self._node.clock_s(), conf.cooldown_s)
        return tuple(usage(of, names, cool) for of in pools)

    def retain(
        self,
        conf: IpamConf,
        network: str,
        valid: Collection[tuple[str, str]],
        snapshot: Mapping[IPAddress, Owner] | None = None,
    ) -> tuple[IPAddress, ...]:
        """See `Store.retain`."""
        locked = self._existing(conf, network)
        if locked is None:
            return ()
        with locked as folder:
            node = self._node_of(network)
            settle(folder, node)
            heal(folder, node)
            freed = tuple(
                name
                for name, who in folder.owners().items()
                if who is not None and not _is_valid(who, valid) and _is_in(snapshot, name, who)
            )
            for name in freed:
                folder.unlink(name)
            for name in (*folder.stale_index(), TEMP):
                folder.unlink(name)
            self._note_released(folder, freed, self._node.clock_s())
            return _addresses(freed)

    def exclusively(self, conf: IpamConf, network: str) -> Exclusive:
        """`with` it, all that this store does with the network is one locked section: to look
        again and act on what was seen. Keep it short. True inside, False when there is no folder.
        For a store of its own: one that threads share would let them all in."""
        return Exclusive(self._existing(conf, network), self._held)

    def _node_of(self, network: str) -> Node:
        """The surroundings as one network sees them: two that never meet may share ranges."""
        return self._node._replace(evidence=lambda address: self._evidence(network, address))

    def _existing(
        self, conf: IpamConf, network: str, absent: Collection[int] = _NOWHERE
    ) -> _Locked | None:
        """None when there is no folder. absent: the errors that say so."""
        path = folder_path(conf.data_dir, network)
        try:
            os.lstat(f"{path}/.")  # also tells that the path is no folder
        except OSError as error:
            if error.errno in absent:
                return None
            raise _failure(error, path) from error
        return self._locked(path)

    def _locked(self, path: str, *, create: bool = False) -> _Locked:
        made = _Locked if path not in self._held else _Inside
        return made(path, self._lock_timeout_s, create=create)

    def _note_released(self, folder: Folder, names: Sequence[str], at_s: float) -> None:
        """Remember when addresses were released. The release itself is done and stays good on a
        full disk; without the note the addresses merely do not cool down."""
        if not names:
            return
        try:
            folder.append(RELEASED, "".join(released_line(n, at_s) for n in names).encode())
        except OSError as error:
            self._node.warn(f"no cooldown for {', '.join(names)}: {error.strerror}")


class _NoLock(StoreFailed):
    """The lock cannot be had, whoever asks: its file is none, or cannot be made."""


class _Locked:
    """`with` the lock of a folder, made if asked; translates what goes wrong inside."""

    def __init__(self, path: str, timeout_s: float, *, create: bool = False) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._create = create
        self.descriptor = -1

    def __enter__(self) -> Folder:
        try:
            self.descriptor = self._acquire()
        except OSError as error:
            raise _failure(error, self._path, _NoLock) from error
        return Folder(self._path)

    def known(self, memory: Memory | None) -> FolderMemory | None:
        """What is remembered of the folder while it is locked."""
        if memory is None or self.descriptor < 0:
            return None
        return memory.of(self._path, self.descriptor)

    def look(self, owner: Owner, hint: tuple[str, ...]) -> tuple[str, ...]:
        """What the owner holds, seen without the lock."""
        try:
            return Folder(self._path).held(owner, hint)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _failure(error, self._path) from error

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        os.close(self.descriptor)
        if isinstance(error, OSError):
            raise _failure(error, self._path) from error

    def _acquire(self) -> int:
        lock = f"{self._path}/{LOCK}"
        try:
            return acquire(lock, self._timeout_s)
        except FileNotFoundError:
            if not self._create:
                raise
        make_folders(self._path)
        return acquire(lock, self._timeout_s)


class _Inside(_Locked):
    """A section within one that holds the lock already: only translates what goes wrong."""

    def __enter__(self) -> Folder:
        return Folder(self._path)

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise _failure(error, self._path) from error


class Exclusive:
    """See `DiskLeases.exclusively`."""

    def __init__(self, locked: _Locked | None, held: set[str]) -> None:
        self._locked = locked
        self._held = held
        self._path = ""

    def __enter__(self) -> bool:
        if self._locked is not None:
            self._path = self._locked.__enter__().path
            self._held.add(self._path)
        return self._locked is not None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._held.discard(self._path)
        if self._locked is not None:
            self._locked.__exit__(kind, error, trace)


def folder_path(data_dir: str, network: str) -> str:
    """`<data_dir>/<network>`. Raises InvalidConf for anything that could lead elsewhere."""
    absolute = data_dir.startswith("/") and not data_dir.startswith("//")
    if not absolute or os.path.normpath(data_dir) != data_dir or "\0" in data_dir:
        raise InvalidConf(
            f"dataDir {data_dir!r} is not an absolute, normalised path",
            "write it without '.', '..', doubled or trailing slashes",
        )
    if network in {"", ".", ".."} or "/" in network or "\0" in network:
        raise InvalidConf(f"network name {network!r} cannot name a folder")
    return f"{data_dir.rstrip('/')}/{network}"


def make_folders(path: str) -> None:
    """Create a folder and its missing parents, each 0700.

    No recursion that ends with success: /proc answers ENOENT for good, though the parent is there.
    """
    missing = [path]
    while not os.path.isdir(parent := os.path.dirname(missing[-1])):
        missing.append(parent)
    while missing:
        try:
            os.mkdir(missing.pop(), 0o700)
        except FileExistsError:
            continue


def _failure(error: OSError, path: str, kind: type[StoreFailed] = StoreFailed) -> StoreFailed:
    where = error.filename2 or error.filename or path
    remedy = _REMEDIES.get(error.errno or 0, "check the folder and the kernel log")
    return kind(f"the address store failed at {where}: {error.strerror}", remedy)


def _addresses(names: Iterable[str]) -> tuple[IPAddress, ...]:
    """In one order whatever the file system's: IPv4 first, ascending."""
    return tuple(sorted(map(ip_address, names), key=lambda a: (a.version, int(a))))


def _is_valid(who: Owner, valid: Collection[tuple[str, str]]) -> bool:
    """Owners in host-local's old format have no ifname: any interface keeps them. What a person
    reserved is that person's to release."""
    if who.by_hand:
        return True
    if who.ifname:
        return who[:2] in valid
    return any(container_id == who.container_id for container_id, _ifname in valid)


def _is_in(snapshot: Mapping[IPAddress, Owner] | None, name: str, who: Owner) -> bool:
    if snapshot is None:
        return True
    before = snapshot.get(ip_address(name))
    return before is not None and before[:2] == who[:2]
