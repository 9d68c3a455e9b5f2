"""Queues of limited rate and what leads to them: model objects to messages, answers to values.

A filter is a u32 (every kernel with classifiers has it; matchall and flower are often left out). Of
ours there are at most three kinds on a hook, each with a preference of its own: what is named by
IPv4 network, by IPv6 network, and everything else.
Source: linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h; tc(8), tc-tbf(8), tc-u32(8).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_network

from cni_plugin.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Line,
    Message,
    Received,
    attr,
    attribute_map,
    nested,
    number,
    string,
    text,
    u32,
)
from cni_plugin.kernel.rtnl import (
    IFINFO,
    IFLA_IFNAME,
    IFLA_INFO_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    RTM_NEWLINK,
)
from cni_plugin.model.objects import Ifb, Redirect, Tbf
from ipam.lean_typing import NamedTuple
from ipam.values import IPNetwork

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
NLM_F_ECHO = 0x8  # without it the kernel answers RTM_GETQDISC to its listeners only
TCMSG = struct.Struct("=BxxxiIII")  # tcmsg: family, ifindex, handle, parent, info
TCA_KIND, TCA_OPTIONS = 1, 2
TC_H_ROOT, TC_H_CLSACT, CLSACT_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
PARENT = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}  # TC_H_MIN_INGRESS, TC_H_MIN_EGRESS

TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST = 1, 4, 6
RATESPEC = struct.Struct("=BBHhHI")  # cell_log, linklayer, overhead, cell_align, mpu, rate
TBF_QOPT = struct.Struct("=12s12sIII")  # rate, peakrate, limit, buffer, mtu
LINKLAYER_ETHERNET = 1  # TC_LINKLAYER_ETHERNET: no rate table is wanted of us
RATE32_MAX = 0xFFFFFFFF  # above it the rate is in TCA_TBF_RATE64
TICK_NS = 64  # PSCHED_SHIFT 6, include/net/pkt_sched.h
TICKS = 1 << 32  # the bucket's depth is told as so many ticks, less what does not fit

TCA_U32_SEL, TCA_U32_ACT = 5, 7
U32_SEL = struct.Struct("!BBBxHHhhI")  # flags, offshift, nkeys, offmask, off, offoff, hoff, hmask
U32_KEY = struct.Struct("!II8x")  # mask, value
U32_OFFSET = struct.Struct("=ii")  # where in the packet, and offmask
TC_U32_TERMINAL = 1
TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_MIRRED_PARMS = 1, 2, 2
MIRRED = struct.Struct("=IIiiiiI")  # index, capab, action, refcnt, bindcnt, eaction, ifindex
TC_ACT_STOLEN, TCA_EGRESS_REDIR = 4, 1

ANY = 0  # beside the IP versions
ETH_P = {4: 0x0800, 6: 0x86DD, ANY: 0x0003}
# "p" and some; others' filters are mostly lower. Of a hook's own, because u32 has its tables in
# common for both hooks, and lists one hook's for the other if the preference is the same.
PREFERENCE = {
    "ingress": {4: 0x7070, 6: 0x7071, ANY: 0x7072}, "egress": {4: 0x7074, 6: 0x7075, ANY: 0x7076},
}  # fmt: skip
# Where the peer's address is: (source, destination), in bytes from the network header.
ADDRESS_OFFSET = {4: (12, 16), 6: (8, 24)}
GONE = "?"  # in place of the name of a link that has been deleted


# links and queues --------------------------------------------------------------------------------


def new_ifb(ifb: Ifb, line: Line) -> Message:
    """An ifb, down until it is set up."""
    body = IFINFO.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, ifb.name)
    body += u32(IFLA_MTU, ifb.mtu) if ifb.mtu else b""
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "ifb"))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, line)


def replace_tbf(tbf: Tbf, index: int, line: Line) -> Message:
    """Makes it the link's root queue, in place of whatever is there; one that is a tbf already
    keeps its packets."""
    body = TCMSG.pack(0, index, 0, TC_H_ROOT, 0) + text(TCA_KIND, "tbf")
    rate = RATESPEC.pack(0, LINKLAYER_ETHERNET, 0, 0, 0, min(tbf.rate, RATE32_MAX))
    options = [attr(TCA_TBF_PARMS, TBF_QOPT.pack(rate, bytes(12), tbf.limit, 0, 0))]
    if tbf.rate > RATE32_MAX:
        options.append(attr(TCA_TBF_RATE64, struct.pack("=Q", tbf.rate)))
    body += nested(TCA_OPTIONS, *options, u32(TCA_TBF_BURST, tbf.burst))
    return Message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body, line)


def delete_tbf(_tbf: Tbf, index: int, line: Line) -> Message:
    """Gives the link its default queue back."""
    return Message(RTM_DELQDISC, 0, TCMSG.pack(0, index, 0, TC_H_ROOT, 0), line)


def get_root(index: int) -> Message:
    """Asks for a link's root queue. Not for a link whose queue is the default one: of a built-in
    one the kernel tells nothing, not even an error."""
    body = TCMSG.pack(0, index, 0, TC_H_ROOT, 0)
    return Message(RTM_GETQDISC, NLM_F_ECHO, body, f"tc qdisc show index {index} root")


def parse_tbf(received: Received, wanted: Tbf) -> Tbf | None:
    """RTM_NEWQDISC to a Tbf; None for a queue of another kind.

    The kernel keeps the burst as the time it takes and tells that in ticks of 64 ns, of which it
    drops what is above 32 bits: where they are those of the wanted burst, that is what is there."""
    found = attribute_map(received.body, TCMSG.size)
    if string(found.get(TCA_KIND, b"")) != "tbf":
        return None
    options = attribute_map(found.get(TCA_OPTIONS, b""))
    rate_bytes, _, limit, ticks, _ = TBF_QOPT.unpack_from(options[TCA_TBF_PARMS])
    rate = number(options.get(TCA_TBF_RATE64, b"")) or RATESPEC.unpack(rate_bytes)[-1]
    burst = wanted.burst if _same_time(wanted, rate, ticks) else ticks * TICK_NS * rate // 10**9
    return Tbf(wanted.link, rate, burst, limit)


def _same_time(wanted: Tbf, rate: int, ticks: int) -> bool:
    """Up to what is lost by the kernel's own reckoning (psched_ratecfg_precompute)."""
    if not rate:
        return False
    expected = wanted.burst * 10**9 // rate // TICK_NS
    apart = (expected - ticks) % TICKS
    return min(apart, TICKS - apart) <= 1 + (expected >> 24)


