"""Each byte of the request and of the reply, and who runs what when one of them is not there."""

from __future__ import annotations

import os
import re
import socket
import struct
from pathlib import Path

import pytest

from tests.launcher.conftest import Run
from tests.launcher.peer import DECLINED, HEADER, Peer, answer

RESULT = b'{"cniVersion":"1.0.0"}\n'
STDIN_MAX, ENV_MAX, STDOUT_MAX, STDERR_MAX = 1 << 20, 64 << 10, 4 << 20, 1 << 20


def test_the_request_holds_the_call_and_nothing_else(run: Run, socket_path: Path) -> None:
    called = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "",
        "CNI_ARGS": "K8S_POD_NAME=a=b;IgnoreUnknown=1",
        "TRACEPARENT": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "TRACESTATE": "vendor=1",
    }
    others = {"PATH": "/bin", "TRACEPARENTS": "no", "XCNI_A": "no", "PODWIRE_REQUEST": "foreign"}
    with Peer(socket_path, answer(RESULT)) as peer:
        run({**called, **others}, b'{"name": "n"}\0\n')
    request = peer.request
    assert request is not None
    assert (request.magic, request.version, request.flags) == (b"PWRQ", 1, 0)
    assert request.wait_ms == 110_000
    assert request.stdin == b'{"name": "n"}\0\n'
    assert len(request.environment) == len(request.variables)
    sent = request.variables
    identity = sent.pop("PODWIRE_REQUEST")
    assert sent == called
    assert re.fullmatch("[0-9a-f]{32}", identity)
    assert (request.descriptors, request.netns) == (0, None)
    assert request.size == 20 + len(b"\0".join(request.environment)) + 1 + len(request.stdin)


def test_each_call_has_an_identity_of_its_own(run: Run, socket_path: Path) -> None:
    seen = set()
    for _ in range(3):
        with Peer(socket_path, answer()) as peer:
            run()
        socket_path.unlink()
        assert peer.request is not None
        seen.add(peer.request.variables["PODWIRE_REQUEST"])
    assert len(seen) == 3


def test_the_namespace_travels_with_the_first_byte(run: Run, socket_path: Path) -> None:
    netns = Path("/proc/self/ns/net")
    with Peer(socket_path, answer()) as peer:
        run({"CNI_NETNS": f"/proc/{os.getpid()}/ns/net"}, b"x" * STDIN_MAX)  # sent in pieces
    assert peer.request is not None
    assert (peer.request.flags, peer.request.descriptors) == (1, 1)
    assert peer.request.netns == (netns.stat().st_dev, netns.stat().st_ino)
    assert "PODWIRE_NETNS_ERRNO" not in peer.request.variables


@pytest.mark.parametrize("name", ["absent", 'ab"sent\n\x01\\', "absent-\udce9"])
def test_a_namespace_that_cannot_be_opened_is_told_by_its_errno(
    run: Run, socket_path: Path, tmp_path: Path, name: str
) -> None:
    with Peer(socket_path, answer(RESULT)) as peer:
        ran = run({"CNI_NETNS": os.fsencode(tmp_path / name)})
    assert ran.stdout == RESULT
    assert peer.request is not None
    assert (peer.request.flags, peer.request.descriptors) == (0, 0)
    assert b"PODWIRE_NETNS_ERRNO=2" in peer.request.environment
    assert b"CNI_NETNS=" + os.fsencode(tmp_path / name) in peer.request.environment


def test_a_fifo_in_the_namespaces_place_does_not_block(
    run: Run, socket_path: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "netns")
    with Peer(socket_path, answer(RESULT)):
        assert run({"CNI_NETNS": str(tmp_path / "netns")}).stdout == RESULT


@pytest.mark.parametrize("status", [0, 1, 255])
def test_the_reply_is_printed_and_its_receipt_confirmed(
    run: Run, socket_path: Path, status: int
) -> None:
    with Peer(socket_path, answer(RESULT, b"a warning\n", status)) as peer:
        ran = run()
    assert (ran.status, ran.stdout, ran.stderr) == (status, RESULT, "a warning\n")
    assert ran.direct is None
    assert peer.after == b"k"


def test_the_largest_messages_pass(run: Run, socket_path: Path) -> None:
    stdin, stdout, stderr = b"i" * STDIN_MAX, b"o" * STDOUT_MAX, b"e" * STDERR_MAX
    with Peer(socket_path, answer(stdout, stderr)) as peer:
        ran = run(stdin=stdin)
    assert peer.request is not None
    assert peer.request.stdin == stdin
    assert (ran.stdout == stdout, ran.stderr == stderr.decode(), peer.after) == (True, True, b"k")


