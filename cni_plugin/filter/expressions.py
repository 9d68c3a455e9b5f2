"""The vocabulary of podwire's rules: packet fields and the matches made of them."""

from __future__ import annotations

from cni_plugin.model.rules import (
    REGISTER_BYTES,
    Compare,
    Constant,
    Load,
    Lookup,
    LowerMss,
    Mask,
    Masquerade,
    Part,
    PathMss,
    Store,
    Verdict,
)
from ipam.lean_typing import NamedTuple
from ipam.values import IPNetwork


class Field(NamedTuple):
    """A field of a packet that sets are keyed by."""

    name: str  # as nft writes it
    load: Load
    size: int  # bytes in a set's key, padded to REGISTER_BYTES


META_PROTOCOL, META_IIFNAME, META_NFPROTO, META_L4PROTO = 1, 6, 15, 16  # NFT_META_*
LINK, NETWORK, TRANSPORT = 0, 1, 2  # NFT_PAYLOAD_*_HEADER

IIFNAME = Field("iifname", Load("meta", META_IIFNAME), 16)
ETHER_SOURCE = Field("ether saddr", Load("payload", LINK, 6, 6), 8)
ETHER_TYPE = Field("ether type", Load("payload", LINK, 12, 2), 4)
PROTOCOL = Field("meta protocol", Load("meta", META_PROTOCOL), 4)
NFPROTO = Field("meta nfproto", Load("meta", META_NFPROTO), 4)
L4PROTO = Field("meta l4proto", Load("meta", META_L4PROTO), 4)
ARP_ETHER_SOURCE = Field("arp saddr ether", Load("payload", NETWORK, 8, 6), 8)  # RFC 826
ARP_IP_SOURCE = Field("arp saddr ip", Load("payload", NETWORK, 14, 4), 4)
IP_SOURCE = Field("ip saddr", Load("payload", NETWORK, 12, 4), 4)  # RFC 791
IP_DESTINATION = Field("ip daddr", Load("payload", NETWORK, 16, 4), 4)
IP6_SOURCE = Field("ip6 saddr", Load("payload", NETWORK, 8, 16), 16)  # RFC 8200
IP6_DESTINATION = Field("ip6 daddr", Load("payload", NETWORK, 24, 16), 16)
ICMP_TYPE = Field("icmpv6 type", Load("payload", TRANSPORT, 0, 1), 4)
ND_TARGET = Field("icmpv6 taddr", Load("payload", TRANSPORT, 8, 16), 16)  # RFC 4861 section 4.4
UDP_DESTINATION = Field("udp dport", Load("payload", TRANSPORT, 2, 2), 4)
TTL_OFFSET, IP_CHECKSUM_OFFSET, HOP_LIMIT_OFFSET = 8, 10, 7  # bytes; RFC 791, RFC 8200
VLAN_TYPES = {"8021q": b"\x81\x00", "8021ad": b"\x88\xa8"}  # linux/if_ether.h
TCP_FLAGS_OFFSET, TCP_SYN = 13, b"\x02"  # RFC 9293


def equals(field: Field, data: bytes, shown: str) -> Part:
    """The field has this value; shown is the value as nft writes it."""
    return Part(f"{field.name} {shown}", (field.load, Compare(data)))


def within(field: Field, network: IPNetwork) -> Part:
    """The field is an address of the network."""
    mask = Mask(network.netmask.packed)
    return Part(
        f"{field.name} {network}", (field.load, mask, Compare(network.network_address.packed))
    )


def begins(field: Field, prefix: str, *, negate: bool = False) -> Part:
    """The field's text begins (or does not begin) so."""
    word = "!= " if negate else ""
    return Part(
        f"{field.name} {word}{prefix}*", (field.load, Compare(prefix.encode(), negate=negate))
    )


