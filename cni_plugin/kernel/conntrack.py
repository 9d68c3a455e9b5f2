"""Connections that the kernel remembers, by protocol and port: listed, and forgotten.

Translation is decided with a connection's first packet. UDP and SCTP connections have no end of
their own, so a caller that goes on sending would reach who had the port before for as long as it
sends (kubernetes issue 58336). No `conntrack` binary: a node may lack it.
Source: linux/netfilter/nfnetlink_conntrack.h, net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
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
BY_PROTOCOL_AND_PORT = 1 << 3 | 1 << 5  # CTA_FILTER_F_CTA_PROTO_NUM, _DST_PORT


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


def flows(socket: Socket, version: int, protocol: int, port: int) -> Iterator[Flow]:
    """Those of which callers send to the port. A kernel before 5.8 lists all there are."""
    wanted = nested(TUPLE_PROTO, attr(PROTO_NUM, bytes([protocol])), attr(DST_PORT, _be16(port)))
    flags = u32(FILTER_ORIG_FLAGS, BY_PROTOCOL_AND_PORT) + u32(FILTER_REPLY_FLAGS, 0)
    body = _head(version) + nested(TUPLE_ORIG, wanted) + nested(FILTER, flags)
    line = f"conntrack -L -f ipv{version} -p {protocol} --orig-port-dst {port}"
    for received in socket.dump(Message(SUBSYSTEM << 8 | GET, 0, body, line)):
        flow = _parse(received, version, protocol, port)
        if flow is not None:
            yield flow


def forget(flow: Flow) -> Message:
    """Forgets one; ENOENT when it is gone already."""
    body = flow.head + nested(TUPLE_ORIG, flow.tuple) + attr(ID, flow.id)
    line = f"conntrack -D -d {flow.destination} --orig-port-dst {flow.port}"
    return Message(SUBSYSTEM << 8 | DELETE, 0, body, line)


def _head(version: int) -> bytes:
    return struct.pack(">BBH", FAMILY[version], 0, 0)  # struct nfgenmsg


def _be16(number: int) -> bytes:
    return number.to_bytes(2, "big")


def _parse(received: Received, version: int, protocol: int, port: int) -> Flow | None:
    found = attribute_map(received.body, 4)
    there, back = attribute_map(found[TUPLE_ORIG]), attribute_map(found[TUPLE_REPLY])
    asked, answers = attribute_map(there[TUPLE_PROTO]), attribute_map(back[TUPLE_PROTO])
    if asked.get(PROTO_NUM) != bytes([protocol]) or asked.get(DST_PORT) != _be16(port):
        return None
    return Flow(
        ip_address(attribute_map(there[TUPLE_IP])[DESTINATION[version]]),
        port,
        ip_address(attribute_map(back[TUPLE_IP])[SOURCE[version]]),
        int.from_bytes(answers.get(SRC_PORT, b""), "big"),
        received.body[:4],
        found[TUPLE_ORIG],
        found[ID],
    )