# filters -----------------------------------------------------------------------------------------


class _Filter(NamedTuple):
    """version: IP's, or ANY with the network None, for everything. target: the index of the link to
    which it leads, 0: that one is gone, None: it lets pass."""

    version: int
    network: IPNetwork | None
    target: int | None


def new_redirect(redirect: Redirect, index: int, target: int, line: Line) -> Iterator[Message]:
    """The hooks' own queue (clsact), which may be there, and the filters."""
    body = TCMSG.pack(0, index, CLSACT_HANDLE, TC_H_CLSACT, 0) + text(TCA_KIND, "clsact")
    yield Message(RTM_NEWQDISC, NLM_F_CREATE, body, line)
    for one in _filters(redirect, target):
        options = [_selector(one.network, redirect.hook)]
        options += [_mirred(one.target)] if one.target is not None else []
        body = _filter_header(redirect.hook, index, one.version)
        body += text(TCA_KIND, "u32") + nested(TCA_OPTIONS, *options)
        yield Message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body, line)


def delete_redirect(found: Redirect, index: int, line: Line) -> Iterator[Message]:
    """Takes away every kind of which one is found, and nobody else's filters."""
    for version in dict.fromkeys(one.version for one in _filters(found, 0)):
        body = _filter_header(found.hook, index, version)
        yield Message(RTM_DELTFILTER, 0, body, line)


def _filters(redirect: Redirect, target: int) -> Iterator[_Filter]:
    for networks, where in ((redirect.unshaped, None), (redirect.shaped, target)):
        for network in networks:
            yield _Filter(network.version, network, where)
    if redirect.to and not redirect.shaped:
        yield _Filter(ANY, None, target)