def in_set(name: str, *fields: Field, negate: bool = False, prefix: str = "") -> Part:
    """The fields, concatenated, are (not) an element of the set. prefix: what the first one begins
    with in every element; whatever begins otherwise is not looked up."""
    word = "!= " if negate else ""
    text = " . ".join(field.name for field in fields)
    first, *others = _loads(fields)
    only = (Compare(prefix.encode()),) if prefix else ()
    loads = (first, *only, *others)
    shown = f"{fields[0].name} {prefix}* " if prefix else ""
    return Part(f"{shown}{text} {word}@{name}", (*loads, Lookup(name, negate=negate)))


def verdict_map(name: str, *fields: Field) -> Part:
    """The verdict that the map has for the fields, if it has one."""
    text = " . ".join(field.name for field in fields)
    return Part(f"{text} vmap @{name}", (*_loads(fields), Lookup(name, verdict=True)))


def set_ttl(version: int, value: int) -> Part:
    """The TTL, or the hop limit, is this from here on. Of IPv4 two bytes are written, because the
    checksum is counted in such."""
    number = bytes([value])
    if version == 4:
        load, mask = Load("payload", NETWORK, TTL_OFFSET, 2), Mask(b"\0\xff", number + b"\0")
        store = Store(NETWORK, TTL_OFFSET, 2, IP_CHECKSUM_OFFSET)
        return Part(f"ip ttl set {value}", (load, mask, store))
    return Part(
        f"ip6 hoplimit set {value}", (Constant(number), Store(NETWORK, HOP_LIMIT_OFFSET, 1))
    )


def verdict(kind: str, chain: str = "") -> Part:
    """What becomes of the packet."""
    return Part(f"{kind} {chain}".strip(), (Verdict(kind, chain),))


def _loads(fields: tuple[Field, ...]) -> tuple[Load, ...]:
    loads = []
    register = 0
    for field in fields:
        loads.append(field.load._replace(register=register))
        register += field.size // REGISTER_BYTES
    return tuple(loads)


MASQUERADE = Part("masquerade fully-random", (Masquerade(),))
DROP, RETURN = verdict("drop"), verdict("return")
# With the family's own test, so that one header's offsets are never read from another's packet.
INET_V4, INET_V6 = equals(NFPROTO, b"\x02", "ipv4"), equals(NFPROTO, b"\x0a", "ipv6")
FRAME_V4, FRAME_V6 = equals(PROTOCOL, b"\x08\x00", "ip"), equals(PROTOCOL, b"\x86\xdd", "ip6")
FRAME_ARP = equals(PROTOCOL, b"\x08\x06", "arp")
# By the frame's own header: `meta protocol` is what is behind a tag. Not `ether type ip`, which
# `nft list` leaves out where it can be guessed, and so a rule set that is loaded again is without.
UNTAGGED = Part(
    " ".join(f"{ETHER_TYPE.name} != {name}" for name in VLAN_TYPES),
    (ETHER_TYPE.load, *(Compare(data, negate=True) for data in VLAN_TYPES.values())),
)
ICMPV6, UDP = equals(L4PROTO, b"\x3a", "ipv6-icmp"), equals(L4PROTO, b"\x11", "udp")
NOT_ICMPV6 = Part(f"{L4PROTO.name} != ipv6-icmp", (L4PROTO.load, Compare(b"\x3a", negate=True)))
TCP = equals(L4PROTO, b"\x06", "tcp")
IS = {4: INET_V4, 6: INET_V6}
SOURCE = {4: IP_SOURCE, 6: IP6_SOURCE}
DESTINATION = {4: IP_DESTINATION, 6: IP6_DESTINATION}
SYN = Part(
    "tcp flags syn",
    (Load("payload", TRANSPORT, TCP_FLAGS_OFFSET, 1), Mask(TCP_SYN), Compare(b"\0", negate=True)),
)
CLAMP_MSS = Part("tcp option maxseg size set rt mtu", (PathMss(), LowerMss()))
