"""Netlink events about what bears the cluster's mark, and about the links that it depends on.

Our own changes cause events too; whoever drains compares with what is wanted, so that they wake
nobody. What is learned, and other programs' routes, the kernel filters out: on a router they come
in thousands. Source: linux/rtnetlink.h, neighbour.h, filter.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cni_plugin.kernel import rtnl, tunnel
from cni_plugin.kernel.monitor import (
    IPV4_IFADDR,
    IPV4_ROUTE,
    IPV6_IFADDR,
    IPV6_ROUTE,
    LINK,
    NEIGH,
    attach,
    kind_value,
    listener,
    waiting,
)
from cni_plugin.kernel.netlink import HEADER, NETLINK_ROUTE, Received, messages_in
from cni_plugin.model.names import TUNNEL_PREFIX
from cni_plugin.model.objects import CLUSTER_PROTOCOL, HOST, Addr, Obj
from ipam.values import IPAddress

LINKS = (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK)
ADDRESSES = (rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR)
ROUTES = (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE)
NEIGHBOURS = (rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH)
GONE = (rtnl.RTM_DELLINK, rtnl.RTM_DELADDR, rtnl.RTM_DELROUTE, rtnl.RTM_DELNEIGH)
# Where in a message: rtm_protocol, and ndm_state's low byte on either kind of machine.
PROTOCOL_AT = HEADER.size + 5
STATE_AT = HEADER.size + 8 + struct.pack("=H", 1).index(1)


_NAME_BEGINS = TUNNEL_PREFIX.encode()


class Event(NamedTuple):
    """One of: a marked object or an address of a tunnel (obj), an address of any link (address), a
    link that matters (link: its name, and its state as far as it matters). gone: it is."""

    gone: bool
    obj: Obj | None = None
    address: IPAddress | None = None
    link: tuple[str, object] | None = None


class Drift:
    """Hears of changes in this namespace. Raises KernelError."""

    def __init__(self) -> None:
        self._socket = listener(
            NETLINK_ROUTE, (LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE)
        )
        attach(self._socket, _program())

    @property
    def descriptor(self) -> int:
        """Readable when there is something to `drain`."""
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self, indices: Mapping[str, int]) -> list[Event] | None:
        """What has come. indices: the links that matter. None: some was lost."""
        names = {index: name for name, index in indices.items()}
        found: list[Event] = []
        try:
            for data in waiting(self._socket):
                for _, received in messages_in(data):
                    found += _events(received, names)
        except OSError:  # ENOBUFS
            return None
        return found


def _events(received: Received, names: Mapping[int, str]) -> Iterator[Event]:
    gone = received.type in GONE
    if received.type in LINKS:
        yield from _of_link(received, names, gone=gone)
    elif received.type in ADDRESSES:
        one = rtnl.parse_address(received)
        name = names.get(one.ifindex, "")
        addr = Addr(HOST, name, one.address) if name.startswith(TUNNEL_PREFIX) else None
        yield Event(gone, obj=addr, address=one.address.ip)
    elif received.type in ROUTES:
        route = rtnl.parse_route(received)
        if route and route.ifindex in names:
            yield Event(gone, obj=tunnel.cluster_route(route, names[route.ifindex]))
    else:
        yield from _of_neighbour(received, names, gone=gone)


def _of_link(received: Received, names: Mapping[int, str], *, gone: bool) -> Iterator[Event]:
    family, _, index, _, _ = rtnl.IFINFO.unpack_from(received.body)
    if family == rtnl.AF_BRIDGE:  # of the port, not of the link
        return
    if index not in names and _NAME_BEGINS not in received.body:  # a pod's: six a call
        return
    link = rtnl.parse_link(received)
    if index in names or link.name.startswith(TUNNEL_PREFIX):
        state = (link.ifindex, link.mtu, link.mac, bool(link.flags & rtnl.IFF_UP))
        yield Event(gone, link=(names.get(index, link.name), state))


def _of_neighbour(received: Received, names: Mapping[int, str], *, gone: bool) -> Iterator[Event]:
    family, index, _, _, _ = rtnl.NDMSG.unpack_from(received.body)
    name = names.get(index, "")
    if not name.startswith(TUNNEL_PREFIX):
        return
    if family == rtnl.AF_BRIDGE:
        obj: Obj | None = tunnel.parse_fdb(received, index, name)
    else:
        obj = tunnel.parse_neighbour(received, index, name, permanent=not gone)
    if obj is not None:
        yield Event(gone, obj=obj)


def _program() -> list[tuple[int, int, int, int]]:
    """Classic BPF: links and addresses pass; routes of our protocol do; neighbours do that are
    permanent, or gone (then they are no longer)."""
    passing = (*LINKS, *ADDRESSES, rtnl.RTM_DELNEIGH)
    count = len(passing)
    lines = [(0x28, 0, 0, 4)]  # ldh [4]: nlmsg_type
    # Jumps are counted from the next line. After the tests: 2 of routes, 1 of neighbours, drop.
    for place, kind in enumerate(passing):
        lines.append((0x15, count - place + 8, 0, kind_value(kind)))
    lines += [
        (0x15, 3, 0, kind_value(rtnl.RTM_NEWROUTE)),
        (0x15, 2, 0, kind_value(rtnl.RTM_DELROUTE)),
        (0x15, 3, 0, kind_value(rtnl.RTM_NEWNEIGH)),
        (0x06, 0, 0, 0),  # ret 0: drop
        (0x30, 0, 0, PROTOCOL_AT),  # ldb
        (0x15, 3, 2, CLUSTER_PROTOCOL),
        (0x30, 0, 0, STATE_AT),
        (0x45, 1, 0, rtnl.NUD_PERMANENT),  # jset
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),  # ret: pass
    ]
    return lines
