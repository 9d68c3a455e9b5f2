"""podwire's own small files on tmpfs: attachment records and validated configs.

Both live below /run/podwire (0700, ours): gone after a reboot, as the kernel's objects are. They
are written beside their name and renamed, so a reader never sees half of one; nothing is synced,
because there is nothing to survive for.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from cni_plugin import record
from cni_plugin.cni.errors import IoFailure
from cni_plugin.cni.values import Attachment
from cni_plugin.model.names import digest
from cni_plugin.record import Record

STATE_DIR = "/run/podwire"
ABSENT = (FileNotFoundError, NotADirectoryError)  # no such file, or something else in its path
CACHE_MAX_FILES = 64  # a node has a handful of configs; runtimeConfig could make endless ones
NAME_MAX_BYTES = 255  # linux/limits.h


class Folder:
    """One folder of small files. Made on the first write; used only when it is really ours."""

    def __init__(self, path: str, *, writers: int = 1) -> None:
        self.path = path
        # With one writer a name, what a killed one left has the name that the next one uses.
        self._mark = f".{os.getpid()}" if writers > 1 else ""

    def _temporary(self, name: str) -> str:
        return f"{self._mark}.{digest(name)}"

    def read(self, name: str) -> bytes | None:
        """None when there is no such file. Raises OSError."""
        try:
            with open(f"{self.path}/{name}", "rb") as file:
                return file.read()
        except ABSENT:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Whole or not at all. Raises OSError."""
        temporary = f"{self.path}/{self._temporary(name)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(temporary, flags, 0o600)
        except FileNotFoundError:
            make_private(self.path)
            descriptor = os.open(temporary, flags, 0o600)
        try:
            try:
                if os.write(descriptor, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)
            os.rename(temporary, f"{self.path}/{name}")
        except OSError:
            with suppress(*ABSENT):
                os.unlink(temporary)
            raise

    def remove(self, name: str) -> None:
        """Nothing there is fine; what a killed writer left goes too. Raises OSError."""
        for file in (name, self._temporary(name)):
            with suppress(*ABSENT):
                os.unlink(f"{self.path}/{file}")

    def names(self) -> tuple[str, ...]:
        """Without temporary files."""
        try:
            return tuple(sorted(name for name in os.listdir(self.path) if name[0] != "."))
        except ABSENT:
            return ()

    def is_ours(self) -> bool:
        """A folder of this user's that nobody else may write to, and no symbolic link."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not writable


def make_private(path: str) -> None:
    """A folder and its missing parents, each 0700 (os.makedirs gives that to the last only)."""
    with suppress(FileExistsError):
        try:
            os.mkdir(path, 0o700)
        except FileNotFoundError:
            make_private(os.path.dirname(path))
            os.mkdir(path, 0o700)


class DiskRecords:
    """Records below STATE_DIR/attachments/NETWORK/."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self._root = f"{state_dir}/attachments"

    def load(self, network: str, attachment: Attachment) -> Record | None:
        folder = self._folder(network)
        try:
            data = folder.read(_file_name(attachment))
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be read in {folder.path}: {error.strerror}"
            ) from error
        return record.load(data) if data is not None else None

    def save(self, entry: Record) -> None:
        folder = self._folder(entry.network)
        try:
            folder.write(_file_name(entry.attachment), record.dump(entry))
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be written in {folder.path}: {error.strerror}",
                "podwire keeps its records on a tmpfs below /run: is it mounted, writable, full?",
            ) from error

    def remove(self, network: str, attachment: Attachment) -> None:
        folder = self._folder(network)
        try:
            folder.remove(_file_name(attachment))
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be removed from {folder.path}: {error.strerror}"
            ) from error

    def of_network(self, network: str) -> tuple[Record, ...]:
        folder = self._folder(network)
        found = (folder.read(name) for name in folder.names())
        loaded = (record.load(data) for data in found if data is not None)
        return tuple(entry for entry in loaded if entry is not None)

    def networks(self) -> tuple[str, ...]:
        return Folder(self._root).names()

    def _folder(self, network: str) -> Folder:
        return Folder(f"{self._root}/{network}")


def _file_name(attachment: Attachment) -> str:
    """CONTAINERID:IFNAME; a colon is in neither. A long id keeps its beginning for the reader."""
    name = f"{attachment.container_id}:{attachment.ifname}"
    if len(name.encode()) <= NAME_MAX_BYTES:
        return name
    return f"{attachment.container_id[:200]}~{digest(*attachment)}"


class ConfigCache:
    """Validated configs, so that a cold run need not load pydantic. Only a cache: whatever is
    wrong with it, the config is validated again. A folder that others may write to is not used."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self._folder = Folder(f"{state_dir}/configs", writers=2)

    def read(self, name: str) -> bytes | None:
        try:
            return self._folder.read(name) if self._folder.is_ours() else None
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        try:
            make_private(self._folder.path)
            if not self._folder.is_ours():
                return
            for old in self._folder.names()[CACHE_MAX_FILES - 1 :]:
                self._folder.remove(old)
            self._folder.write(name, data)
        except OSError:
            return
