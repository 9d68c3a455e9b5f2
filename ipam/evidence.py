"""Whether the host's routing tables know an address, from /proc: evidence without netlink.

For `podwire-ipam` on its own. It sees every address of the host and every host route (as the
reference `ptp` makes one for each pod), not the pods behind a bridge: neighbour entries outlive
their pods by hours, so they would withhold free addresses. Nothing here writes.
"""

from __future__ import annotations

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
