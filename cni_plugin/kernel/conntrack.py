"""Connections that the kernel remembers, by protocol and port: listed, and forgotten.

Translation is decided with a connection's first packet. UDP and SCTP connections have no end of
their own, so a caller that goes on sending would reach who had the port before for as long as it
sends (kubernetes issue 58336). No `conntrack` binary: a node may lack it.
Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from ipaddress import ip_address

from cni_plugin.kernel.netlink import (
    Message,
    Received,
    Socket,
    attr,
    attribute_map,
    nested,
    u32,
)
from cni_plugin.kernel.rtnl import FAMILY
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress

SUBSYSTEM, GET, DELETE = 1, 1, 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
TUPLE_ORIG, TUPLE_REPLY, ID, FILTER = 1, 2, 12, 25  # CTA_*
TUPLE_IP, TUPLE_PROTO = 1, 2  # CTA_TUPLE_*
PROTO_NUM, SRC_PORT, DST_PORT = 1, 2, 3  # CTA_PROTO_*
SOURCE, DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}  # CTA_IP_V*
FILTER_ORIG_FLAGS, FILTER_REPLY_FLAGS = 1, 2  # CTA_FILTER_*
BY_PROTOCOL, BY_PORT = 1 << 3, 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM, _DST_PORT


class Flow(NamedTuple):
    """A connection. destination, port: where its caller sends to; answers, answer_port: who
    answers. head, tuple, id: what names it to the kernel."""

    destination: IPAddress
    port: int
    answers: IPAddress
    answer_port: int
    head: bytes
    tuple: bytes
    id: bytes


def flows(socket: Socket, version: int, protocol: int, ports: Collection[int]) -> Iterator[Flow]:
    """Those of which callers send to one of the ports. One walk through the kernel's table, 10 ms
    where it has 262,144 buckets; before Linux 5.8 it lists all there are."""
    wanted, flags = attr(PROTO_NUM, bytes([protocol])), BY_PROTOCOL
    if len(ports) == 1:
        wanted += attr(DST_PORT, _be16(*ports))
        flags |= BY_PORT
    body = struct.pack(">BBH", FAMILY[version], 0, 0)  # struct nfgenmsg
    body += nested(TUPLE_ORIG, nested(TUPLE_PROTO, wanted))
    body += nested(FILTER, u32(FILTER_ORIG_FLAGS, flags), u32(FILTER_REPLY_FLAGS, 0))
    packed = {_be16(port) for port in ports}
    line = f"conntrack -L -f ipv{version} -p {protocol}"
    for received in socket.dump(Message(SUBSYSTEM << 8 | GET, 0, body, line)):
        flow = _parse(received, version, bytes([protocol]), packed)
        if flow is not None:
            yield flow


def forget(flow: Flow) -> Message:
    """Forgets one; ENOENT when it is gone already."""
    body = flow.head + nested(TUPLE_ORIG, flow.tuple) + attr(ID, flow.id)
    line = f"conntrack -D -d {flow.destination} --orig-port-dst {flow.port}"
    return Message(SUBSYSTEM << 8 | DELETE, 0, body, line)


def _be16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _parse(
    received: Received, version: int, protocol: bytes, ports: Collection[bytes]
) -> Flow | None:
    found = attribute_map(received.body, 4)
    there = attribute_map(found[TUPLE_ORIG])
    asked = attribute_map(there[TUPLE_PROTO])
    if asked.get(PROTO_NUM) != protocol or asked.get(DST_PORT) not in ports:
        return None
    back = attribute_map(found[TUPLE_REPLY])
    answers = attribute_map(back[TUPLE_PROTO])
    return Flow(
        ip_address(attribute_map(there[TUPLE_IP])[DESTINATION[version]]),
        int.from_bytes(asked[DST_PORT], "big"),
        ip_address(attribute_map(back[TUPLE_IP])[SOURCE[version]]),
        int.from_bytes(answers.get(SRC_PORT, b""), "big"),
        received.body[:4],
        found[TUPLE_ORIG],
        found[ID],
    )
