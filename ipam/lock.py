"""The store's lock: flock on host-local's `lock` file, bounded in time, naming who holds it.

The same file and the same kind of lock as host-local (go-filemutex uses flock(2)), so both
may work on one folder at the same time. The kernel drops the lock with the last descriptor,
so a killed process cannot leave it behind.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from ipam.errors import LockTimeout

FIRST_WAIT_S = 0.0005  # an uncontended ADD holds the lock for about a millisecond
LONGEST_WAIT_S = 0.01
UNSEEN = "a process that cannot be seen from here"


def acquire(path: str, timeout_s: float) -> int:
    """An open descriptor that holds the lock; closing it releases the lock.

    flock(2) has no time-out and an alarm would disturb a process with threads, so it is asked
    again and again. Raises LockTimeout, or OSError when the file cannot be opened
    (FileNotFoundError: the folder does not exist).
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        descriptor = _open(path)
        try:
            _wait(descriptor, path, deadline_s, timeout_s)
            # Unlinked while we waited (the store was wiped): a lock that nobody else sees.
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def holders(descriptor: int) -> str:
    """`pid 1234 (host-local)` for each process that holds the lock, from /proc/locks.

    A lock line is `1: FLOCK  ADVISORY  WRITE 1234 08:01:131075 0 EOF`, a waiter has `->` after
    the number. The device number shown there is the file system's, which stat does not tell on
    btrfs or overlayfs: where no line has both numbers, the inode alone counts. A container does not
    see those of other PID namespaces. Source: proc_locks(5).
    """
    status = os.fstat(descriptor)
    inode = str(status.st_ino)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    try:
        lines = _read("/proc/locks").splitlines()
    except OSError as error:
        return f"unknown, /proc/locks cannot be read: {error.strerror}"
    fields = [line.split() for line in lines if " -> " not in line and " FLOCK " in line]
    files = [(one[4], *one[5].rpartition(":")) for one in fields if len(one) > 5]
    found = [(pid, where) for pid, where, _, number in files if number == inode]
    pids = [pid for pid, where in found if where == device] or [pid for pid, _ in found]
    return ", ".join(f"pid {pid} ({_command(pid)})" for pid in dict.fromkeys(pids)) or UNSEEN


def _open(path: str) -> int:
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | flags, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        # Reading a store on a read-only file system is fine; what writes will fail by itself.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _wait(descriptor: int, path: str, deadline_s: float, timeout_s: float) -> None:
    pause_s = FIRST_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                who = holders(descriptor)
                raise LockTimeout(
                    f"the lock {path} was not free within {timeout_s:g} s",
                    f"held by {who}; try again, or end that process",
                    who,
                ) from None
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_WAIT_S)
        else:
            return


def _command(pid: str) -> str:
    try:
        words = _read(f"/proc/{pid}/cmdline").split("\0")
    except OSError:
        return "command unknown"
    if "--argv0" in words:  # a loader's own arguments, the name, the program
        name = words.index("--argv0") + 1
        words = [*words[name : name + 1], *words[name + 2 :]]
    return " ".join(words).strip()[:200] or "command unknown"


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # no pathlib here
        return file.read()
