"""Netlink events as suspects: which links may miss something now.

Only what takes away is of interest. Our own calls cause such events too, so a suspect is a reason
to look and no more. Source: linux/rtnetlink.h, nfnetlink.h, nf_tables.h, filter.h.
"""

from __future__ import annotations

import _socket
import ctypes
import errno
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from cni_plugin.filter.tables import TABLE
from cni_plugin.kernel import nft, rtnl, shaping
from cni_plugin.kernel.netlink import (
    NETLINK_NETFILTER,
    NETLINK_ROUTE,
    SOL_NETLINK,
    KernelError,
    Received,
    Socket,
    attribute_map,
    messages_in,
    number,
    string,
)
from cni_plugin.model.names import HOST_LINK_PREFIX

NETLINK_ADD_MEMBERSHIP = 1
LINK, NEIGH, TC, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE = (
    1,
    3,
    4,
    5,
    7,
    9,
    11,
)  # RTNLGRP_*
NFTABLES = 7  # NFNLGRP_NFTABLES
SO_ATTACH_FILTER, SO_RCVBUFFORCE = 26, 33  # asm-generic/socket.h
BUFFER_BYTES = 1 << 22  # events that wait: about 4,000
DATAGRAM_BYTES = 1 << 16
DRAIN_MAX = 256  # datagrams at a time, so that a flood does not hold the caller
OF_INTEREST = (
    rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK, rtnl.RTM_DELADDR, rtnl.RTM_DELROUTE, rtnl.RTM_DELNEIGH,
    shaping.RTM_DELQDISC, shaping.RTM_DELTFILTER,
)  # fmt: skip
DELTABLE, DELSET = 2, 11  # NFT_MSG_*
TAKING = (DELTABLE, nft.DELCHAIN, nft.DELRULE, DELSET, nft.DELSETELEM, nft.NEWRULE)
DORMANT = 0x1  # NFT_TABLE_F_DORMANT
MARK = "podwire"  # how the alias of our links begins


class Suspects(NamedTuple):
    """Reasons to look. links: names of links that may miss something; everything: all may."""

    links: frozenset[str] = frozenset()
    everything: bool = False

    def joined(self, other: Suspects | None) -> Suspects:
        """Both."""
        if other is None:
            return self
        return Suspects(self.links | other.links, self.everything or other.everything)


EVERYTHING = Suspects(everything=True)


class _State(NamedTuple):
    name: str
    up: bool
    master: int


class Links:
    """Bridges and links of ours by index, as the events tell of them: an event that takes
    something from another one is nobody's business, and one that only repeats is no news."""

    def __init__(self) -> None:
        self._known: dict[int, _State] = {}

    def learn(self, link: rtnl.Link) -> str:
        """The link's name when it has lost something since, otherwise ""."""
        if not _is_watched(link):
            return ""
        before = self._known.get(link.ifindex)
        now = _State(link.name, bool(link.flags & rtnl.IFF_UP), link.master)
        self._known[link.ifindex] = now
        if before is None:
            return ""
        lost = before.up > now.up or (before.master and before.master != now.master)
        return before.name if lost or before.name != now.name else ""

    def forget(self, index: int) -> str:
        """It is gone: its name, "" for one that is not watched."""
        state = self._known.pop(index, None)
        return state.name if state else ""

    def is_up(self, index: int) -> bool:
        """Whether a watched link was up when it was last heard of."""
        state = self._known.get(index)
        return state is not None and state.up

    def name(self, index: int) -> str:
        """Its name, "" for one that is not watched."""
        state = self._known.get(index)
        return state.name if state else ""


def _is_watched(link: rtnl.Link) -> bool:
    return (
        link.kind == "bridge"
        or link.name.startswith(HOST_LINK_PREFIX)
        or link.alias.startswith(MARK)
    )


