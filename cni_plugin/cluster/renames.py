"""Hears of files that are put in place by rename, as editors, programs and Kubernetes volumes do.

What is renamed was written before, so it can be read at once. Only a hint: a file system without
inotify tells nothing (so does a kernel whose `fs.inotify` limits are reached), and somebody has to
look from time to time anyway. Source: inotify(7), linux/inotify.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator

IN_MOVED_TO, IN_ONLYDIR = 0x80, 0x01000000
EVENT = struct.Struct("iIII")  # struct inotify_event: watch, mask, cookie, length of the name
READ_BYTES = 1 << 16
VOLUME = "..data"  # the link by which a Kubernetes volume is replaced, all files at once


class Renames:
    """Of one path. Its folder is watched, and the one that a link leads to."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        made = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.descriptor: int | None = made if made >= 0 else None

    def close(self) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def follow(self) -> None:
        """Watches where the path leads now; what is watched already stays so."""
        if self.descriptor is None:
            return
        for place in self._places():
            folder = os.fsencode(os.path.dirname(place))
            # Refused when there is no such folder: then nothing is heard of it.
            self._libc.inotify_add_watch(self.descriptor, folder, IN_MOVED_TO | IN_ONLYDIR)

    def drain(self) -> bool:
        """Whether one of what has come since was the path's. Raises nothing."""
        try:
            data = os.read(self.descriptor, READ_BYTES) if self.descriptor is not None else b""
        except OSError:  # nothing has come
            return False
        ours = {VOLUME, *map(os.path.basename, self._places())}
        return any(mask & IN_MOVED_TO and name in ours for mask, name in _events(data))

    def _places(self) -> set[str]:
        absolute = os.path.abspath(self._path)
        return {absolute, os.path.realpath(absolute)}


def _events(data: bytes) -> Iterator[tuple[int, str]]:
    """Mask and name of each."""
    place = 0
    while place + EVENT.size <= len(data):
        _watch, mask, _cookie, length = EVENT.unpack_from(data, place)
        place += EVENT.size
        yield mask, os.fsdecode(data[place : place + length].rstrip(b"\0"))
        place += length
