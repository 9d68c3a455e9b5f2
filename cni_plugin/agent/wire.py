"""The messages between launcher and agent: version 1, one request and one reply a connection.

Both begin with a head of fixed size whose first eight bytes mean the same in every version, so that
either side may be the older one. Numbers are big-endian. See docs/agent.md.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from cni_plugin.cni.values import Reply

VERSION = 1
REQUEST_MAGIC, REPLY_MAGIC = b"PWRQ", b"PWRP"
# magic, version, flags, bytes of the environment, bytes of stdin, milliseconds of patience
REQUEST_HEAD = struct.Struct(">4sHHIII")
# magic, version, kind, exit status, bytes of stdout, bytes of stderr
REPLY_HEAD = struct.Struct(">4sHHIII")
FLAG_NETNS = 1  # a network namespace's descriptor came with the first byte (SCM_RIGHTS)
KIND_DONE, KIND_DECLINED = 0, 1
ENVIRON_MAX, STDIN_MAX = 1 << 16, 1 << 20  # bytes
STDOUT_MAX, STDERR_MAX = 1 << 22, 1 << 20  # bytes
DELIVERED = b"k"  # what the launcher sends when the runtime has the answer
# Variables of the message that are not the runtime's.
NETNS_ERRNO = "PODWIRE_NETNS_ERRNO"


class WireError(ValueError):
    """What came is no request."""


class OtherVersion(WireError):
    """A request of a version that this agent does not speak."""


class Head(NamedTuple):
    """What follows the head, and how long the launcher will wait."""

    has_netns: bool
    environ_bytes: int
    stdin_bytes: int
    patience_s: float

    @property
    def body_bytes(self) -> int:
        return self.environ_bytes + self.stdin_bytes


def parse_head(data: bytes | bytearray) -> Head:
    """The head of a request. Raises WireError, OtherVersion for another version."""
    magic, version, flags, environ_bytes, stdin_bytes, patience_ms = REQUEST_HEAD.unpack_from(data)
    if magic != REQUEST_MAGIC:
        raise WireError(f"no request of podwire's launcher: it begins with {bytes(magic)!r}")
    if version != VERSION:
        raise OtherVersion(f"a request of version {version}, this agent speaks {VERSION}")
    if environ_bytes > ENVIRON_MAX or stdin_bytes > STDIN_MAX:
        raise WireError(
            f"{environ_bytes} bytes of environment and {stdin_bytes} of stdin,"
            f" at most {ENVIRON_MAX} and {STDIN_MAX} are taken"
        )
    return Head(bool(flags & FLAG_NETNS), environ_bytes, stdin_bytes, patience_ms / 1000)


def parse_environ(data: bytes) -> dict[str, str]:
    """NUL-terminated KEY=VALUE strings; bytes that are no UTF-8 as os.environ has them."""
    if data and not data.endswith(b"\0"):
        raise WireError("the environment does not end with NUL")
    pairs = (entry.partition(b"=") for entry in data.split(b"\0")[:-1])
    return {_text(key): _text(value) for key, _equals, value in pairs}


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def encode_reply(reply: Reply) -> bytes:
    """A reply that was worked out. A log that is too long loses its beginning."""
    stdout, stderr = reply.stdout[:STDOUT_MAX], reply.stderr[-STDERR_MAX:]
    head = REPLY_HEAD.pack(REPLY_MAGIC, VERSION, KIND_DONE, reply.status, len(stdout), len(stderr))
    return head + stdout + stderr


def encode_declined() -> bytes:
    """Nothing was done, and the launcher may run the call itself."""
    return REPLY_HEAD.pack(REPLY_MAGIC, VERSION, KIND_DECLINED, 0, 0, 0)
