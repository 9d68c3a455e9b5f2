"""Frames as a hostile pod would build them, byte by byte, and a pod that sends and one that hears.

Written by hand and not with podwire's own code: a guard must not be tested with its own idea of a
packet. Source: RFC 791, 826, 4443, 4861, 8200.
"""

from __future__ import annotations

import contextlib
import ipaddress
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.support.node import Node, Pod

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ALL_ROUTERS, ALL_ROUTERS_MAC = "ff02::2", "33:33:00:00:00:02"
UDP, ICMPV6 = 17, 58


class Host(NamedTuple):
    """One end: its MAC and its addresses."""

    mac: str
    ip4: str
    ip6: str


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def ethernet(to: str, source: str, kind: int, payload: bytes) -> bytes:
    """Padded to the least that Ethernet carries, so that it arrives as it was sent."""
    return (_mac(to) + _mac(source) + struct.pack("!H", kind) + payload).ljust(60, b"\0")


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp4(source: str, to: str, text: str, port: int = 9) -> bytes:
    """IPv4 with UDP (no checksum) and a text by which it is known."""
    body = struct.pack("!HHHH", 9, port, 8 + len(text), 0) + text.encode()
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, UDP, 0)
    head += _ip(source) + _ip(to)
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:] + body


def _ip6(source: str, to: str, kind: int, body: bytes, hops: int = 255) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), kind, hops) + _ip(source) + _ip(to) + body


def _pseudo(source: str, to: str, kind: int, body: bytes) -> bytes:
    whole = body + b"\0" * (len(body) % 2)
    return _ip(source) + _ip(to) + struct.pack("!II", len(body), kind) + whole


def udp6(source: str, to: str, text: str) -> bytes:
    """IPv6 with UDP and a text by which it is known."""
    body = struct.pack("!HHHH", 9, 9, 8 + len(text), 0) + text.encode()
    check = _checksum(_pseudo(source, to, UDP, body))
    return _ip6(source, to, UDP, body[:6] + struct.pack("!H", check) + body[8:])


def icmp6(source: str, to: str, kind: int, rest: bytes) -> bytes:
    """ICMPv6 with its checksum."""
    body = struct.pack("!BBH", kind, 0, 0) + rest
    check = _checksum(_pseudo(source, to, ICMPV6, body))
    return _ip6(source, to, ICMPV6, body[:2] + struct.pack("!H", check) + body[4:])


def arp(operation: int, mac: str, source: str, to_mac: str, to: str) -> bytes:
    """ARP: 1 asks, 2 answers."""
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + _mac(mac) + _ip(source) + _mac(to_mac) + _ip(to)


def neighbour_advert(source: str, to: str, target: str, mac: str) -> bytes:
    """Solicited, overriding: `target is at mac`."""
    rest = struct.pack("!I", 0x60000000) + _ip(target) + b"\x02\x01" + _mac(mac)
    return icmp6(source, to, 136, rest)


def duplicate_probe(target: str) -> tuple[str, bytes]:
    """`Has anybody target?`, asked by nobody: the MAC of the group it goes to, and the packet."""
    low = _ip(target)[-3:]
    group = f"ff02::1:ff{low[0]:02x}:{low[1]:02x}{low[2]:02x}"
    to = f"33:33:ff:{low.hex(':')}"
    return to, icmp6("::", group, 135, bytes(4) + _ip(target))


def router_solicit() -> bytes:
    """`Is there a router?`, before there is an address."""
    return icmp6("::", ALL_ROUTERS, 133, bytes(4))


def router_advert(source: str, mac: str) -> bytes:
    """`I am a default router for half an hour`."""
    return icmp6(
        source, ALL_NODES, 134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + b"\1\1" + _mac(mac)
    )


def redirect(source: str, to: str, hop: str, target: str) -> bytes:
    """`The better next hop to target is hop`."""
    return icmp6(source, to, 137, bytes(4) + _ip(hop) + _ip(target))


_HEAR = """
import socket, sys
link, end = sys.argv[1], sys.argv[2].encode()
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as ear:
    ear.bind((link, 3))
    ear.settimeout(float(sys.argv[3]))
    print("ready", flush=True)
    while True:
        frame, origin = ear.recvfrom(2048)
        if origin[2] != socket.PACKET_OUTGOING:
            print(frame.hex(), flush=True)
            if end in frame:
                break
"""
# All from one processor: then one queue carries them, and they come in the order they went.
_SEND = """
import os, socket, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as mouth:
    mouth.bind((sys.argv[1], 0))
    for frame in sys.stdin:
        mouth.send(bytes.fromhex(frame))
"""
LAST = "the last frame of all"


class Ear:
    """Hears everything on a link until the frame with the text LAST comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def heard(self) -> list[bytes]:
        """All frames up to LAST; AssertionError when that did not come."""
        out, errors = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, f"the last frame did not come: {errors}"
        return [bytes.fromhex(line) for line in out.splitlines()]


@contextlib.contextmanager
def hearing(place: Node | Pod, link: str) -> Iterator[Ear]:
    """An ear on the link, open before the block begins."""
    process = place.spawn(
        sys.executable,
        "-I",
        "-S",
        "-c",
        _HEAR,
        link,
        LAST,
        "10",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Ear(process)
    finally:
        process.kill()
        process.communicate()


def send(place: Node | Pod, link: str, frames: Iterable[bytes]) -> None:
    """Puts the frames on the link as they are."""
    lines = "".join(f"{frame.hex()}\n" for frame in frames)
    place.run(sys.executable, "-I", "-S", "-c", _SEND, link, stdin=lines)
