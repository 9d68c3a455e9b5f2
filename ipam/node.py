"""What a store asks of the node it runs on: which boot, what time, which addresses are in use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress


def read_boot_id() -> str:
    """The kernel's random id of this boot; empty when /proc does not tell."""
    try:
        descriptor = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 64).decode().strip()
    finally:
        os.close(descriptor)


def boot_clock_s() -> float:
    """Seconds since boot with suspended time: no wall clock step moves it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def log_nothing(_line: str) -> None:
    """A `warn` that keeps quiet."""


class Node(NamedTuple):
    """The surroundings of a store.

    evidence: is the address in use on this node, as the kernel sees it? Asked under the lock,
    for an address about to be given and for a torn reservation about to be reclaimed. A wrong
    no may give an address twice when the store was damaged; a wrong yes only withholds one.
    boot_id: identifies the boot; "" when unknown, then nothing is purged.
    clock_s: seconds since boot, suspended time included.
    warn: one line for the log, never stdout.
    """

    evidence: Callable[[IPAddress], bool]
    boot_id: Callable[[], str] = read_boot_id
    clock_s: Callable[[], float] = boot_clock_s
    warn: Callable[[str], None] = log_nothing
