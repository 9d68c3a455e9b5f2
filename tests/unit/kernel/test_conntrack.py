"""Connections: what is asked for, and what of the answer counts, whatever the kernel can filter."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from cni_plugin.kernel import conntrack
from cni_plugin.kernel.netlink import Message, Received, attr, encode, nested

UDP, TCP = 17, 6


class Kernel:
    """Answers a listing with these entries."""

    def __init__(self, *entries: Received) -> None:
        self.entries = entries
        self.asked: list[Message] = []

    def dump(self, message: Message) -> list[Received]:
        self.asked.append(message)
        return list(self.entries)


def _tuple(source: str, destination: str, protocol: int, ports: tuple[int, int]) -> bytes:
    one, other = ip_address(source), ip_address(destination)
    kinds = (1, 2) if one.version == 4 else (3, 4)
    address = attr(kinds[0], one.packed) + attr(kinds[1], other.packed)
    sent, to = (
        attr(kind, port.to_bytes(2, "big")) for kind, port in zip((2, 3), ports, strict=True)
    )
    return nested(1, address) + nested(2, attr(1, bytes([protocol])), sent, to)


def entry(
    port: int, answers: tuple[str, int], protocol: int = UDP, caller: str = "192.0.2.9",
    destination: str = "192.0.2.1",
) -> Received:  # fmt: skip
    """A caller's connection to the port, and who answers it."""
    there = _tuple(caller, destination, protocol, (40000, port))
    back = _tuple(answers[0], caller, protocol, (answers[1], 40000))
    family = 2 if ip_address(caller).version == 4 else 10
    body = bytes([family, 0, 0, 0]) + nested(1, there) + nested(2, back) + attr(12, b"\0\0\0\7")
    return Received(0x100, 0, body)


def listed(kernel: Kernel, version: int, *ports: int) -> list[conntrack.Flow]:
    socket: Any = kernel
    return list(conntrack.flows(socket, version, UDP, ports))


@pytest.mark.parametrize(
    ("version", "caller", "node", "pod"),
    [
        (4, "192.0.2.9", "192.0.2.1", "10.244.0.2"),
        (6, "2001:db8::9", "2001:db8::1", "2001:db8:1::2"),
    ],
)
def test_a_connection_says_who_is_called_and_who_answers(
    version: int, caller: str, node: str, pod: str
) -> None:
    kernel = Kernel(entry(53, (pod, 5353), UDP, caller, node))
    (flow,) = listed(kernel, version, 53)
    assert flow[:4] == (ip_address(node), 53, ip_address(pod), 5353)


def test_others_do_not_count_where_the_kernel_lists_all() -> None:
    """Before Linux 5.8 it knows no filter."""
    wanted = entry(53, ("10.244.0.2", 5353))
    kernel = Kernel(wanted, entry(54, ("10.244.0.2", 5353)), entry(53, ("10.244.0.2", 1), TCP))
    assert [flow.answer_port for flow in listed(kernel, 4, 53)] == [5353]
    assert [flow.port for flow in listed(kernel, 4, 53, 54)] == [53, 54]


def test_one_port_is_asked_for_by_number_and_several_by_protocol() -> None:
    kernel = Kernel()
    listed(kernel, 4, 53)
    listed(kernel, 4, 53, 54)
    one, several = (message.body for message in kernel.asked)
    protocol = attr(1, bytes([UDP]))
    assert nested(2, protocol, attr(3, (53).to_bytes(2, "big"))) in one
    assert nested(2, protocol) in several


def test_it_is_forgotten_by_what_its_caller_sends_and_its_id() -> None:
    (flow,) = listed(Kernel(entry(53, ("10.244.0.2", 5353))), 4, 53)
    message = conntrack.forget(flow)
    found = nfct_msg(encode(message, 1))
    found.decode()
    assert found["header"]["type"] == 0x102  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
    called = found.get_attr("CTA_TUPLE_ORIG")
    assert called.get_attr("CTA_TUPLE_IP").get_attr("CTA_IP_V4_SRC") == "192.0.2.9"
    assert called.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_DST_PORT") == 53
    assert found.get_attr("CTA_ID") == 7