@pytest.mark.parametrize("size", [0, 1])
def test_empty_and_single_byte_streams(run: Run, socket_path: Path, size: int) -> None:
    with Peer(socket_path, answer(b"x" * size)) as peer:
        ran = run(stdin=b"y" * size)
    assert peer.request is not None
    assert (peer.request.stdin, ran.stdout) == (b"y" * size, b"x" * size)


def test_an_undelivered_result_is_not_confirmed(run: Run, socket_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with Peer(socket_path, answer(RESULT)) as peer:
            ran = run(stdout=full)
    finally:
        os.close(full)
    assert (ran.status, ran.direct, peer.after) == (1, None, b"")


def test_a_reader_that_is_gone_is_not_confirmed(run: Run, socket_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with Peer(socket_path, answer(RESULT)) as peer:
            ran = run(stdout=writing)
    finally:
        os.close(writing)
    assert (ran.status, ran.direct, peer.after) == (1, None, b"")


@pytest.mark.parametrize("closed", [(1,), (1, 2)])
def test_a_closed_stdout_is_not_the_socket(
    run: Run, socket_path: Path, closed: tuple[int, ...]
) -> None:
    with Peer(socket_path, answer(RESULT, b"a warning\n")) as peer:
        ran = run(closed=closed)
    assert (ran.status, ran.stdout, peer.after) == (1, b"", b"")


def test_a_closed_stderr_takes_nothing_from_the_result(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT, b"a warning\n")) as peer:
        ran = run(closed=(2,))
    assert (ran.status, ran.stdout, ran.stderr, peer.after) == (0, RESULT, "", b"k")


def test_a_closed_stdin_is_an_error(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT)) as peer:
        error = run(closed=(0,)).error
    assert (error["code"], error["msg"]) == (5, "stdin cannot be read: Bad file descriptor")
    assert peer.request is None


def test_too_much_stdin_reaches_nobody(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT)) as peer:
        error = run(stdin=b"x" * (STDIN_MAX + 1)).error
    assert (error["code"], error["msg"]) == (6, "stdin holds more than 1 MiB")
    assert peer.request is None


def test_the_environment_is_limited_to_the_byte(run: Run, socket_path: Path) -> None:
    entries = ["CNI_COMMAND=ADD", "PODWIRE_REQUEST=" + "0" * 32, "CNI_ARGS="]
    left = ENV_MAX - sum(len(entry) + 1 for entry in entries)
    with Peer(socket_path, answer(RESULT)) as peer:
        assert run({"CNI_ARGS": "a" * left}).stdout == RESULT
    assert peer.request is not None
    assert sum(len(entry) + 1 for entry in peer.request.environment) == ENV_MAX
    socket_path.unlink()
    with Peer(socket_path, answer(RESULT)) as peer:
        error = run({"CNI_ARGS": "a" * (left + 1)}).error
    assert error["code"] == 4
    assert "64 KiB" in error["msg"]
    assert peer.request is None


def test_a_variable_without_room_is_named_in_valid_json(run: Run, socket_path: Path) -> None:
    error = run({"CNI_ARGS": b'"\\\n\x7f\xff' + b"a" * ENV_MAX}).error
    assert error["code"] == 4
    assert 'CNI_ARGS="\\\n\x7f\\xffaaa' in error["msg"]


def test_what_was_declined_runs_directly_as_new(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(b"ignored", b"ignored", 77, kind=DECLINED)) as peer:
        ran = run({"PODWIRE_REQUEST": "foreign"}, b"config")
    assert (ran.status, ran.stdout, ran.stderr) == (3, b"from Python\n", "")
    assert ran.direct is not None
    assert ran.direct["stdin"] == "config"
    assert "PODWIRE_REQUEST" not in ran.direct["environ"]
    assert peer.after == b""


@pytest.mark.parametrize("version", [0, 2, 65535])
def test_another_version_can_decline(run: Run, socket_path: Path, version: int) -> None:
    reply = struct.pack(">4sHHIII", b"PWRP", version, DECLINED, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    with Peer(socket_path, reply):
        assert run().direct is not None


LENGTHS = HEADER.size + len(RESULT) + len(b"warning")


@pytest.mark.parametrize("received", [0, 1, 3, 4, 8, 19, 20, 21, LENGTHS - 8, LENGTHS - 1])
def test_an_agent_that_ends_leaves_its_request_to_python(
    run: Run, socket_path: Path, received: int
) -> None:
    with Peer(socket_path, answer(RESULT, b"warning")[:received]) as peer:
        ran = run(stdin=b"config")
    assert ran.direct is not None
    assert peer.request is not None
    assert ran.direct["environ"]["PODWIRE_REQUEST"] == peer.request.variables["PODWIRE_REQUEST"]
    assert (ran.direct["stdin"], ran.status, ran.stdout) == ("config", 3, b"from Python\n")
    assert "the agent ended before it answered" in ran.stderr
    assert peer.after == b""


def test_an_agent_that_hung_up_after_its_answer_may_have_undone_it(
    run: Run, socket_path: Path
) -> None:
    with Peer(socket_path, answer(RESULT, b"warning"), leaves=True) as peer:
        ran = run(stdin=b"config")
    assert ran.direct is not None
    assert peer.request is not None
    assert ran.direct["environ"]["PODWIRE_REQUEST"] == peer.request.variables["PODWIRE_REQUEST"]
    assert (ran.direct["stdin"], ran.status, ran.stdout) == ("config", 3, b"from Python\n")


def test_an_error_is_true_whoever_hangs_up(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT, status=1), leaves=True):
        ran = run()
    assert (ran.status, ran.stdout, ran.direct) == (1, RESULT, None)


