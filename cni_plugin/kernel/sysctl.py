"""Values below /proc/sys/net, in whichever namespace the calling thread is in."""

from __future__ import annotations

import errno
import os

from cni_plugin.cni.errors import KernelRefused

PAGE_BYTES = 4096  # what /proc gives at once
SETTINGS = "/proc/sys/net"
# The same of the node, where a container has it mounted: /proc/sys of a container that is not
# privileged is read-only (OCI runtime spec, readonlyPaths), and nothing can be mounted below it.
# Both show the settings of the namespace that the calling thread is in.
OF_NODE = "/host/proc/sys/net"


def read(path: tuple[str, ...]) -> str | None:
    """The value, one space between its parts; None when the kernel has no such entry (IPv6 off,
    link gone)."""
    try:
        return " ".join(read_file(f"{SETTINGS}/{'/'.join(path)}").split())
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.EIO):
            return None  # addr_gen_mode and stable_secret refuse to be read in some states
        raise


def write(path: tuple[str, ...], value: str) -> None:
    """Raises KernelRefused with the `sysctl` line and the remedy."""
    try:
        put("/".join(path), value.encode())  # not ".": a link may be called "eth0.100"
    except OSError as error:
        remedy = (
            f"{SETTINGS} is read-only here; in a container mount the node's at {OF_NODE}"
            if error.errno == errno.EROFS
            else "the kernel has no such setting: is IPv6 off, or the link gone?"
            if isinstance(error, FileNotFoundError)
            else "podwire needs to write net sysctls: run it as root"
        )
        line = f"sysctl -w net/{'/'.join(path)}={value}: {error.strerror}"
        raise KernelRefused(line, remedy) from error


def put(name: str, value: bytes) -> None:
    """Writes the value at SETTINGS/name. Raises OSError."""
    descriptor = _opened(name)
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)


def _opened(name: str) -> int:
    """A descriptor for writing. EACCES is AppArmor's word for a container's read-only settings."""
    try:
        return os.open(f"{SETTINGS}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES) or not os.path.isdir(OF_NODE):
            raise
    return os.open(f"{OF_NODE}/{name}", os.O_WRONLY | os.O_CLOEXEC)


def read_file(path: str) -> str:
    """A small file of /proc in one read: a Python file object makes nine calls of it. Raises
    OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, PAGE_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)
