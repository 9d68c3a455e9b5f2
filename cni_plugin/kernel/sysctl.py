"""Values below /proc/sys/net, in whichever namespace the calling thread is in."""

from __future__ import annotations

import errno

from cni_plugin.cni.errors import KernelRefused


def read(path: tuple[str, ...]) -> str | None:
    """The value, stripped; None when the kernel has no such entry (IPv6 off, link gone)."""
    try:
        with open(_file(path), encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV, errno.EIO):
            return None  # addr_gen_mode and stable_secret refuse to be read in some states
        raise


def write(path: tuple[str, ...], value: str) -> None:
    """Raises KernelRefused with the `sysctl` line and the remedy."""
    try:
        with open(_file(path), "w", encoding="ascii") as file:
            file.write(value)
    except OSError as error:
        remedy = "is /proc/sys read-only here? podwire needs to write net sysctls"
        if isinstance(error, FileNotFoundError):
            remedy = "the kernel has no such setting: is IPv6 off, or the link gone?"
        line = f"sysctl -w net/{'/'.join(path)}={value}: {error.strerror}"
        raise KernelRefused(line, remedy) from error


def _file(path: tuple[str, ...]) -> str:
    # joined by "/", not ".": a link may be called "eth0.100"
    return "/proc/sys/net/" + "/".join(path)
