"""A datagram that is not taken and an answer that is lost are failures of their messages, so that
the caller knows what to undo."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from cni_plugin.kernel.netlink import (
    HEADER,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    KernelError,
    Message,
    Socket,
)

BUSY = struct.pack("=i", -errno.EBUSY) + bytes(16)
MESSAGES = [Message(16, 0, b"", "ip link add a"), Message(16, 0, b"", "ip link add b")]


def _failing(number: int) -> Any:
    def call(*_: object) -> bytes:
        raise OSError(number, "lost")

    return call


class _Wire:
    """Takes everything; each entry of `answers` is what one recv does."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def send(self, _data: bytes) -> None:
        return

    def recv_into(self, buffer: bytearray) -> int:
        answer: bytes = self._answers.pop(0)()
        buffer[: len(answer)] = answer
        return len(answer)


def _socket(wire: Any) -> Socket:
    made = Socket.__new__(Socket)
    made._sequence = 0
    made._buffer = bytearray(RECEIVE_BYTES)
    made._socket = wire
    return made


def _acknowledged(sequence: int) -> Any:
    return lambda: HEADER.pack(36, NLMSG_ERROR, 0, sequence, 0) + bytes(20)


def _told(outcomes: list[KernelError | None]) -> list[tuple[int, str] | None]:
    return [(one.errno, one.operation) if one else None for one in outcomes]


def test_a_datagram_that_is_not_taken_is_the_failure_of_each_message() -> None:
    wire = _Wire()
    wire.send = _failing(errno.ENOBUFS)  # type: ignore[method-assign]
    assert _told(_socket(wire).batch(MESSAGES)) == [
        (errno.ENOBUFS, "ip link add a"),
        (errno.ENOBUFS, "ip link add b"),
    ]


def test_what_was_acknowledged_before_an_answer_was_lost_is_done() -> None:
    wire = _Wire(_acknowledged(1), _failing(errno.ENOBUFS))
    assert _told(_socket(wire).batch(MESSAGES)) == [None, (errno.ENOBUFS, "ip link add b")]


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_a_request_without_an_answer_is_refused_with_its_line(number: int) -> None:
    wire = _Wire()
    wire.send = _failing(number)  # type: ignore[method-assign]
    with pytest.raises(KernelError) as refusal:
        _socket(wire).get(MESSAGES[0])
    assert (refusal.value.errno, refusal.value.operation) == (number, "ip link add a")


def _dumped(sequence: int, kind: int) -> Any:
    return lambda: HEADER.pack(20, kind, 0, sequence, 0) + bytes(4)


def test_a_dump_of_which_a_part_was_lost_is_taken_again() -> None:
    """The second request finds the first dump under way, reads the rest of it and is refused."""
    rest, refused = _dumped(1, 16), lambda: HEADER.pack(36, NLMSG_ERROR, 0, 2, 0) + BUSY
    wire = _Wire(_failing(errno.ENOBUFS), rest, refused, _dumped(3, 16), _dumped(3, NLMSG_DONE))
    assert [one.type for one in _socket(wire).dump(MESSAGES[0])] == [16]


def test_a_dump_that_is_lost_every_time_is_refused() -> None:
    wire = _Wire(*[_failing(errno.ENOBUFS)] * 5)
    with pytest.raises(KernelError):
        _socket(wire).dump(MESSAGES[0])
