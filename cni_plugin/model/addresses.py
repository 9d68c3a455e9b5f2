"""Addresses that follow from others."""

from __future__ import annotations

from ipaddress import IPv6Address


def link_local(mac: str) -> IPv6Address:
    """The EUI-64 link-local address of a MAC. Source: RFC 4291 appendix A."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
