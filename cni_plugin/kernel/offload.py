"""A link's transmit checksum offload, by ethtool's ioctl in the caller's namespace.

The ioctl and not ethtool netlink, which kernels before 5.6 lack: just those are affected.
Source: linux/sockios.h, ethtool.h (struct ethtool_value), if.h (struct ifreq).
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import os
import struct
from contextlib import closing
from fcntl import ioctl

from cni_plugin.kernel.netlink import KernelError

SIOCETHTOOL = 0x8946
ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM = 0x16, 0x17
VALUE = struct.Struct("=II")  # struct ethtool_value: cmd, data
NAME_BYTES = 16  # IFNAMSIZ
IFREQ_BYTES = 40
# Kernels before this one update the UDP checksum of a tunnel's packet although it is 0, when the
# packet is masqueraded: every receiver drops it (kubernetes#88986, fixed in Linux 5.7).
MENDED = (5, 7)


def tx_checksum(link: str) -> bool | None:
    """Whether it is on; None when there is no such link, or it cannot be asked."""
    try:
        return bool(_ethtool(link, ETHTOOL_GTXCSUM, 0))
    except KernelError as error:
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return None
        raise


def set_tx_checksum(link: str, *, on: bool) -> None:
    """Raises KernelError."""
    _ethtool(link, ETHTOOL_STXCSUM, int(on))


def is_affected(release: str) -> bool:
    """Whether a kernel of this release (`uname -r`) spoils checksums of tunnelled packets."""
    major, minor, *_ = f"{release}.0".replace("-", ".").split(".")
    return (int(major), int(minor)) < MENDED


def kernel_release() -> str:
    """`uname -r`"""
    return os.uname().release


def _ethtool(link: str, command: int, data: int) -> int:
    value = ctypes.create_string_buffer(VALUE.pack(command, data), VALUE.size)
    name = link.encode()[: NAME_BYTES - 1].ljust(NAME_BYTES, b"\0")
    request = (name + struct.pack("@P", ctypes.addressof(value))).ljust(IFREQ_BYTES, b"\0")
    kind = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
    with closing(_socket.socket(_socket.AF_INET, kind)) as opened:
        try:
            ioctl(opened.fileno(), SIOCETHTOOL, request)
        except OSError as error:
            switch = f"-K {link} tx {data}" if command == ETHTOOL_STXCSUM else f"-k {link}"
            raise KernelError(error.errno or 0, f"ethtool {switch}") from error
    read: int = VALUE.unpack(value.raw)[1]
    return read
