"""The file source: the nodes as a peers file says, read again whenever it is another.

A file that is put in its place by rename is whole and read at once. Everything else is found by
stat, which works on every file system and costs nothing; then it is read when two looks in a row
find it the same, so that one that is just being written is not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from cni_plugin.cluster.peers import Peers
from cni_plugin.cluster.renames import Renames
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.cni.errors import CNIError

LOOK_S = 0.5
AGAIN_S = 0.1  # after a look that found it changed
BYTES_MAX = 1 << 24  # 5,000 nodes are 1 MB

Identity = tuple[int, int, int, int]  # device, inode, size, time of change in ns


class FileSource:
    """warn: told why the file cannot be used, each reason once; what it said before stays."""

    def __init__(self, path: str, me: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._peers = Peers(path, me)
        self._warn = warn
        self._told = ""
        self._cluster: Cluster | None = None

    async def run(self, changed: Callable[[Cluster], None]) -> None:
        """Until it is cancelled."""
        renames, moved = Renames(self._path), asyncio.Event()
        loop = asyncio.get_running_loop()

        def heard() -> None:
            if renames.drain():
                moved.set()

        if renames.descriptor is not None:
            loop.add_reader(renames.descriptor, heard)
        try:
            await self._watch(renames, moved, changed)
        finally:
            if renames.descriptor is not None:
                loop.remove_reader(renames.descriptor)
            renames.close()

    async def _watch(
        self, renames: Renames, moved: asyncio.Event, changed: Callable[[Cluster], None]
    ) -> None:
        seen: Identity | None = None
        used: Identity | None = None
        while True:
            whole = moved.is_set()
            moved.clear()
            renames.follow()  # before the look: what comes after it is heard
            before, seen = seen, self._look()
            if seen and seen != used and (whole or seen == before):
                used = seen
                cluster = await asyncio.to_thread(self._read, seen)
                if cluster is not None and cluster != self._cluster:
                    self._cluster = cluster
                    changed(cluster)
            try:
                async with asyncio.timeout(LOOK_S if seen == before else AGAIN_S):
                    await moved.wait()
            except TimeoutError:
                pass

    async def announce(self, me: Node) -> None:
        """The file is written by others."""

    def _look(self) -> Identity | None:
        try:
            found = os.stat(self._path)
        except OSError as error:
            self._tell(f"{self._path} cannot be read: {error.strerror}")
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self, seen: Identity) -> Cluster | None:
        """None: it is no good, or another by now."""
        try:
            with open(self._path, "rb", opener=_opened) as file:
                data = file.read(BYTES_MAX + 1)
            if len(data) > BYTES_MAX:
                self._tell(f"{self._path} is larger than {BYTES_MAX} bytes")
                return None
            cluster = self._peers.parse(data.decode())
        except OSError as error:
            self._tell(f"{self._path} cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            self._tell(f"{self._path} is not UTF-8: {error.reason} at byte {error.start}")
        except CNIError as error:
            self._tell(str(error))
        else:
            if self._look() == seen:
                self._told = ""
                return cluster
        return None

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            kept = "; what it said before stays" if self._cluster else ""
            self._warn(f"cluster: {text}{kept}")


def _opened(path: str, flags: int) -> int:
    """Without waiting: a FIFO has no writer yet."""
    return os.open(path, flags | os.O_NONBLOCK)
