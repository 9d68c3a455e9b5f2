"""What can go wrong with addresses. `code` is the CNI error code; ipam knows no CNI beyond it."""

from __future__ import annotations


class IpamError(Exception):
    """A failure with a CNI code, one sentence and the longer story."""

    code = 999
    temporary = False

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.msg = msg
        self.details = details


class StoreFailed(IpamError):
    """The store's files could not be read or written (SPEC error 5)."""

    code = 5


class InvalidRanges(IpamError):
    """Ranges that contradict themselves or a request outside them (SPEC error 7)."""

    code = 7


class InvalidConf(IpamError):
    """A data folder or network name that cannot be one (SPEC error 7)."""

    code = 7


class LockTimeout(IpamError):
    """Another process held the store's lock too long (SPEC error 11). held_by: its pid and
    command."""

    code = 11
    temporary = True

    def __init__(self, msg: str, details: str = "", held_by: str = "") -> None:
        super().__init__(msg, details)
        self.held_by = held_by


class PoolExhausted(IpamError):
    """Every address of a range set is taken; details hold used, cooling and total (podwire 100)."""

    code = 100
    temporary = True


class AddressInUse(IpamError):
    """A requested address belongs to another attachment (podwire 101)."""

    code = 101