class Monitor:
    """Sockets that hear of changes in this namespace. Raises KernelError."""

    def __init__(self) -> None:
        self._links = Links()
        groups = (LINK, NEIGH, TC, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE)
        self._route = listener(NETLINK_ROUTE, groups)
        self._filter: _socket.socket | None = None
        try:
            attach(self._route, _only(OF_INTEREST))
            self._listen_to_filter()
            self._learn()
        except BaseException:
            self.close()
            raise

    def _listen_to_filter(self) -> None:
        try:
            self._filter = listener(NETLINK_NETFILTER, (NFTABLES,))
        except KernelError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # no nftables: nothing of it can go
                raise

    def _learn(self) -> None:
        asking = Socket()
        try:
            for received in asking.dump(rtnl.dump_links()):
                self._links.learn(rtnl.parse_link(received))
        finally:
            asking.close()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """To wait for; readable when there is something to `drain`."""
        return tuple(one.fileno() for one in (self._route, self._filter) if one is not None)

    def close(self) -> None:
        for one in (self._route, self._filter):
            if one is not None:
                one.close()

    def drain(self) -> Suspects | None:
        """Takes what has come; None: nothing that would be a reason to look."""
        suspects: Suspects | None = None
        try:
            for data in waiting(self._route):
                names = {name for _, one in messages_in(data) if (name := self._suspect(one))}
                if names:
                    suspects = Suspects(frozenset(names)).joined(suspects)
            for data in waiting(self._filter) if self._filter else ():
                if takes_from_filter(data):
                    suspects = Suspects().joined(suspects)
        except OSError:  # ENOBUFS: events were lost
            with suppress(KernelError):
                self._learn()
            return EVERYTHING
        return suspects

    def _suspect(self, received: Received) -> str:
        if received.type in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
            return self._of_link(received)
        if received.type == rtnl.RTM_DELROUTE:
            found = attribute_map(received.body, rtnl.RTMSG.size)
            return self._links.name(number(found.get(rtnl.RTA_OIF, b"")))
        if received.type == rtnl.RTM_DELADDR:
            return self._links.name(rtnl.IFADDR.unpack_from(received.body)[4])
        if received.type == rtnl.RTM_DELNEIGH:
            return self._links.name(rtnl.NDMSG.unpack_from(received.body)[1])
        if received.type in (shaping.RTM_DELQDISC, shaping.RTM_DELTFILTER):
            return self._links.name(shaping.TCMSG.unpack_from(received.body)[1])
        return ""

    def _of_link(self, received: Received) -> str:
        family, _, index, flags, _ = rtnl.IFINFO.unpack_from(received.body)
        gone = received.type == rtnl.RTM_DELLINK
        if not gone and flags & rtnl.IFF_UP and self._links.is_up(index):
            return ""  # most events: one that leaves its bridge is told of by AF_BRIDGE as well
        if family == rtnl.AF_BRIDGE:  # of the port, not of the link: it has left its bridge
            return self._links.name(index) if gone else ""
        return self._links.forget(index) if gone else self._links.learn(rtnl.parse_link(received))


def takes_from_filter(data: bytes) -> bool:
    """Whether a datagram of nftables' events tells that our table has lost something, or has rules
    that may not be ours."""
    if TABLE.encode() + b"\0" not in data:  # kube-proxy writes thousands of rules
        return False
    for _, received in messages_in(data):
        kind = received.type & 0xFF
        if received.type >> 8 != nft.SUBSYSTEM or kind not in (*TAKING, nft.NEWTABLE):
            continue
        found = attribute_map(received.body, 4)  # after struct nfgenmsg
        if string(found.get(1, b"")) != TABLE:  # NFTA_*_TABLE are all 1
            continue
        if kind in TAKING or int.from_bytes(found.get(2, b""), "big") & DORMANT:
            return True
    return False


def listener(protocol: int, groups: tuple[int, ...]) -> _socket.socket:
    """A socket that hears of changes and never waits. Raises KernelError."""
    kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
    try:
        made = _socket.socket(_socket.AF_NETLINK, kind, protocol)
    except OSError as error:
        raise KernelError(error.errno or 0, f"opening netlink socket {protocol}") from error
    try:
        with suppress(OSError):  # without CAP_NET_ADMIN the default has to do
            made.setsockopt(_socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        made.bind((0, 0))
        for group in groups:
            made.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    except OSError as error:
        made.close()
        raise KernelError(error.errno or 0, f"joining groups of netlink {protocol}") from error
    return made


def waiting(listener: _socket.socket) -> list[bytes]:
    """The datagrams that wait. Raises OSError when some were lost."""
    found: list[bytes] = []
    with suppress(BlockingIOError):
        while len(found) < DRAIN_MAX:
            found.append(listener.recv(DATAGRAM_BYTES))
    return found


def attach(listener: _socket.socket, lines: Sequence[tuple[int, int, int, int]]) -> None:
    """A filter in the kernel (classic BPF): code, jump if true, jump if false, value a line. What
    it does not let through is never delivered. rtnetlink sends one message in a datagram."""
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(lines), ctypes.addressof(held))
    listener.setsockopt(_socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def kind_value(kind: int) -> int:
    """A message's type as a filter's load sees it: in network byte order."""
    return int.from_bytes(struct.pack("=H", kind), "big")


def _only(kinds: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Lets messages of these types through: learned neighbours and a router's routes come in
    thousands."""
    count = len(kinds)
    lines = [(0x28, 0, 0, 4)]  # ldh [4]: nlmsg_type
    for place, kind in enumerate(kinds):
        lines.append((0x15, count - place, 0, kind_value(kind)))  # jeq: to the end
    return [*lines, (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]  # ret
