"""Addresses and networks as numbers: what the standard library's objects take microseconds for,
numbers do in a tenth, and there are thousands."""

from __future__ import annotations

from ipaddress import ip_network

from ipam.values import IPAddress, IPNetwork

Ends = tuple[int, int]  # the first address and the last


def ends(cidr: IPNetwork) -> Ends:
    """The first address and the last."""
    first = int(cidr.network_address)
    return first, first | int(cidr.hostmask)


# Nobody's own: unspecified, loopback, link-local, multicast, reserved, IPv4 written as IPv6. RFC
# 6890, RFC 4291.
_SPECIAL = {
    version: [ends(ip_network(one)) for one in listed]
    for version, listed in {
        4: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"),
        6: ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
    }.items()
}


def is_special(address: IPAddress) -> bool:
    """Whether no other node could reach it."""
    number = int(address)
    return any(first <= number <= last for first, last in _SPECIAL[address.version])
