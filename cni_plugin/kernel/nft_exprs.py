"""Expressions of nftables' rules: ours to the kernel's names and attributes.

Source: linux/netfilter/nf_tables.h, NFTA_* of each expression. Registers are the 32-bit ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from cni_plugin.kernel.netlink import attr, nested, text
from cni_plugin.model.rules import (
    Compare,
    ConnectionStatus,
    Constant,
    DestinationNat,
    DestinationType,
    Expr,
    Load,
    Lookup,
    LowerMss,
    Mask,
    Masquerade,
    PathMss,
    Store,
    Verdict,
)

FAMILIES = {"any": 0, "inet": 1, "ip": 2, "bridge": 7, "ip6": 10}  # NFPROTO_*
VERDICTS = {"drop": 0, "accept": 1, "jump": -3, "goto": -4, "return": -5}  # NF_*, NFT_*
RANDOM_FULLY = 0x10  # NF_NAT_RANGE_PROTO_RANDOM_FULLY
# NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_F_DADDR, NFT_CT_STATUS, NFT_NAT_DNAT
FIB_ADDRTYPE, FIB_DADDR, CT_STATUS, NAT_DNAT = 3, 2, 2, 1
HTON, CHECKSUM_INET, RT_TCPMSS = 1, 1, 3  # NFT_BYTEORDER_HTON, NFT_PAYLOAD_CSUM_INET, NFT_RT_TCPMSS
EXTHDR_TCPOPT, TCPOPT_MAXSEG = 1, 2  # NFT_EXTHDR_OP_TCPOPT; RFC 9293 section 3.2


def be32(kind: int, value: int) -> bytes:
    """An attribute of a 32-bit number in network byte order, as nfnetlink has them."""
    return attr(kind, struct.pack(">I", value & 0xFFFFFFFF))


def _register(number: int) -> int:
    return 8 + number  # NFT_REG32_00


def exprs(expr: Expr) -> Iterator[tuple[str, bytes]]:
    """The names and attributes of the kernel's expressions for one of ours."""
    yield _expr(expr)
    if isinstance(expr, PathMss):  # nft_rt gives it in the machine's order
        registers = be32(1, _register(0)) + be32(2, _register(0))
        yield "byteorder", registers + be32(3, HTON) + be32(4, 2) + be32(5, 2)


def _expr(expr: Expr) -> tuple[str, bytes]:  # noqa: C901, PLR0911  a table, one kind a line
    """An expression's name and its attributes."""
    if isinstance(expr, Load) and expr.source == "meta":
        return "meta", be32(1, _register(expr.register)) + be32(2, expr.what)
    if isinstance(expr, Load):
        where = be32(2, expr.what) + be32(3, expr.offset) + be32(4, expr.length)
        return "payload", be32(1, _register(expr.register)) + where
    if isinstance(expr, Mask):
        registers = be32(1, _register(0)) + be32(2, _register(0)) + be32(3, len(expr.mask))
        flip = expr.flip or bytes(len(expr.mask))
        return "bitwise", registers + nested(4, attr(1, expr.mask)) + nested(5, attr(1, flip))
    if isinstance(expr, Constant):
        return "immediate", be32(1, _register(0)) + nested(2, attr(1, expr.data))
    if isinstance(expr, Store):
        where = be32(2, expr.what) + be32(3, expr.offset) + be32(4, expr.length)
        counted = b"" if expr.checksum is None else be32(6, CHECKSUM_INET) + be32(7, expr.checksum)
        return "payload", where + be32(5, _register(0)) + counted
    if isinstance(expr, PathMss):
        return "rt", be32(1, _register(0)) + be32(2, RT_TCPMSS)
    if isinstance(expr, LowerMss):
        where = attr(2, bytes([TCPOPT_MAXSEG])) + be32(3, 2) + be32(4, 2)
        return "exthdr", where + be32(6, EXTHDR_TCPOPT) + be32(7, _register(0))
    if isinstance(expr, Compare):
        operator = be32(1, _register(0)) + be32(2, int(expr.negate))
        return "cmp", operator + nested(3, attr(1, expr.data))
    if isinstance(expr, Lookup):
        target = be32(3, 0) if expr.verdict else b""  # NFT_REG_VERDICT
        target = be32(3, _register(0)) if expr.data else target
        inverted = be32(5, 1) if expr.negate else b""  # NFT_LOOKUP_F_INV
        return "lookup", text(1, expr.set) + be32(2, _register(0)) + target + inverted
    if isinstance(expr, Masquerade):
        return "masq", be32(1, RANDOM_FULLY)
    if isinstance(expr, Verdict):
        return "immediate", be32(1, 0) + nested(2, verdict(expr))
    return _nat_expr(expr)


def _nat_expr(expr: DestinationType | ConnectionStatus | DestinationNat) -> tuple[str, bytes]:
    """Those of host ports."""
    if isinstance(expr, DestinationType):
        return "fib", be32(1, _register(0)) + be32(2, FIB_ADDRTYPE) + be32(3, FIB_DADDR)
    if isinstance(expr, ConnectionStatus):
        return "ct", be32(1, _register(0)) + be32(2, CT_STATUS)
    family, port = ("ip", 1) if expr.version == 4 else ("ip6", 4)
    place = be32(3, _register(0)) + be32(5, _register(port))
    return "nat", be32(1, NAT_DNAT) + be32(2, FAMILIES[family]) + place


def verdict(of: Verdict) -> bytes:
    """The data of a verdict, in a rule or an element."""
    chain = text(2, of.chain) if of.chain else b""
    return nested(2, be32(1, VERDICTS[of.kind]), chain)
