"""Packets that prove reachability: ICMP echoes and a UDP question, from inside any namespace.

Written out here, so that the demo needs no ping on the machine. A socket stays in the namespace it
was opened in; it is closed again at once, because it would keep a pod's namespace alive.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

from pyroute2 import netns

T = TypeVar("T")

LIMIT_S = 1.0  # for one answer; they take microseconds
PORT = 7007
INTERVAL_S = 0.01  # between two echoes of a steady flow
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class _Echo(NamedTuple):
    """ICMP of one IP version. Source: RFC 792, RFC 4443 section 4."""

    protocol: int
    request: int
    reply: int


_ECHO = {4: _Echo(socket.IPPROTO_ICMP, 8, 0), 6: _Echo(socket.IPPROTO_ICMPV6, 128, 129)}


def inside(path: str, work: Callable[[], T]) -> T:
    """Runs work in the namespace at path. A thread of its own enters it, so that nothing has to
    come back. path "": right here."""
    if not path:
        return work()
    outcome: list[T] = []
    errors: list[BaseException] = []

    def enter() -> None:
        try:
            netns.setns(path, flags=0)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            errors.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]


def echo(
    path: str, target: str, *, source: str = "", count: int = 5, limit_s: float = LIMIT_S
) -> list[float | None]:
    """The round-trip times (ms) of count echoes from the namespace to target; None, and no more
    of them, when one is not answered.

    source: an address to send from, if not the one the kernel chooses."""
    version = ip_address(target).version
    protocol = _ECHO[version].protocol
    with inside(path, lambda: socket.socket(_FAMILY[version], socket.SOCK_RAW, protocol)) as raw:
        if source:
            raw.bind((source, 0))
        raw.connect((target, 0))
        times: list[float | None] = []
        while len(times) < count and None not in times:
            times.append(_echo_once(raw, version, len(times), limit_s))
        return times


def _echo_once(raw: socket.socket, version: int, number: int, limit_s: float) -> float | None:
    kind, identity = _ECHO[version], os.getpid() & 0xFFFF
    body = struct.pack("!HH", identity, number) + b"podwire demo"
    request = struct.pack("!BBH", kind.request, 0, _checksum(kind.request, body)) + body
    started = time.perf_counter()
    end = started + limit_s
    try:
        raw.send(request)
        while (left := end - time.perf_counter()) > 0:
            raw.settimeout(left)
            answer = raw.recv(2048)
            took = time.perf_counter() - started
            icmp = answer[(answer[0] & 0xF) * 4 :] if version == 4 else answer
            if icmp[0] == kind.reply and icmp[4:] == body:
                return took * 1000
    except OSError:  # no route, unreachable, or no answer in time
        pass
    return None


def _checksum(kind: int, body: bytes) -> int:
    """RFC 1071. For ICMPv6 the kernel puts in its own."""
    data = struct.pack("!BBH", kind, 0, 0) + body
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


class Steady:
    """An echo each INTERVAL_S from the namespace at path to target, from now until `stop`."""

    def __init__(self, path: str, target: str, identity: int) -> None:
        self.sent = 0
        self.lost = 0
        self.silence_ms = 0.0  # the longest time between two answers
        self._version = ip_address(target).version
        self._identity = identity
        protocol = _ECHO[self._version].protocol
        family = _FAMILY[self._version]
        self._raw = inside(path, lambda: socket.socket(family, socket.SOCK_RAW, protocol))
        self._raw.connect((target, 0))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Sends no more."""
        self._ended.set()

    def count(self) -> None:
        """What came of it; the last ones' answers are waited for."""
        self.end()
        self._thread.join()
        self._raw.close()

    def _run(self) -> None:
        kind = _ECHO[self._version].request
        answered: set[int] = set()
        heard = begun = time.perf_counter()
        while not self._ended.is_set():
            body = struct.pack("!HH", self._identity, self.sent) + b"podwire demo"
            with contextlib.suppress(OSError):  # no route: lost
                self._raw.send(struct.pack("!BBH", kind, 0, _checksum(kind, body)) + body)
            self.sent += 1
            heard = self._hear(answered, heard, begun + self.sent * INTERVAL_S)
        end = time.perf_counter() + LIMIT_S
        while len(answered) < self.sent and time.perf_counter() < end:
            self._hear(answered, heard, min(end, time.perf_counter() + INTERVAL_S))
        self.lost = self.sent - len(answered)

    def _hear(self, answered: set[int], heard: float, end: float) -> float:
        """Notes the answers that come until then; when the last one came."""
        reply = _ECHO[self._version].reply
        while (left := end - time.perf_counter()) > 0:
            self._raw.settimeout(left)
            try:
                answer = self._raw.recv(2048)
            except OSError:
                continue
            icmp = answer[(answer[0] & 0xF) * 4 :] if self._version == 4 else answer
            identity, number = struct.unpack_from("!HH", icmp, 4)
            if icmp[0] == reply and identity == self._identity:
                now = time.perf_counter()
                self.silence_ms = max(self.silence_ms, (now - heard) * 1000)
                answered.add(number)
                heard = now
        return heard


class Mirror:
    """A UDP server in a namespace: it tells which source address it sees."""

    def __init__(self, path: str, addresses: tuple[str, ...]) -> None:
        self._sockets = {address: _bound(path, address) for address in addresses}

    def close(self) -> None:
        for server in self._sockets.values():
            server.close()

    def sees(self, path: str, address: str) -> str:
        """The source address of a datagram from the namespace at path, once the answer has found
        its way back there; "" when it did not."""
        server, family = self._sockets[address], _FAMILY[ip_address(address).version]
        with inside(path, lambda: socket.socket(family, socket.SOCK_DGRAM)) as client:
            client.settimeout(LIMIT_S)
            try:
                client.connect((address, PORT))
                client.send(b"who am I?")
                _, seen = server.recvfrom(64)
                server.sendto(seen[0].encode(), seen)
                return client.recv(64).decode()
            except OSError:
                return ""


def _bound(path: str, address: str) -> socket.socket:
    family = _FAMILY[ip_address(address).version]
    server = inside(path, lambda: socket.socket(family, socket.SOCK_DGRAM))
    server.settimeout(LIMIT_S)
    server.bind((address, PORT))
    return server
