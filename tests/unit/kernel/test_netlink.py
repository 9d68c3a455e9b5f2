"""The wire format, and what the socket makes of the kernel's answers, good and bad."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

import pytest

from cni_plugin.kernel import netlink
from cni_plugin.kernel.netlink import (
    HEADER,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    KernelError,
    Message,
    Socket,
    attr,
    attribute_map,
    attributes,
    nested,
    string,
    text,
    u8,
    u16,
    u32,
)

GET = Message(18, 0, b"body", "ip link show eth0")


# attributes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(6))
def test_an_attribute_is_padded_to_four_bytes_and_read_back_without_padding(size: int) -> None:
    data = bytes(range(1, size + 1))
    encoded = attr(3, data)
    assert len(encoded) % 4 == 0
    assert list(attributes(encoded)) == [(3, data)]


def test_numbers_and_strings_are_read_back() -> None:
    data = u8(1, 7) + u16(2, 700) + u32(3, 70000) + text(4, "eth0")
    found = attribute_map(data)
    assert [netlink.number(found[kind]) for kind in (1, 2, 3)] == [7, 700, 70000]
    assert string(found[4]) == "eth0"


def test_the_nested_mark_is_taken_off() -> None:
    assert attribute_map(nested(5, u8(1, 1)))[5] == u8(1, 1)


@pytest.mark.parametrize("tail", [b"\x03", b"\x03\0\1\0", b"\xff\0\1\0data", b"\0\0\0\0"], ids=repr)
def test_a_truncated_or_impossible_attribute_ends_the_walk(tail: bytes) -> None:
    assert list(attributes(u8(1, 1) + tail)) == [(1, b"\1")]


def test_a_message_is_padded_but_its_length_is_not() -> None:
    encoded = netlink.encode(Message(1, 0, b"abc"), 9)
    size, kind, flags, sequence, port = HEADER.unpack_from(encoded)
    assert (size, kind, flags, sequence, port) == (19, 1, 1, 9, 0)
    assert len(encoded) == 20


# a kernel on the other end -----------------------------------------------------------------------


def _message(kind: int, sequence: int, body: bytes = b"", flags: int = 0) -> bytes:
    padding = b"\0" * (-len(body) % 4)
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body + padding


def _error(sequence: int, code: int, extended: str = "", *, capped: bool = True) -> bytes:
    """NLMSG_ERROR as the kernel lays it out: errno, the request's header (and, not capped, its
    body), then attributes."""
    request = HEADER.pack(HEADER.size + 4, 16, 0, sequence, 0)
    body = struct.pack("=i", -code) + request + (b"" if capped else b"body")
    flags = NLM_F_CAPPED if capped else 0
    if extended:
        flags |= NLM_F_ACK_TLVS
        body += text(netlink.NLMSGERR_ATTR_MSG, extended)
    return _message(NLMSG_ERROR, sequence, body, flags)


class Peer:
    """Stands where the system's socket is and says what it was told to."""

    def __init__(self, answers: Sequence[bytes | type[Exception]]) -> None:
        self.sent: list[bytes] = []
        self._answers = list(answers)

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv_into(self, buffer: bytearray) -> int:
        answer = self._answers.pop(0)
        if not isinstance(answer, bytes):
            raise answer
        buffer[: len(answer)] = answer
        return len(answer)

    def close(self) -> None:
        pass


def socket_with(*answers: bytes | type[Exception]) -> tuple[Socket, Peer]:
    made, peer = Socket.__new__(Socket), Peer(answers)
    made._sequence = 0
    made._buffer = bytearray(netlink.RECEIVE_BYTES)
    made._socket = peer  # type: ignore[assignment]  # the peer is all that the tests need of it
    return made, peer


def test_a_batch_tells_the_outcome_of_every_message_in_order() -> None:
    made, peer = socket_with(_error(1, 0) + _error(2, errno.EEXIST), _error(3, 0))
    lines = [Message(16, 0, b"", f"line {n}") for n in range(3)]
    first, second, third = made.batch(lines)
    assert (first, third) == (None, None)
    assert second is not None
    assert (second.errno, second.operation) == (errno.EEXIST, "line 1")
    assert len(peer.sent) == 1


def test_a_late_answer_to_an_earlier_call_is_ignored() -> None:
    made, _ = socket_with(_error(1, 0), _error(1, errno.EPERM) + _error(2, 0))
    assert made.batch([GET]) == [None]
    assert made.batch([GET]) == [None]


@pytest.mark.parametrize("capped", [True, False])
def test_the_kernels_own_words_are_in_the_error(capped: bool) -> None:
    made, _ = socket_with(_error(1, errno.EINVAL, "Invalid prefix", capped=capped))
    (failure,) = made.batch([GET])
    assert failure is not None
    assert failure.extended == "Invalid prefix"
    assert "ip link show eth0: EINVAL: Invalid argument (Invalid prefix)" in str(failure)