def _filter_header(hook: str, index: int, version: int) -> bytes:
    protocol = int.from_bytes(ETH_P[version].to_bytes(2, "big"), sys.byteorder)
    return TCMSG.pack(0, index, 0, PARENT[hook], PREFERENCE[hook][version] << 16 | protocol)


def _selector(network: IPNetwork | None, hook: str) -> bytes:
    keys = [*_keys(network, hook)] if network else [bytes(U32_KEY.size)]
    head = U32_SEL.pack(TC_U32_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0)
    return attr(TCA_U32_SEL, head + b"".join(keys))


def _keys(network: IPNetwork, hook: str) -> Iterator[bytes]:
    """One for each 32 bits that the prefix reaches into. What enters by the hook comes from the
    pod, so its peer is the destination."""
    start = ADDRESS_OFFSET[network.version][hook == "ingress"]
    mask, value = network.netmask.packed, network.network_address.packed
    for at in range(0, max(4, (network.prefixlen + 31) // 32 * 4), 4):
        yield mask[at : at + 4] + value[at : at + 4] + U32_OFFSET.pack(start + at, 0)


def _mirred(target: int) -> bytes:
    parms = MIRRED.pack(0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, target)
    options = nested(TCA_ACT_OPTIONS, attr(TCA_MIRRED_PARMS, parms))
    return nested(TCA_U32_ACT, nested(1, text(TCA_ACT_KIND, "mirred"), options))


def dump_filters(index: int, hook: str) -> Message:
    """The filters of a hook; none when the link has no hooks."""
    body = TCMSG.pack(0, index, 0, PARENT[hook], 0)
    return Message(RTM_GETTFILTER, 0, body, f"tc filter show index {index} {hook}")


def parse_redirect(
    filters: Iterable[Received], wanted: Redirect, name_of: Callable[[int], str]
) -> Redirect | None:
    """What our filters of a hook do; None when there are none. name_of: a link's name by index.
    The networks come in the wanted order, as far as they are wanted."""
    ours = [one for one in (_parse_filter(each, wanted.hook) for each in filters) if one]
    if not ours:
        return None
    named = [one for one in ours if one.network is not None]
    shaped = tuple(one.network for one in named if one.network and one.target is not None)
    unshaped = tuple(one.network for one in named if one.network and one.target is None)
    leads = {one.target for one in ours if one.target is not None}
    to = ""
    if leads:
        (target, *others) = leads
        to = GONE if others or not target else name_of(target) or GONE
    return Redirect(
        wanted.link, wanted.hook, to, _as(wanted.unshaped, unshaped), _as(wanted.shaped, shaped)
    )


def _as(wanted: tuple[IPNetwork, ...], found: tuple[IPNetwork, ...]) -> tuple[IPNetwork, ...]:
    return wanted if sorted(map(str, wanted)) == sorted(map(str, found)) else found


def _parse_filter(received: Received, hook: str) -> _Filter | None:
    """None for what is not ours, and for u32's tables, which are listed like filters."""
    _, _, _, _, info = TCMSG.unpack_from(received.body)
    version = {preference: one for one, preference in PREFERENCE[hook].items()}.get(info >> 16)
    options = attribute_map(attribute_map(received.body, TCMSG.size).get(TCA_OPTIONS, b""))
    if version is None or TCA_U32_SEL not in options:
        return None
    network = _network(version, options[TCA_U32_SEL]) if version else None
    target = _target(options[TCA_U32_ACT]) if TCA_U32_ACT in options else None
    return _Filter(version, network, target)


def _network(version: int, selector: bytes) -> IPNetwork:
    size = 4 if version == 4 else 16
    mask, value = b"", b""
    for at in range(U32_SEL.size, len(selector), U32_KEY.size):
        mask += selector[at : at + 4]
        value += selector[at + 4 : at + 8]
    length = int.from_bytes(mask.ljust(size, b"\0"), "big").bit_count()
    return ip_network((value.ljust(size, b"\0"), length), strict=False)


def _target(actions: bytes) -> int:
    first = attribute_map(attribute_map(actions).get(1, b""))
    parms = attribute_map(first.get(TCA_ACT_OPTIONS, b"")).get(TCA_MIRRED_PARMS)
    return int(MIRRED.unpack_from(parms)[-1]) if parms else 0
