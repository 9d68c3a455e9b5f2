"""Text of a JSON document -> addresses, networks and MACs, strictly and in one spelling.

Every function takes any JSON value and raises Fault, whose text is what would be accepted.
`ipaddress` alone is too generous: it takes integers, netmasks behind the slash and zone ids.
"""

from __future__ import annotations

from ipaddress import (
    IPv6Address,
    ip_address,
    ip_interface,
    ip_network,
)

from ipam.values import IPAddress, IPInterface, IPNetwork

ADDRESS = "an IPv4 or IPv6 address such as 192.0.2.10 or 2001:db8::10"
INTERFACE = "an address with its prefix length such as 192.0.2.10/24 or 2001:db8::10/64"
NETWORK = "a network such as 192.0.2.0/24 or 2001:db8::/64"
MAC = "a unicast MAC address, six bytes as in 02:00:5e:10:00:01"
_HEX = frozenset("0123456789abcdef")
_ADDRESS_MAX = 49  # characters of the longest IPv6 address with prefix length


class Fault(ValueError):
    """A value that is not accepted. The text says what is."""


def address(value: object, accepted: str = ADDRESS) -> IPAddress:
    """A bare address. An IPv4-mapped IPv6 address is refused: two spellings of one address."""
    if not isinstance(value, str) or len(value) > _ADDRESS_MAX or "%" in value:
        raise Fault(accepted)
    try:
        parsed = ip_address(value)
    except ValueError:
        raise Fault(accepted) from None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        raise Fault(f"{parsed.ipv4_mapped} instead of the IPv4-mapped form")
    return parsed


def interface(value: object, accepted: str = INTERFACE) -> IPInterface:
    """An address with its prefix length; the host bits are kept."""
    text, length = _with_prefix(value, accepted)
    parsed = address(text, accepted)
    if length > parsed.max_prefixlen:
        raise Fault(f"{accepted}; the prefix length is at most {parsed.max_prefixlen}")
    return ip_interface((parsed, length))


def requested(value: object) -> IPInterface:
    """A requested address: bare (then with the family's full prefix length) or with a prefix."""
    accepted = "an address with or without prefix length, 192.0.2.10 or 2001:db8::10/64"
    if isinstance(value, str) and "/" in value:
        return interface(value, accepted)
    return ip_interface(address(value, accepted))


def network(value: object, *, mask: bool = False) -> IPNetwork:
    """A network. mask: clear host bits silently, as Go's readers of a result do."""
    parsed = interface(value, NETWORK)
    if not mask and parsed.ip != parsed.network.network_address:
        raise Fault(f"a network without host bits, here {parsed.network}")
    return ip_network(parsed.network)


def mac(value: object) -> str:
    """A unicast MAC in lower case with colons; hyphens are accepted, as Go's parser does."""
    if not isinstance(value, str) or len(value) != 17:
        raise Fault(MAC)
    text = value.lower().replace("-", ":")
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and _HEX.issuperset(part) for part in parts):
        raise Fault(MAC)
    if int(parts[0], 16) & 1:
        raise Fault(f"{MAC}; the lowest bit of the first byte marks a group address")
    if text == "00:00:00:00:00:00":
        raise Fault(f"{MAC}, not all zero")
    return text


def _with_prefix(value: object, accepted: str) -> tuple[str, int]:
    if not isinstance(value, str) or len(value) > _ADDRESS_MAX:
        raise Fault(accepted)
    text, slash, length = value.partition("/")
    # isdecimal alone takes the digits of every script.
    if not slash or not (length.isascii() and length.isdecimal()) or len(length) > 3:
        raise Fault(accepted)
    if length != str(int(length)):  # 024 is read as octal by some
        raise Fault(accepted)
    return text, int(length)
