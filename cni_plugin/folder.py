"""Folders of small files on tmpfs, below /run/podwire: 0700, ours, gone after a reboot.

A file is written beside its name and renamed, so a reader never sees half of one; nothing is
synced, because there is nothing to survive for.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from cni_plugin.model.names import digest

STATE_DIR = "/run/podwire"
ABSENT = (FileNotFoundError, NotADirectoryError)  # no such file, or something else in its path


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
