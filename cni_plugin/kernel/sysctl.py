"""Values below /proc/sys/net, in whichever namespace the calling thread is in."""

from __future__ import annotations

import errno
import os

from cni_plugin.cni.errors import KernelRefused

PAGE_BYTES = 4096  # what /proc gives at once


def read(path: tuple[str, ...]) -> str | None:
    """The value, one space between its parts; None when the kernel has no such entry (IPv6 off,
    link gone)."""
    try:
        return " ".join(read_file(_file(path)).split())
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.EIO):
            return None  # addr_gen_mode and stable_secret refuse to be read in some states
        raise


def write(path: tuple[str, ...], value: str) -> None:
    """Raises KernelRefused with the `sysctl` line and the remedy."""
    try:
        descriptor = os.open(_file(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        remedy = "is /proc/sys read-only here? podwire needs to write net sysctls"
        if isinstance(error, FileNotFoundError):
            remedy = "the kernel has no such setting: is IPv6 off, or the link gone?"
        line = f"sysctl -w net/{'/'.join(path)}={value}: {error.strerror}"
        raise KernelRefused(line, remedy) from error


def read_file(path: str) -> str:
    """A small file of /proc in one read: a Python file object makes nine calls of it. Raises
    OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, PAGE_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _file(path: tuple[str, ...]) -> str:
    # joined by "/", not ".": a link may be called "eth0.100"
    return "/proc/sys/net/" + "/".join(path)