def test_get_gives_the_answer() -> None:
    made, _ = socket_with(_message(16, 1, b"link"))
    found = made.get(GET)
    assert found is not None
    assert found.body == b"link"


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENOENT, errno.ESRCH])
def test_get_of_what_is_not_there_is_none(code: int) -> None:
    made, _ = socket_with(_error(1, code))
    assert made.get(GET) is None


def test_many_gets_go_in_one_datagram_and_come_back_in_order() -> None:
    answers = _message(16, 2, b"two "), _error(1, errno.ENOENT), _message(16, 3, b"last")
    made, peer = socket_with(*answers)
    found = made.get_many([GET, GET, GET])
    assert [one.body if one else None for one in found] == [None, b"two ", b"last"]
    assert len(peer.sent) == 1


def test_a_refusal_among_many_gets_is_raised_when_all_are_answered() -> None:
    made, _ = socket_with(_error(1, errno.EPERM), _message(16, 2), _message(16, 3, b"next"))
    with pytest.raises(KernelError):
        made.get_many([GET, GET])
    found = made.get(GET)
    assert found is not None
    assert found.body == b"next"


def test_get_raises_any_other_refusal() -> None:
    made, _ = socket_with(_error(1, errno.EPERM))
    with pytest.raises(KernelError) as failure:
        made.get(GET)
    assert failure.value.errno == errno.EPERM


def test_a_dump_goes_on_to_its_end() -> None:
    made, _ = socket_with(
        _message(16, 1, b"one ") + _message(16, 1, b"two "),
        _message(16, 1, b"last") + _message(NLMSG_DONE, 1, bytes(4)),
    )
    assert [found.body for found in made.dump(GET)] == [b"one ", b"two ", b"last"]


def test_an_interrupted_dump_is_taken_again_whole() -> None:
    made, peer = socket_with(
        _message(16, 1, b"old ", NLM_F_DUMP_INTR) + _message(NLMSG_DONE, 1, bytes(4)),
        _message(16, 2, b"new ") + _message(NLMSG_DONE, 2, bytes(4)),
    )
    assert [found.body for found in made.dump(GET)] == [b"new "]
    assert len(peer.sent) == 2


def test_a_dump_that_is_always_interrupted_ends_with_an_error() -> None:
    broken = [_message(NLMSG_DONE, n, bytes(4), NLM_F_DUMP_INTR) for n in range(1, 6)]
    made, _ = socket_with(*broken)
    with pytest.raises(KernelError) as failure:
        made.dump(GET)
    assert failure.value.errno == errno.EINTR


def test_a_refused_dump_raises() -> None:
    made, _ = socket_with(_error(1, errno.EINVAL))
    with pytest.raises(KernelError) as failure:
        made.dump(GET)
    assert failure.value.errno == errno.EINVAL


def test_no_answer_is_an_error_not_a_hang() -> None:
    made, _ = socket_with(BlockingIOError)
    with pytest.raises(KernelError) as failure:
        made.get(GET)
    assert failure.value.errno == errno.ETIMEDOUT


BEGIN, END = Message(0x10, 0, b"", "begin"), Message(0x11, 0, b"", "end")


def test_a_transaction_waits_for_every_message_between_its_ends() -> None:
    made, peer = socket_with(_error(2, 0), _error(3, 0))
    made.transaction(BEGIN, [GET, GET], END)
    assert [HEADER.unpack_from(peer.sent[0])[1]] == [0x10]


def test_a_transactions_first_refusal_is_raised_with_its_own_line() -> None:
    made, _ = socket_with(_error(2, 0) + _error(3, errno.ENOENT))
    lines = [Message(1, 0, b"", "first"), Message(1, 0, b"", "second")]
    with pytest.raises(KernelError) as failure:
        made.transaction(BEGIN, lines, END)
    assert (failure.value.errno, failure.value.operation) == (errno.ENOENT, "second")


def test_a_refusal_of_the_whole_transaction_is_raised() -> None:
    made, _ = socket_with(_error(1, errno.EPERM))
    with pytest.raises(KernelError) as failure:
        made.transaction(BEGIN, [GET], END)
    assert failure.value.errno == errno.EPERM


def test_a_failed_transactions_late_answers_do_not_disturb_the_next() -> None:
    made, _ = socket_with(_error(2, errno.ENOENT), _error(3, errno.ENOENT) + _error(6, 0))
    with pytest.raises(KernelError):
        made.transaction(BEGIN, [GET, GET], END)
    made.transaction(BEGIN, [GET], END)
