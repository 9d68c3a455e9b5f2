"""What a process that serves many calls remembers of a store's folders, each under its lock.

Nothing here is trusted to say what is free: link(2) tells that. It spares the next section what
this one has found out, as long as the lock is the same file: a folder that was wiped and made anew
has another one, or lacks what the first step of a reservation needs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ipam.ranges import Pool, pool
from ipam.released import Remembered
from ipam.values import RangeSet

FOLDERS_MAX = 64  # networks of one node; a handful in life


def pools_of(range_sets: Sequence[RangeSet]) -> list[Pool]:
    """One pool a range set."""
    return [pool(range_set) for range_set in range_sets]


class FolderMemory:
    """Of one folder. settled: its reservations are known to be of this boot, which does not end
    before the process does."""

    def __init__(self, lock: tuple[int, int, int]) -> None:
        self.lock = lock
        self.settled = False
        self.released = Remembered()


class Memory:
    """By the folder's path. For a holder of the folder's lock only."""

    def __init__(self) -> None:
        self._folders: dict[str, FolderMemory] = {}
        self._pools: dict[int, tuple[Sequence[RangeSet], list[Pool]]] = {}

    def pools(self, range_sets: Sequence[RangeSet]) -> list[Pool]:
        """The pools of a config, which is the very same object for many pods."""
        known = self._pools.get(id(range_sets))
        if known is None or known[0] is not range_sets:
            if len(self._pools) >= FOLDERS_MAX:
                self._pools.clear()
            known = self._pools[id(range_sets)] = (range_sets, pools_of(range_sets))
        return known[1]

    def of(self, path: str, lock: int) -> FolderMemory:
        """What is known of the folder. lock: a descriptor of its lock file."""
        found = os.fstat(lock)
        # A file system gives a new file the number of one that has just gone.
        identity = found.st_dev, found.st_ino, found.st_ctime_ns
        known = self._folders.get(path)
        if known is None or known.lock != identity:
            while len(self._folders) >= FOLDERS_MAX:
                self._folders.pop(next(iter(self._folders)), None)
            known = self._folders[path] = FolderMemory(identity)
        return known
