"""What is on the node, as lines that can be compared: the kernel's objects and the files.

Read with pyroute2 and the file system, never through podwire: it may not testify for itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from nftables import Filter
from probe import inside
from pyroute2 import IPRoute

HERE = Path("/")
STORE, STATE = "var/lib/cni", "run/podwire"
KERNEL, PERMANENT, LINK_SCOPE = 2, 0x80, 253  # RTPROT_KERNEL, NUD_PERMANENT, RT_SCOPE_LINK
SECTIONS = (
    "links", "addresses", "routes", "neighbours", "forwarding", "nft elements", "nft chains",
    "nft sets", "iptables and other", "reservations", "records", "other files", "switches",
)  # fmt: skip
SWITCHES = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
# Of this thread's network namespace.
LEGACY = ("/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names")


class Line(NamedTuple):
    """One object. section: one of SECTIONS."""

    section: str
    text: str

    @property
    def family(self) -> tuple[str, str]:
        """What it is listed under (its folder, its nft table), and its name there."""
        separator = {"other files": "/", "nft chains": " ", "nft sets": " "}.get(self.section)
        if separator is None:
            return "", self.text
        head, _, name = self.text.rpartition(separator)
        return f"{head}{separator.strip()}:", name


Snapshot = frozenset[Line]


def take_from(netns: str, root: Path) -> Snapshot:
    """Of another node, by its network namespace and where its files are."""

    def work() -> Snapshot:
        with IPRoute() as node:
            return take(node, root)

    return inside(netns, work)


def take(node: IPRoute, root: Path = HERE) -> Snapshot:
    """Everything a plugin or its agent could have left on the node."""
    names = {link["index"]: str(link.get("ifname")) for link in node.get_links()}
    with Filter() as ruleset:
        return frozenset(
            (*_links(node, names), *_addresses(node, names), *_routes(node, names),
             *_neighbours(node, names), *_forwarding(node, names), *_nft(ruleset), *_legacy(),
             *_files(root), *_switches())
        )  # fmt: skip


def _links(node: IPRoute, names: dict[int, str]) -> Iterator[Line]:
    for link in node.get_links():
        master = names.get(link.get("master") or 0, "")
        yield Line("links", f"{link.get('ifname')}{f' in {master}' if master else ''}")


def _addresses(node: IPRoute, names: dict[int, str]) -> Iterator[Line]:
    """Without the link-local ones, which the kernel gives every link."""
    for found in node.get_addr():
        address = found.get("local") or found.get("address")
        if not ip_address(address).is_link_local:
            text = f"{address}/{found['prefixlen']} on {names[found['index']]}"
            yield Line("addresses", text)


def _routes(node: IPRoute, names: dict[int, str]) -> Iterator[Line]:
    """Without those that the kernel makes for addresses."""
    for version, family in ((4, 2), (6, 10)):
        for route in node.get_routes(family=family):
            if route["proto"] == KERNEL:
                continue
            to = f"{route.get('dst')}/{route['dst_len']}" if route.get("dst") else "default"
            via = f" via {route.get('gateway')}" if route.get("gateway") else ""
            link = names.get(route.get("oif") or 0, "?")
            yield Line("routes", f"IPv{version} {to}{via} on {link}")


def _neighbours(node: IPRoute, names: dict[int, str]) -> Iterator[Line]:
    """The permanent ones: the others are learned."""
    for family in (2, 10):
        for found in node.get_neighbours(family=family):
            if found["state"] & PERMANENT:
                text = f"{found.get('dst')} {found.get('lladdr')} on {names[found['ifindex']]}"
                yield Line("neighbours", text)


def _forwarding(node: IPRoute, names: dict[int, str]) -> Iterator[Line]:
    """The entries of tunnels: which node has a MAC."""
    for found in node.fdb("dump"):
        if found.get("dst"):
            text = f"{found.get('lladdr')} at {found.get('dst')} on {names[found['ifindex']]}"
            yield Line("forwarding", text)


def _nft(ruleset: Filter) -> Iterator[Line]:
    for table in ruleset.tables():
        if table.name != "podwire":  # iptables-nft keeps its rules in such
            yield Line("iptables and other", f"nft {table.family} {table.name}")
    for chain in ruleset.chains():
        yield Line("nft chains", f"{chain.family} {chain.table} {chain.name}")
    for one in ruleset.sets():
        yield Line("nft sets", f"{one.family} {one.table} {one.name}")
        for key in ruleset.elements(one):
            yield Line("nft elements", f"{one.family} {one.table} {one.name} {{ {key} }}")


def _legacy() -> Iterator[Line]:
    """iptables' own tables. In a user namespace the kernel shows them to nobody."""
    for path in LEGACY:
        try:
            names = Path(path).read_text(encoding="ascii").split()
        except OSError:
            continue
        for name in names:
            yield Line("iptables and other", f"{Path(path).name.partition('_')[0]}tables {name}")


def _files(root: Path) -> Iterator[Line]:
    for path in sorted((*root.joinpath(STORE).rglob("*"), *root.joinpath(STATE).rglob("*"))):
        if not path.is_dir():
            there = HERE / path.relative_to(root)
            yield Line(_kind_of(there), str(there))


def _kind_of(path: Path) -> str:
    if path.is_relative_to(HERE / STATE / "attachments"):
        return "records"
    try:
        ip_address(path.name)
    except ValueError:
        return "reservations" if path.parent.name == ".owners" else "other files"
    return "reservations"


def _switches() -> Iterator[Line]:
    for name in SWITCHES:
        yield Line("switches", f"{name} = {Path('/proc/sys/net', name).read_text().strip()}")
