"""Netlink's wire format and a socket that sends batches and counts the acknowledgements.

Our own encoder and not pyroute2's message classes: importing pyroute2 takes longer than the
reference plugin's whole ADD, and a direct run is a cold interpreter. The tests read every
message back with pyroute2 and with `ip`, so the two cannot drift apart.
`_socket` instead of `socket`: the latter builds its enums at import (about 10 ms cold).
Source: linux/netlink.h; RFC 3549 section 2.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence

from cni_plugin.cni.errors import KernelRefused
from ipam.lean_typing import NamedTuple

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
SO_RCVTIMEO, SO_SNDTIMEO = 20, 21  # asm-generic/socket.h, as `_socket` does not name them
SOL_NETLINK, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK = 270, 10, 11, 12

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK = 0x1, 0x2, 0x4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: len, type, flags, seq, pid
ACK = struct.Struct("=IHHIIi")  # nlmsghdr and the errno of struct nlmsgerr
ATTR = struct.Struct("=HH")  # struct nlattr: len, type
RECEIVE_BYTES = 1 << 18  # larger than any dump chunk the kernel makes (32 KiB), one read each
PLAIN_BYTES = 1 << 12  # an acknowledgement, or a failure with the message that it is about
TIMEVAL = struct.Struct("=qq")  # struct __kernel_sock_timeval: s, us
# A part was lost; the rest of a dump before, which nobody read to its end, is still under way.
DUMP_AGAIN = (errno.ENOBUFS, errno.EBUSY)
ABSENT = (errno.ENODEV, errno.ENOENT, errno.ESRCH)  # a get's way to say "no such object"
BATCH_MAX = 128  # messages in a datagram: it and its answers must fit the socket's buffers
ANSWER_TIMEOUT_S = 10  # netlink answers from the caller's own context; longer means it never will

Attrs = dict[int, bytes]


Line = str | Callable[[], str]


class KernelError(KernelRefused):
    """The kernel refused one message. errno as usual; operation is an `ip`-style line; extended
    is the kernel's own text (NLMSGERR_ATTR_MSG) when it gave one."""

    def __init__(self, code: int, operation: Line, extended: str = "") -> None:
        operation = operation if isinstance(operation, str) else operation()
        reason = f"{errno.errorcode.get(code, code)}: {os.strerror(code)}"
        more = f" ({extended})" if extended else ""
        super().__init__(f"{operation}: {reason}{more}", _REMEDIES.get(code, ""))
        self.errno = code
        self.operation = operation
        self.extended = extended


_REMEDIES = {
    errno.EPERM: "podwire needs CAP_NET_ADMIN (run it as root)",
    errno.EPROTONOSUPPORT: "this kernel has no nftables: load nf_tables (CONFIG_NF_TABLES)",
    errno.EMFILE: "raise the limit of open files",
}


class Message(NamedTuple):
    """One request. body: family header plus attributes; line: the `ip`-style text for errors, or
    what makes it, because hardly any is ever read."""

    type: int
    flags: int
    body: bytes
    line: Line = ""


class Received(NamedTuple):
    """One message from the kernel, header taken off."""

    type: int
    flags: int
    body: bytes


