"""The agent's side of the wire, scripted: what it received, and an answer of any bytes."""

from __future__ import annotations

import array
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

HEADER = struct.Struct(">4sHHIII")  # of a request and of a reply alike
DONE, DECLINED = 0, 1
ROOM = socket.CMSG_SPACE(4 * array.array("i").itemsize)  # for more descriptors than may come
FAR_LIMIT_S = 30  # of a wait that never lasts so long unless something hangs


@dataclass
class Request:
    """One message as it came, taken apart."""

    magic: bytes
    version: int
    flags: int
    wait_ms: int
    environment: list[bytes]
    stdin: bytes
    size: int
    netns: tuple[int, int] | None = None
    """Device and inode behind the descriptor that came with the first byte."""
    descriptors: int = 0

    @property
    def variables(self) -> dict[str, str]:
        return dict(entry.decode().split("=", 1) for entry in self.environment)


def answer(
    stdout: bytes = b"",
    stderr: bytes = b"",
    status: int = 0,
    *,
    kind: int = DONE,
    version: int = 1,
    magic: bytes = b"PWRP",
) -> bytes:
    """A reply's bytes."""
    return HEADER.pack(magic, version, kind, status, len(stdout), len(stderr)) + stdout + stderr


@dataclass
class Peer:
    """Serves one connection: reads the request, sends `reply`, keeps what comes after it.

    before: sends the reply without reading, then closes.
    hang: after the reply neither more nor end of file comes.
    leaves: hangs up after a whole reply; after one that breaks off it always does.
    pace_s: the wait before each single byte of the reply.
    """

    path: Path
    reply: bytes = b""
    hang: bool = False
    leaves: bool = False
    pace_s: float = 0
    before: bool = False
    request: Request | None = None
    after: bytes | None = None
    failure: Exception | None = None
    listen_as: Callable[[socket.socket], None] = socket.socket.listen
    _released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.settimeout(FAR_LIMIT_S)
        self._listener.bind(str(self.path))
        self.listen_as(self._listener)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        with suppress(OSError), socket.socket(socket.AF_UNIX) as nobody:
            nobody.connect(str(self.path))  # ends accept when no one came
        self._thread.join(FAR_LIMIT_S)
        self._listener.close()
        if self.failure is not None:
            raise self.failure

    def _serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(FAR_LIMIT_S)
                self._converse(connection)
        except Exception as error:  # noqa: BLE001  # raised again in the test's thread
            self.failure = error

    def _converse(self, connection: socket.socket) -> None:
        if not self.before:
            self.request = read_request(connection)
            if self.request is None:
                return
        with suppress(BrokenPipeError, ConnectionResetError):  # it gives up garbage at once
            if not self.pace_s:
                connection.sendall(self.reply)
            for byte in self.reply if self.pace_s else b"":
                self._released.wait(self.pace_s)
                connection.sendall(bytes([byte]))
        if self.hang:
            self._released.wait(FAR_LIMIT_S)
            return
        if self.before:
            return
        if self.leaves or not is_whole(self.reply):
            connection.shutdown(socket.SHUT_WR)
        try:
            self.after = _read_all(connection)
        except ConnectionResetError:  # it left without reading all of the reply
            self.after = b""


def is_whole(reply: bytes) -> bool:
    """Whether the reply has as many bytes as its header says, or more."""
    if len(reply) < HEADER.size:
        return False
    return len(reply) >= HEADER.size + sum(HEADER.unpack_from(reply)[4:])


def read_request(connection: socket.socket) -> Request | None:
    """The message as the wire has it, None of a client that leaves without a word."""
    first, ancillary, _flags, _address = connection.recvmsg(1, ROOM)
    if not first:
        return None
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        descriptors.frombytes(data)
    head = first + _read_exactly(connection, HEADER.size - 1)
    magic, version, flags, env_size, stdin_size, wait_ms = HEADER.unpack(head)
    environment = _read_exactly(connection, env_size)
    stdin = _read_exactly(connection, stdin_size)
    assert not environment or environment.endswith(b"\0")
    found = os.fstat(descriptors[0]) if descriptors else None
    for descriptor in descriptors:
        os.close(descriptor)
    return Request(
        magic,
        version,
        flags,
        wait_ms,
        environment.split(b"\0")[:-1],
        stdin,
        len(head) + env_size + stdin_size,
        (found.st_dev, found.st_ino) if found else None,
        len(descriptors),
    )


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more, ancillary, _flags, _address = connection.recvmsg(size - len(data), ROOM)
        assert not ancillary, "a descriptor comes with the first byte only"
        assert more, f"the request broke off after {len(data)} of {size} bytes"
        data += more
    return data


def _read_all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(1 << 16):
        data += more
    return data
