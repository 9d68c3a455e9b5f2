"""nftables rules as values, each with the text `nft` would show.

A rule is a tuple of parts (matches and one verdict); kernel.nft turns their expressions into
attributes. Source: linux/netfilter/nf_tables.h; the registers are the kernel's 16 of 4 bytes.
"""

from __future__ import annotations

from cni_plugin.model.names import digest
from ipam.lean_typing import NamedTuple

REGISTER_BYTES = 4


class Load(NamedTuple):
    """Loads meta data or packet bytes into a register (counted in 4-byte registers)."""

    source: str  # "meta" | "payload"
    what: int  # NFT_META_* key, or NFT_PAYLOAD_* base
    offset: int = 0  # bytes
    length: int = 0  # bytes
    register: int = 0


class Mask(NamedTuple):
    """Register 0 = (register 0 AND mask) XOR flip; flip empty: all zero."""

    mask: bytes
    flip: bytes = b""


class Constant(NamedTuple):
    """Register 0 = these bytes."""

    data: bytes


class Store(NamedTuple):
    """Register 0 into the packet. what, offset, length: as in Load; checksum: where in the same
    header the internet checksum is that has to follow (RFC 1624), None when none covers it."""

    what: int
    offset: int
    length: int
    checksum: int | None = None


class PathMss(NamedTuple):
    """Register 0 = the TCP payload, in bytes, that fits the packet's route and the way back; in
    network order."""


class LowerMss(NamedTuple):
    """The TCP option "maximum segment size" = register 0, where that is less than it was."""


class Compare(NamedTuple):
    """Register 0 equals (or not) these bytes."""

    data: bytes
    negate: bool = False


class Lookup(NamedTuple):
    """Registers from 0 on are (or are not) in a set; verdict: the map's verdict is taken; data:
    what the map leads to goes into the registers from 0 on."""

    set: str
    negate: bool = False
    verdict: bool = False
    data: bool = False


class Verdict(NamedTuple):
    """accept, drop, return, or jump to a chain."""

    kind: str
    chain: str = ""


class Masquerade(NamedTuple):
    """Source NAT to the outgoing link's address; ports chosen fully at random, because two
    flows that race for one port lose a packet each otherwise."""


class DestinationType(NamedTuple):
    """Register 0 = what the destination address is to this node (RTN_*), in host order."""


class ConnectionStatus(NamedTuple):
    """Register 0 = the status bits of the packet's connection (IPS_*), in host order."""


class DestinationNat(NamedTuple):
    """Destination NAT to the address in the registers from 0 on, and the port in the next one."""

    version: int  # of IP


Expr = (
    Load | Mask | Constant | Store | PathMss | LowerMss | Compare | Lookup | Verdict | Masquerade
    | DestinationType | ConnectionStatus | DestinationNat
)  # fmt: skip


class Part(NamedTuple):
    """A piece of a rule: its text and its expressions."""

    text: str
    exprs: tuple[Expr, ...]


class Rule(NamedTuple):
    """One rule of a chain."""

    chain: str
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        return " ".join(part.text for part in self.parts)

    @property
    def exprs(self) -> tuple[Expr, ...]:
        return tuple(expr for part in self.parts for expr in part.exprs)

    @property
    def mark(self) -> str:
        """The comment that identifies the rule in the kernel: a digest of its text. Another
        podwire's rule has another, so a changed rule is noticed without decoding expressions."""
        return f"podwire {digest(self.text)}"


class Hook(NamedTuple):
    """Where the kernel enters a base chain."""

    type: str  # filter | nat
    number: int  # NF_INET_* or NF_BR_*
    priority: int
