"""Messages of queues and filters: what pyroute2 reads is what was meant, and so do we."""

from __future__ import annotations

import struct
from ipaddress import ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from cni_plugin.kernel import shaping
from cni_plugin.kernel.netlink import Message, Received, attr, nested, text
from cni_plugin.model.objects import Ifb, Redirect, Tbf
from tests.unit.kernel.test_rtnl import CREATE, EXCL, REPLACE, REQUEST, answer, decoded

INDEX, TARGET = 7, 9
NETWORKS = tuple(
    map(ip_network, ("10.0.0.0/8", "192.0.2.1/32", "0.0.0.0/0", "2001:db8::/36", "::/0"))
)
HOOKS = pytest.mark.parametrize("hook", ["ingress", "egress"])


def read(message: Message) -> tuple[dict[str, Any], dict[str, Any]]:
    return decoded(tcmsg, message)


def redirect(hook: str = "ingress", **lists: Any) -> Redirect:
    return Redirect("pw", hook, "pe", **lists)


def filters(wanted: Redirect) -> list[Message]:
    """Without the hooks' queue, which comes first."""
    return [*shaping.new_redirect(wanted, INDEX, TARGET, "line")][1:]


def parsed(messages: list[Message], wanted: Redirect, name: str = "pe") -> Redirect | None:
    return shaping.parse_redirect(map(answer, messages), wanted, lambda _index: name)


def test_an_ifb() -> None:
    head, attributes = decoded(ifinfmsg, shaping.new_ifb(Ifb("pe", 1400, "alias"), "line"))
    assert head["flags of nl"] == CREATE | EXCL | REQUEST
    assert attributes["IFLA_IFNAME"] == "pe"
    assert attributes["IFLA_MTU"] == 1400
    assert attributes["IFLA_LINKINFO"]["IFLA_INFO_KIND"] == "ifb"


def test_a_queue_takes_the_root_from_whatever_is_there() -> None:
    head, attributes = read(shaping.replace_tbf(Tbf("pw", 125_000, 20_000, 23_125), INDEX, "line"))
    assert head["type"] == 36
    assert head["flags of nl"] == CREATE | REPLACE | REQUEST
    assert (head["index"], head["parent"]) == (INDEX, 0xFFFFFFFF)
    assert attributes["TCA_KIND"] == "tbf"


# As the kernel tells it: the burst as the ticks of 64 ns that it takes, 32 bits of them.
def _told(tbf: Tbf, ticks: int) -> Received:
    rate = shaping.RATESPEC.pack(0, 1, 0, 0, 0, min(tbf.rate, 0xFFFFFFFF))
    options = [attr(1, shaping.TBF_QOPT.pack(rate, bytes(12), tbf.limit, ticks % (1 << 32), 0))]
    if tbf.rate > 0xFFFFFFFF:
        options.append(attr(4, tbf.rate.to_bytes(8, "little")))
    body = shaping.TCMSG.pack(0, INDEX, 0, 0xFFFFFFFF, 0) + text(1, "tbf") + nested(2, *options)
    return Received(36, 0, body)


