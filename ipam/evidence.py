"""Whether the host's routing tables know an address, from /proc: evidence without netlink.

For `podwire-ipam` on its own. It sees every address of the host and every host route (as the
reference `ptp` makes one for each pod), not the pods behind a bridge: neighbour entries outlive
their pods by hours, so they would withhold free addresses. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address

from ipam.values import IPAddress

IPV4_TABLES = "/proc/net/fib_trie"
IPV6_TABLE = "/proc/net/ipv6_route"


def has_host_route(address: IPAddress) -> bool:
    """True when the address is the host's or has a route of its own. Unreadable tables: False."""
    path = IPV4_TABLES if address.version == 4 else IPV6_TABLE
    try:
        with open(path, encoding="ascii") as file:  # no pathlib: start-up time
            table = file.read()
    except OSError:
        return False
    return in_fib_trie(table, address) if address.version == 4 else in_ipv6_route(table, address)


def in_fib_trie(table: str, address: IPAddress) -> bool:
    """/proc/net/fib_trie: a leaf `|-- 192.0.2.5`, its routes indented below, `/32 host LOCAL`.

    Source: net/ipv4/fib_trie.c fib_trie_seq_show.
    """
    inside = False
    for line in table.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            inside = words[1] == str(address)
        elif inside and words[:1] == ["/32"]:
            return True
    return False


def in_ipv6_route(table: str, address: IPAddress) -> bool:
    """/proc/net/ipv6_route: destination as 32 hex digits, then its prefix length in hex.

    Source: net/ipv6/route.c ipv6_route_native_seq_show.
    """
    wanted = [f"{int(address):032x}", "80"]
    return any(line.split()[:2] == wanted for line in table.splitlines())


def host_routes() -> frozenset[str]:
    """Every address that the host has or has a route of its own to, from one reading of the
    tables. Raises OSError; a kernel without IPv6 has no table of it."""
    with open(IPV4_TABLES, encoding="ascii") as file:
        found = set(_fib_trie_hosts(file.read()))
    try:
        with open(IPV6_TABLE, encoding="ascii") as file:
            found |= set(_ipv6_hosts(file.read()))
    except FileNotFoundError:
        pass
    return frozenset(found)


def _fib_trie_hosts(table: str) -> Iterator[str]:
    leaf = ""
    for line in table.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            leaf = words[1]
        elif words[:1] == ["/32"]:
            yield leaf


def _ipv6_hosts(table: str) -> Iterator[str]:
    for line in table.splitlines():
        destination, length = line.split()[:2]
        if length == "80":
            yield str(IPv6Address(int(destination, 16)))
