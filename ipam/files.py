r"""The files of one network's folder, each operation crash-safe by itself. Policy is in `disk`.

    <dataDir>/<network>/             mode 0700
        10.244.1.5                   host-local's reservation: `<container id>\r\n<ifname>`
        last_reserved_ip.0           host-local's round robin position of range set 0
        lock                         host-local's flock file
        .owners/<id>:<ifname>        hard link to the owner's reservations: the index by owner
        .boot_id                     `boot_id <uuid>`: the boot to which the reservations belong
        .released                    `<address> <boot clock>` released, `-<address>` given again
        .sticky                      `<namespace>/<name> <address>`: what a pod had last
        .tmp                         a file before its rename; any found under the lock is a wreck

A reservation is written once into `.owners`, synced, and then linked to each of its addresses:
link(2) is atomic and EEXIST tells that an address is taken. Keeping the first name instead of
unlinking it (a plain temp file) saves the unlink, makes a dual-stack ADD sync once, and gives
an index by owner that cannot disagree with the reservations: they are the same inode.
host-local walks into sub-folders and compares contents, so its DEL removes both names. Its
other reads take base names that are addresses, which these are not, and no dot file here can
have a content that it takes for an owner (they all have a space, an id has none).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from ipaddress import ip_address

from ipam.lean_typing import Self
from ipam.values import IPAddress, Owner

# No pathlib: the direct path pays for every import.

LINE_BREAK = b"\r\n"  # host-local, backend/disk/backend.go LineBreak
LOCK = "lock"
LAST_RESERVED = "last_reserved_ip."
OWNERS = ".owners"
BOOT_ID = ".boot_id"
RELEASED = ".released"
STICKY = ".sticky"
TEMP = ".tmp"
NAME_MAX = 255  # bytes, linux/limits.h
READ_PIECE = 1 << 16  # bytes; above 128 KiB malloc maps and unmaps memory for each read
READ_MAX = 1 << 24  # bytes; no file of ours comes near, and a foreign one must not eat the memory
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
# A foreign symlink, directory, device or FIFO must be neither followed nor waited for.
READ_SAFELY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_A_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)


def content(owner: Owner) -> bytes:
    """What a reservation of the owner holds, byte for byte as host-local writes it."""
    return owner.container_id.strip().encode() + LINE_BREAK + owner.ifname.encode()


def parse_owner(data: bytes) -> Owner | None:
    """The owner in a reservation's content; None when it is torn or garbled.

    A single line is the format of host-local before 0.7: no ifname. Lines after the second
    come from its forks and are ignored: a false free is worse than a foreign line.
    """
    try:
        lines = data.decode().strip().split("\r\n")
    except UnicodeDecodeError:
        return None
    container_id, ifname = lines[0], lines[1] if len(lines) > 1 else ""
    if not container_id or not (container_id + ifname).isprintable():
        return None
    return Owner(container_id, ifname)


def index_name(owner: Owner) -> str:
    """The owner's name in `.owners`; empty when it cannot be one (too long, a foreign id).

    An ifname has no colon (SPEC 1.1.0, linux dev_valid_name), so the last colon separates.
    """
    name = f"{owner.container_id}:{owner.ifname}"
    sound = owner.container_id and owner.ifname and "/" not in name and ":" not in owner.ifname
    return name if sound and len(name.encode()) <= NAME_MAX else ""


def address_of(name: str) -> IPAddress | None:
    """The address that a file is named after; None for every other file."""
    try:
        return ip_address(name)
    except ValueError:
        return None


class Folder:
    """One network's folder while its lock is held. Raises OSError; `disk` translates it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def at(self, name: str) -> str:
        """The path of a file of the folder."""
        return f"{self.path}/{name}"

    # --- single files

    def read(self, name: str) -> bytes | None:
        """The content; None when there is no such file; empty for what is not a regular file."""
        try:
            descriptor = os.open(self.at(name), READ_SAFELY)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                return b""
            raise
        try:
            return read_all(descriptor)
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                return b""
            raise
        finally:
            os.close(descriptor)

    def create(self, name: str, data: bytes) -> None:
        """A new synced file. FileExistsError when it is there; on any failure it is not left."""
        path = self.at(name)
        descriptor = os.open(path, _CREATE, 0o600)
        try:
            try:
                _write_all(descriptor, data)
                # Never repeated: after EIO a second sync says success and the data is gone.
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.discard(name)
            # Failures of a descriptor do not say which file they mean.
            raise OSError(error.errno, error.strerror, path) from error

    def replace(self, name: str, data: bytes) -> None:
        """Write by temp file, sync and rename: a reader sees the old or the new content."""
        self.create_temp(data)
        os.rename(self.at(TEMP), self.at(name))

    def create_temp(self, data: bytes) -> None:
        """`.tmp` with that content. One left by a killed process may be a hard link to a
        reservation, so it is unlinked and never truncated."""
        try:
            self.create(TEMP, data)
        except FileExistsError:
            self.unlink(TEMP)
            self.create(TEMP, data)

    def unlink(self, name: str) -> bool:
        """Remove a file; False when it was not there."""
        try:
            os.unlink(self.at(name))
        except FileNotFoundError:
            return False
        return True

    def discard(self, name: str) -> str:
        """Remove a file while another failure is being handled; says what went wrong, if so."""
        try:
            self.unlink(name)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def restore(self, name: str, data: bytes) -> None:
        """Write a torn file anew in place, for all of its names at once. Killed half-way it is
        as torn as before, so the next healing repeats it."""
        descriptor = os.open(self.at(name), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _write_all(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def append(self, name: str, data: bytes) -> None:
        """Add lines to a log, all or none, not synced: logs matter in the same boot only. They
        begin anew, because what is there may have been cut short by a full disk or be garbage."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.at(name), flags, 0o600)
        try:
            append_all(descriptor, b"\n" + data)
        except OSError:
            if not os.fstat(descriptor).st_size:
                self.discard(name)  # made a moment ago, and an empty file looks torn
            raise
        finally:
            os.close(descriptor)

    def position(self, set_index: int) -> Position:
        """The round robin position of a range set, open for reading and writing."""
        return Position(self, f"{LAST_RESERVED}{set_index}")

    def link(self, source: str, name: str) -> bool:
        """Give a file a second name; False when that name is taken."""
        try:
            os.link(self.at(source), self.at(name))
        except FileExistsError:
            return False
        return True

    def status(self, name: str) -> os.stat_result | None:
        """lstat, None when there is no such file."""
        try:
            return os.lstat(self.at(name))
        except FileNotFoundError:
            return None

    # --- reservations

    def inodes(self) -> dict[str, int]:
        """Name to inode number of every file but dot files, from one listing."""
        with os.scandir(self.path) as entries:
            return {e.name: e.inode() for e in entries if not e.name.startswith(".")}

    def taken(self) -> set[str]:
        """The name of every file in the folder: cheap, and enough to tell what is taken."""
        return set(os.listdir(self.path))

    def index(self) -> dict[int, Owner]:
        """Inode number to owner, from one listing of `.owners`."""
        found = {}
        for entry in self._index_entries():
            container_id, _, ifname = entry.name.rpartition(":")
            found[entry.inode()] = Owner(container_id, ifname, "")
        return found

    def unindexed(self) -> Iterator[tuple[str, Owner | None]]:
        """Reservations that are not in the index, with the owner (None: torn) in their content:
        host-local's since the folder was adopted, and those whose index was lost."""
        known = self.index()
        for name, inode in self.inodes().items():
            if inode not in known and address_of(name) is not None:
                data = self.read(name)
                if data is not None:
                    yield name, parse_owner(data)

    def owners(self) -> dict[str, Owner | None]:
        """Every reservation's owner (None: torn) without opening those in the index."""
        known = self.index()
        found: dict[str, Owner | None] = {}
        for name, inode in self.inodes().items():
            if inode in known:
                found[name] = known[inode]
            elif address_of(name) is not None:
                found[name] = parse_owner(self.read(name) or b"")
        return found

    def held(self, owner: Owner, hint: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The names of the owner's reservations.

        hint: names that are probably the owner's; when they are all of them nothing is listed.
        The index answers when it accounts for every link of its inode; otherwise contents do.
        """
        index = index_name(owner)
        status = self.status(f"{OWNERS}/{index}") if index else None
        linked: tuple[str, ...] = ()
        if status is not None and status.st_nlink > 1:
            linked = self._linked(status, hint)
            if len(linked) == status.st_nlink - 1:
                return linked
        return tuple(dict.fromkeys((*linked, *self._held_by_content(owner))))

    def stale_index(self) -> tuple[str, ...]:
        """Names in `.owners` without any reservation: left by a kill before the first link."""
        return tuple(
            f"{OWNERS}/{entry.name}"
            for entry in self._index_entries()
            if entry.stat(follow_symlinks=False).st_nlink == 1
        )

    def add_to_index(self, name: str, owner: Owner) -> None:
        """Make a reservation that host-local wrote part of the index, without a gap in it."""
        index = index_name(owner)
        if not index:
            return
        os.chmod(self.at(name), 0o600)  # host-local's are 0644
        if not self.link(name, f"{OWNERS}/{index}"):
            # A second address of the owner: the file becomes a link to the first one's inode.
            self.unlink(TEMP)
            os.link(self.at(f"{OWNERS}/{index}"), self.at(TEMP))
            os.rename(self.at(TEMP), self.at(name))

    def make_index(self) -> bool:
        """Create `.owners`; False when it exists."""
        try:
            os.mkdir(self.at(OWNERS), 0o700)
        except FileExistsError:
            return False
        return True

    def _index_entries(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.at(OWNERS)) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _linked(self, status: os.stat_result, hint: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(name for name in dict.fromkeys(hint) if self._is(name, status))
        if len(found) == status.st_nlink - 1:
            return found
        # The inode in a listing may differ from stat's (overlayfs), hence the second look.
        same = [name for name, inode in self.inodes().items() if inode == status.st_ino]
        return tuple(name for name in same if self._is(name, status))

    def _is(self, name: str, status: os.stat_result) -> bool:
        found = self.status(name)
        return found is not None and os.path.samestat(found, status)

    def _held_by_content(self, owner: Owner) -> tuple[str, ...]:
        """As host-local: files with id and ifname, else those of the old format with the id."""
        found = [(name, who[:2]) for name, who in self.unindexed() if who]
        exact = tuple(name for name, key in found if key == owner[:2])
        return exact or tuple(name for name, key in found if key == (owner.container_id, ""))


class Position:
    """A `last_reserved_ip.N` file. Only a hint of where to go on, so its failures are no harm."""

    def __init__(self, folder: Folder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._descriptor = -1
        self._old = b""

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._folder.at(self._name), os.O_RDWR | READ_SAFELY)
            self._old = os.read(self._descriptor, NAME_MAX)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS, *_NOT_A_FILE):
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def address(self) -> IPAddress | None:
        """The address given last; None when there is none or the file is garbled."""
        return address_of(self._old.decode("ascii", "replace"))

    def move(self, address: IPAddress) -> None:
        """Write the address given now. Of equal length, as nearly always, it is overwritten in
        place with one call that cannot tear; otherwise by rename, so that no kill and no power
        cut leaves a mixture of two addresses."""
        new = str(address).encode()
        if self._descriptor >= 0 and len(new) == len(self._old):
            os.pwrite(self._descriptor, new, 0)
        else:
            self._folder.replace(self._name, new)


def read_all(descriptor: int) -> bytes:
    """From where the descriptor is to the end, or READ_MAX."""
    data = piece = os.read(descriptor, READ_PIECE)
    while len(piece) == READ_PIECE and len(data) < READ_MAX:
        piece = os.read(descriptor, READ_PIECE)
        data += piece
    return data


def append_all(descriptor: int, data: bytes) -> None:
    """To the end of a file that nobody else writes to meanwhile, all or nothing: a disk that gets
    full takes a part first, and half a line may be read as another one."""
    taken = os.write(descriptor, data)
    if taken == len(data):
        return
    end = os.fstat(descriptor).st_size - taken
    try:
        _write_all(descriptor, data[taken:])
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