@pytest.mark.parametrize("rate", [1, 12_500, 1_250_000_000, 1 << 40])
@pytest.mark.parametrize("burst", [1518, 50_000, 268_435_455])
def test_a_queue_is_read_back_as_it_was_wanted(rate: int, burst: int) -> None:
    wanted = Tbf("pw", rate, burst, burst + rate // 40 & 0xFFFFFFFF)
    ticks = burst * 10**9 // rate // 64
    assert shaping.parse_tbf(_told(wanted, ticks), wanted) == wanted
    other = shaping.parse_tbf(_told(wanted, ticks + 5 + ticks // 100), wanted)
    assert other is not None
    assert other.burst != burst or rate > 10**9  # a tick is more than 64 bytes then


def test_a_queue_of_another_kind_is_none() -> None:
    body = shaping.TCMSG.pack(0, INDEX, 0, 0xFFFFFFFF, 0) + text(1, "htb")
    assert shaping.parse_tbf(Received(36, 0, body), Tbf("pw", 1, 1, 1)) is None


@HOOKS
def test_everything_is_one_filter(hook: str) -> None:
    queue, all_ = shaping.new_redirect(redirect(hook), INDEX, TARGET, "line")
    head, attributes = read(queue)
    assert (head["parent"], head["handle"]) == (0xFFFFFFF1, 0xFFFF0000)
    assert attributes == {"TCA_KIND": "clsact"}
    head, attributes = read(all_)
    assert head["type"] == 44
    assert head["parent"] == {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}[hook]
    assert attributes["TCA_KIND"] == "u32"
    keys = attributes["TCA_OPTIONS"]["TCA_U32_SEL"]["keys"]
    assert [(key["key_mask"], key["key_val"]) for key in keys] == [(0, 0)]
    action = attributes["TCA_OPTIONS"]["TCA_U32_ACT"]["TCA_ACT_PRIO_1"]
    assert action["TCA_ACT_KIND"] == "mirred"
    mirred = action["TCA_ACT_OPTIONS"]["TCA_MIRRED_PARMS"]
    assert (mirred["ifindex"], mirred["action"], mirred["eaction"]) == (TARGET, 4, 1)


@HOOKS
def test_a_network_is_compared_with_the_peers_address(hook: str) -> None:
    wanted = redirect(hook, unshaped=(ip_network("2001:db8::/36"),))
    message = filters(wanted)[0]
    _, attributes = read(message)
    assert "TCA_U32_ACT" not in attributes["TCA_OPTIONS"]
    # Two keys end the message; pyroute2 reads them from the wrong place.
    keys = [*struct.iter_unpack("=4s4sii", message.body[-32:])]
    first = {"ingress": 24, "egress": 8}[hook]
    assert keys == [
        (b"\xff\xff\xff\xff", b"\x20\x01\x0d\xb8", first, 0),
        (b"\xf0\x00\x00\x00", b"\x00\x00\x00\x00", first + 4, 0),
    ]


@HOOKS
@pytest.mark.parametrize("field", ["unshaped", "shaped"])
def test_filters_are_read_back_as_they_were_wanted(hook: str, field: str) -> None:
    wanted = redirect(hook, **{field: NETWORKS})
    messages = filters(wanted)
    assert len(messages) == len(NETWORKS) + (field == "unshaped")
    assert parsed(messages, wanted) == wanted
    assert parsed(messages[::-1], wanted) == wanted


def test_what_is_missing_is_seen() -> None:
    wanted = redirect(unshaped=NETWORKS)
    messages = filters(wanted)
    assert parsed(messages[1:], wanted) == wanted._replace(unshaped=NETWORKS[1:])
    assert parsed(messages[:-1], wanted) == wanted._replace(to="")
    assert parsed(messages, wanted, name="") == wanted._replace(to="?")
    assert parsed([], wanted) is None


def test_the_other_hooks_filters_are_not_ours() -> None:
    """u32 lists one hook's tables for the other."""
    assert parsed(filters(redirect("egress")), redirect("ingress")) is None


@pytest.mark.parametrize(
    ("found", "kinds"),
    [
        (redirect(), 1),
        (redirect(unshaped=NETWORKS), 3),
        (redirect(shaped=NETWORKS), 2),
        (redirect(unshaped=NETWORKS[:1])._replace(to=""), 1),
    ],
)
def test_only_the_kinds_that_are_there_are_taken_away(found: Redirect, kinds: int) -> None:
    """The kernel refuses what is not there, and a change begins with taking away."""
    heads = [read(one)[0] for one in shaping.delete_redirect(found, INDEX, "line")]
    assert len({head["info"] for head in heads}) == len(heads) == kinds
    assert {head["type"] for head in heads} == {45}
