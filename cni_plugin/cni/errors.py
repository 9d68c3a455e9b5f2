"""The one error tree: each class is one CNI error code.

Codes 0-99 belong to the SPEC (1.1.0, "Error"); 100 and up are podwire's own and documented
in docs/errors.md. `temporary` tells a caller that the same call may succeed later.
"""

from __future__ import annotations

SUPPORTED_VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


class CNIError(Exception):
    """A failure that goes to the runtime as error JSON.

    msg: one sentence with the object, the wanted and the found value.
    details: the remedy or the longer story; may be empty.
    """

    code = 999
    temporary = False

    def __init__(self, msg: str, details: str = "", *, code: int | None = None) -> None:
        super().__init__(msg)
        self.msg = msg
        self.details = details
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.msg}; {self.details}" if self.details else self.msg


class IncompatibleVersion(CNIError):
    """SPEC error 1: the config's cniVersion is not spoken, or the verb is newer than it."""

    code = 1


class UnsupportedField(CNIError):
    """SPEC error 2: the message holds key and value."""

    code = 2


class InvalidEnvironment(CNIError):
    """SPEC error 4: the message names the variables."""

    code = 4


class IoFailure(CNIError):
    """SPEC error 5: a file, pipe or process could not be read or written."""

    code = 5


class DecodeFailure(CNIError):
    """SPEC error 6: content is not the JSON that the SPEC asks for."""

    code = 6


class InvalidNetworkConfig(CNIError):
    """SPEC error 7: the message names path, value and what is accepted."""

    code = 7


class TryAgainLater(CNIError):
    """SPEC error 11: transient, the same call may succeed later."""

    code = 11
    temporary = True


class Interrupted(TryAgainLater):
    """A signal asked this call to end. Raised wherever the call is, so also between a step and
    the note that it was done."""


class NotAvailable(CNIError):
    """SPEC error 50 (STATUS): ADD cannot be served."""

    code = 50
    temporary = True


class PoolExhausted(CNIError):
    """podwire 100: every address of a range set is taken; details hold the counts."""

    code = 100
    temporary = True


class AddressInUse(CNIError):
    """podwire 101: a requested address belongs to another attachment."""

    code = 101


class Conflict(CNIError):
    """podwire 102: an object of that identity exists and differs; names wanted and found."""

    code = 102


class KernelRefused(CNIError):
    """podwire 103: the kernel refused an operation; holds the `ip`-style line and its reason."""

    code = 103


class Damaged(CNIError):
    """podwire 104 (CHECK): what ADD made is missing or wrong; details list each difference."""

    code = 104


class HostPortInUse(CNIError):
    """podwire 105: a host port belongs to another attachment; the message names it."""

    code = 105
