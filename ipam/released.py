"""The log of released addresses of one folder: read, added to, and remembered between sections.

It is only ever added to or replaced as a whole, so who has read it once need not read again what
has not grown. What is remembered merely steers the choice of an address; link(2) decides.
"""

from __future__ import annotations

import os
from collections.abc import Container

from ipam.files import READ_SAFELY, RELEASED, Folder, append_all, read_all
from ipam.lean_typing import Self
from ipam.logs import add_released, format_released, worth_keeping

_LOG = os.O_RDWR | os.O_APPEND | READ_SAFELY
SMALL = 16384  # bytes of a log that are not worth rewriting


class Remembered:
    """What was found in the log: addresses to times, and up to which byte of which file."""

    def __init__(self) -> None:
        self.file = (0, 0)  # device, inode
        self.size = 0
        self.torn = False  # it ends in the middle of a line: who wrote that was killed
        self.tried = 0  # bytes, when writing it anew was last found not to be worth it
        self.released: dict[str, float] = {}

    def forget(self) -> None:
        """The next one reads all of it."""
        self.file, self.size, self.tried, self.released = (0, 0), 0, 0, {}
        self.torn = False


class ReleasedLog:
    """`with` it, the log is open. What cannot be opened for reading and writing (none there,
    read-only, not a file) is read, and made by `append`, as by itself."""

    def __init__(self, folder: Folder, memory: Remembered | None = None) -> None:
        self._folder = folder
        self._kept = memory is not None
        self._memory = memory or Remembered()
        self._descriptor = -1

    @property
    def released(self) -> dict[str, float]:
        """Address text to release time, oldest first; not to be changed."""
        return self._memory.released

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._folder.at(RELEASED), _LOG)
            self._read()
        except FileNotFoundError:
            self._memory.forget()
        except OSError:
            self.close()
            self._memory.forget()
            add_released(self._memory.released, self._folder.read(RELEASED) or b"")
        return self

    def _read(self) -> None:
        memory = self._memory
        if not self._kept:
            self._learn()
            return
        found = os.fstat(self._descriptor)
        file = found.st_dev, found.st_ino
        if file != memory.file or found.st_size < memory.size:
            memory.forget()
        if found.st_size > memory.size:
            os.lseek(self._descriptor, memory.size, os.SEEK_SET)
            self._learn()
        memory.file = file

    def _learn(self) -> None:
        """What there is from where the descriptor is."""
        data = read_all(self._descriptor)
        add_released(self._memory.released, data)
        self._memory.size += len(data)
        self._memory.torn = data[-1:] not in (b"", b"\n")

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def add(self, lines: bytes, cool: Container[str]) -> None:
        """Adds lines, all or none, not synced; a log of which half is of no use any more is
        written anew. cool: the addresses that must stay in it."""
        if self._compacted(lines, cool) or not lines:
            return
        if self._descriptor >= 0:
            append_all(self._descriptor, b"\n" + lines if self._memory.torn else lines)
        else:
            self._folder.append(RELEASED, lines)

    def _compacted(self, lines: bytes, cool: Container[str]) -> bool:
        memory = self._memory
        if memory.size <= max(SMALL, memory.tried + memory.tried // 4):
            return False
        released = dict(memory.released)
        add_released(released, lines)
        compact = format_released(worth_keeping(released, cool))
        if not compact or 2 * len(compact) >= memory.size:
            memory.tried = memory.size
            return False
        self.close()
        self._folder.replace(RELEASED, compact)
        memory.forget()
        return True