def test_an_agent_that_ends_while_the_request_is_sent(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, before=True):
        ran = run(stdin=b"x" * STDIN_MAX)
    assert ran.direct is not None
    assert re.fullmatch("[0-9a-f]{32}", ran.direct["environ"]["PODWIRE_REQUEST"])
    assert ran.direct["stdin"] == "x" * STDIN_MAX


def test_a_reply_before_the_whole_request_counts(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT, status=1), before=True):
        ran = run(stdin=b"x" * STDIN_MAX)
    assert (ran.status, ran.stdout, ran.direct) == (1, RESULT, None)


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "magic number is 1213486160 (0x48545450)"),
        (answer(RESULT, magic=b"PWRQ"), "magic number is 1347899985 (0x50575251)"),
        (answer(RESULT, version=2), "version is 2 (0x00000002)"),
        (answer(RESULT, version=256), "version is 256 (0x00000100)"),
        (answer(RESULT, kind=2), "kind is 2 (0x00000002)"),
        (answer(RESULT, kind=256), "kind is 256 (0x00000100)"),
        (answer(RESULT, status=256), "exit status is 256 (0x00000100)"),
        (answer(RESULT, status=2**32 - 1), "exit status is 4294967295 (0xffffffff)"),
        (answer(RESULT) + b"+", "byte after the end is 43 (0x0000002b)"),
        (answer(RESULT, status=1) + b"+", "byte after the end is 43 (0x0000002b)"),
        (HEADER.pack(b"PWRP", 1, 0, 0, STDOUT_MAX + 1, 0), "stdout length is 4194305 "),
        (HEADER.pack(b"PWRP", 1, 0, 0, 0, STDERR_MAX + 1), "stderr length is 1048577 "),
        (HEADER.pack(b"PWRP", 1, 0, 0, 2**32 - 1, 1), "stdout length is 4294967295 "),
    ],
)
def test_a_reply_that_does_not_fit_is_never_a_reason_to_run_again(
    run: Run, socket_path: Path, reply: bytes, named: str
) -> None:
    with Peer(socket_path, reply) as peer:
        error = run().error
    assert error["code"] == 11
    assert f"the agent's reply does not fit: its {named}" in error["msg"]
    assert peer.after == b""


@pytest.mark.parametrize("stdin", [b"{}", b"x" * STDIN_MAX])
def test_a_timeout_is_never_a_reason_to_run_again(
    run: Run, socket_path: Path, stdin: bytes
) -> None:
    """With little stdin it waits for the reply, with much it waits while it sends."""
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(socket_path))
        listener.listen()
        error = run({"PODWIRE_DEADLINE_MS": "250"}, stdin).error
    assert (error["code"], error["msg"]) == (11, "the agent gave no answer in 0.25 s")
    assert "may still be finished or undone" in error["details"]


def test_a_timeout_amid_the_reply_prints_nothing_of_it(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(RESULT, b"warning")[:-1], hang=True) as peer:
        ran = run({"PODWIRE_DEADLINE_MS": "2000"})
    error = ran.error
    assert (error["code"], error["msg"]) == (11, "the agent gave no answer in 2 s")
    assert ran.stderr == ""
    assert peer.request is not None
    assert peer.request.wait_ms == 2000


def test_the_deadline_is_of_the_whole_and_not_of_each_byte(run: Run, socket_path: Path) -> None:
    with Peer(socket_path, answer(b"x" * 2000), pace_s=0.01):
        error = run({"PODWIRE_DEADLINE_MS": "250"}).error
    assert (error["code"], error["msg"]) == (11, "the agent gave no answer in 0.25 s")


@pytest.mark.parametrize("chosen", ["", "0", "-5", "soon", "99999999999999999999"])
def test_a_deadline_that_is_none_is_the_default(run: Run, socket_path: Path, chosen: str) -> None:
    with Peer(socket_path, answer()) as peer:
        run({"PODWIRE_DEADLINE_MS": chosen})
    assert peer.request is not None
    assert peer.request.wait_ms == 110_000