def attr(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes (NLA_ALIGNTO)."""
    size = 4 + len(data)
    return ATTR.pack(size, kind) + data + b"\0" * (-size % 4)


def nested(kind: int, *attrs: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(attrs))


def u8(kind: int, value: int) -> bytes:
    """An attribute of one byte."""
    return attr(kind, value.to_bytes(1, "little"))


def u16(kind: int, value: int) -> bytes:
    """An attribute of a native-endian 16-bit number."""
    return attr(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """An attribute of a native-endian 32-bit number."""
    return attr(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """A NUL-terminated string (NLA_NUL_STRING)."""
    return attr(kind, value.encode() + b"\0")


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each attribute from offset on; a truncated tail ends the walk."""
    end = len(data)
    while offset + 4 <= end:
        size, kind = ATTR.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def attribute_map(data: bytes, offset: int = 0) -> Attrs:
    """The attributes by type; of several with one type, the last. Its own loop: every answer is
    read with it."""
    found: Attrs = {}
    end = len(data)
    while offset + 4 <= end:
        size, kind = ATTR.unpack_from(data, offset)
        if size < 4 or offset + size > end:
            break
        found[kind & NLA_TYPE_MASK] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def string(data: bytes) -> str:
    """A NUL-terminated string attribute as text."""
    return data.rstrip(b"\0").decode(errors="replace")


def number(data: bytes) -> int:
    """A native-endian unsigned integer of 1, 2, 4 or 8 bytes."""
    return int.from_bytes(data, "little") if LITTLE_ENDIAN else int.from_bytes(data, "big")


LITTLE_ENDIAN = struct.pack("=H", 1) == b"\1\0"


def _extended(body: bytes, flags: int) -> str:
    """The text the kernel attached to an error or an acknowledgement (NETLINK_EXT_ACK)."""
    if not flags & NLM_F_ACK_TLVS:
        return ""
    offset = 4 + HEADER.size  # errno, then the header of the request; NETLINK_CAP_ACK cuts its body
    if not flags & NLM_F_CAPPED:
        offset = 4 + ((HEADER.unpack_from(body, 4)[0] + 3) & ~3)
    return string(attribute_map(body, offset).get(NLMSGERR_ATTR_MSG, b""))


class Socket:
    """A netlink socket. It stays in the namespace it was opened in, whoever uses it later."""

    def __init__(self, protocol: int = NETLINK_ROUTE, *, plain: bool = False) -> None:
        """plain: for `exchange` of a few messages alone, which need none of the options."""
        self._sequence = 0
        # One for all answers: a new one costs four calls.
        self._buffer = bytearray(PLAIN_BYTES if plain else RECEIVE_BYTES)
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        try:
            self._socket = _socket.socket(_socket.AF_NETLINK, kind, protocol)
            if not plain:
                self._set_options(protocol)
        except OSError as error:
            raise KernelError(error.errno or 0, f"opening netlink socket {protocol}") from error

    def _set_options(self, protocol: int) -> None:
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        if protocol == NETLINK_ROUTE:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self._socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, 1 << 20)
        # Not settimeout(), which asks poll(2) before each call.
        limit = TIMEVAL.pack(ANSWER_TIMEOUT_S, 0)
        for option in (SO_RCVTIMEO, SO_SNDTIMEO):
            self._socket.setsockopt(_socket.SOL_SOCKET, option, limit)
        self._socket.bind((0, 0))

    @property
    def port(self) -> int:
        """What events of changes made by this socket bear (nlmsg_pid)."""
        port: int = self._socket.getsockname()[0]
        return port

    def close(self) -> None:
        self._socket.close()

    def batch(self, messages: Sequence[Message]) -> list[KernelError | None]:
        """Sends all and waits for each one's outcome, in order; see `_datagram`."""
        return [
            outcome
            for start in range(0, len(messages), BATCH_MAX)
            for outcome in self._datagram(messages[start : start + BATCH_MAX])
        ]

    def _datagram(self, messages: Sequence[Message]) -> list[KernelError | None]:
        """Sends all in one datagram and waits for the last one's answer.

        The kernel does them in order, goes on after a failure, and tells each failure unasked
        (netlink_rcv_skb), so the last one's acknowledgement says that those before it have
        succeeded of which nothing was heard. A datagram that was not taken is the failure of each
        message; of those whose answer was lost (ENOBUFS from recv, netlink(7)) nobody knows
        whether they were done."""
        first = self._sequence + 1
        outcomes: list[KernelError | None] = [None] * len(messages)
        answered: set[int] = set()
        try:
            self._send_flagged(_last_acknowledged(messages))
            while messages and len(messages) - 1 not in answered:
                for sequence, message in self._receive():
                    index = sequence - first
                    if 0 <= index < len(messages) and message.type == NLMSG_ERROR:
                        answered.add(index)
                        outcomes[index] = _error(message, messages[index].line)
        except KernelError as error:
            for index in {*range(len(messages))} - answered:
                outcomes[index] = KernelError(error.errno, messages[index].line, error.extended)
        return outcomes

    def exchange(self, datagram: bytes, last: int) -> bool:
        """Sends encoded messages of which the one numbered `last` asks for an acknowledgement, and
        reads one answer: whether it says that all were done. After a no there may be more answers,
        so the socket is to be closed. Raises OSError."""
        self._socket.send(datagram)
        size = self._socket.recv_into(self._buffer, 0, _socket.MSG_DONTWAIT)
        if size < HEADER.size + 4:
            return False
        _, kind, _, sequence, _, code = ACK.unpack_from(self._buffer)
        return bool(kind == NLMSG_ERROR and sequence == last and code == 0)

    def fileno(self) -> int:
        return int(self._socket.fileno())

    def transaction(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """Sends messages between begin and end: the kernel takes all of them or none.

        Acknowledged is the last of those between (begin and end are in new kernels only); the
        failures of others come before that. The first is raised."""
        first = self._sequence + 1
        self._send_flagged([(begin, 0), *_last_acknowledged(messages), (end, 0)])
        while messages:
            for sequence, received in self._receive():
                index = sequence - first
                if received.type != NLMSG_ERROR or not 0 <= index <= len(messages) + 1:
                    continue  # the late answer to a call before
                line = messages[index - 1].line if 0 < index <= len(messages) else begin.line
                failure = _error(received, line)
                if failure is not None:
                    raise failure
                if index == len(messages):
                    return

    def get(self, message: Message) -> Received | None:
        """The single answer to a get request; None when there is no such object."""
        return self.get_many([message])[0]

    def get_many(self, messages: Sequence[Message]) -> list[Received | None]:
        """The answer to each of several get requests, sent at once; see `get`."""
        return [
            answer
            for start in range(0, len(messages), BATCH_MAX)
            for answer in self._answers(messages[start : start + BATCH_MAX])
        ]

    def _answers(self, messages: Sequence[Message]) -> list[Received | None]:
        """No acknowledgement is asked for: the kernel answers a get with the object or an error.
        The first error that is not "no such object" is raised when all have been answered."""
        first = self._sequence + 1
        self._send(messages, 0)
        answers: list[Received | None] = [None] * len(messages)
        missing = set(range(len(messages)))
        refused: KernelError | None = None
        while missing:
            for sequence, received in self._receive():
                index = sequence - first
                if index not in missing:
                    continue  # the late answer to a call before
                missing.discard(index)
                if received.type != NLMSG_ERROR:
                    answers[index] = received
                    continue
                failure = _error(received, messages[index].line)
                if failure is not None and failure.errno not in ABSENT:
                    refused = refused or failure
        if refused is not None:
            raise refused
        return answers

    def dump(self, message: Message) -> list[Received]:
        """Every object of a dump request. A dump that a change interrupted, or of which a part was
        lost, is taken again (netlink(7), ENOBUFS)."""
        for _ in range(5):
            try:
                found = self._dump_once(message)
            except KernelError as error:
                if error.errno not in DUMP_AGAIN:
                    raise
                continue
            if found is not None:
                return found
        raise KernelError(errno.EINTR, message.line, "the dump was interrupted five times")

    def _dump_once(self, message: Message) -> list[Received] | None:
        self._send([message], NLM_F_DUMP)
        found: list[Received] = []
        interrupted = False
        while True:
            for sequence, received in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted |= bool(received.flags & NLM_F_DUMP_INTR)
                if received.type == NLMSG_DONE:
                    return None if interrupted else found
                if received.type == NLMSG_ERROR:
                    failure = _error(received, message.line)
                    if failure is None:
                        continue
                    raise failure
                found.append(received)

    def _send(self, messages: Iterable[Message], flags: int) -> None:
        self._send_flagged((message, flags) for message in messages)

    def _send_flagged(self, messages: Iterable[tuple[Message, int]]) -> None:
        chunks: list[bytes] = []
        line: Line = ""
        for message, flags in messages:
            self._sequence += 1
            chunks.append(encode(message, self._sequence, flags))
            line = line or message.line
        if not chunks:
            return
        try:
            self._socket.send(b"".join(chunks))
        except OSError as error:  # no memory for the datagram: ENOBUFS, ENOMEM
            raise KernelError(error.errno or 0, line or "netlink request") from error

    def _receive(self) -> Iterator[tuple[int, Received]]:
        try:
            end = self._socket.recv_into(self._buffer)
        except BlockingIOError as error:
            raise KernelError(errno.ETIMEDOUT, "netlink", "no answer in 10 s") from error
        except OSError as error:
            raise KernelError(error.errno or 0, "netlink answer") from error
        return messages_in(bytes(memoryview(self._buffer)[:end]))


def _last_acknowledged(messages: Sequence[Message]) -> Iterator[tuple[Message, int]]:
    last = len(messages) - 1
    return ((one, NLM_F_ACK if index == last else 0) for index, one in enumerate(messages))


def messages_in(data: bytes) -> Iterator[tuple[int, Received]]:
    """(sequence number, message) of each message in a datagram."""
    offset = 0
    while offset + HEADER.size <= len(data):
        size, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        yield sequence, Received(kind, flags, data[offset + HEADER.size : offset + size])
        offset += (size + 3) & ~3


def encode(message: Message, sequence: int, flags: int = 0) -> bytes:
    """A message with its header, padded to four bytes."""
    size = HEADER.size + len(message.body)
    header = HEADER.pack(size, message.type, message.flags | flags | NLM_F_REQUEST, sequence, 0)
    return header + message.body + b"\0" * (-size % 4)


def _error(message: Received, line: Line) -> KernelError | None:
    (code,) = struct.unpack_from("=i", message.body)
    if code == 0:
        return None
    return KernelError(-code, line, _extended(message.body, message.flags))
