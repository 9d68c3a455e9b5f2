"""Show how full each range set is.

The ranges are those of the config lists in /etc/cni/net.d, or of --conf FILE. Of a network without
a config only the addresses in use are counted. cooling: released a moment ago, given again last.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from cni_plugin.cli.ipam.configs import config_files, configured
from cni_plugin.cli.ipam.rows import add_output_argument, add_place_arguments, data_dirs, emit
from cni_plugin.cli.output import paint
from cni_plugin.cli.table import table
from ipam.allocate import cooling, set_text
from ipam.files import RELEASED, Folder
from ipam.listing import Listing, all_listings, read_listing
from ipam.logs import parse_released
from ipam.node import boot_clock_s
from ipam.ranges import find_range, pool
from ipam.reserve import usage
from ipam.values import IPAddress, IpamConf

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HEAD = ("NETWORK", "SET", "RANGES", "TOTAL", "USED", "COOLING", "FREE", "FULL")
NUMBERS = ("SET", "TOTAL", "USED", "COOLING", "FREE")
BAR_CELLS = 20
COUNTABLE = 10_000_000
FULL, NEARLY = 0.95, 0.8  # painted red, yellow
METRICS = {
    "size": "Addresses of the range set that pods can get.",
    "used": "Addresses held.",
    "cooling": "Addresses released a moment ago, given again last.",
    "free": "Addresses neither held nor cooling.",
}


class Stat(NamedTuple):
    """One range set. total None: no config says how large it is."""

    network: str
    set: str
    ranges: str
    total: int | None
    used: int
    cooling: int = 0

    @property
    def free(self) -> int | None:
        return None if self.total is None else self.total - self.used - self.cooling

    @property
    def level(self) -> float:
        return self.used / self.total if self.total else 0.0


def add_arguments(parser: ArgumentParser) -> None:
    """Which networks, which form."""
    add_place_arguments(parser)
    parser.add_argument(
        "--conf", action="append", metavar="FILE", help="a config list instead of /etc/cni/net.d"
    )
    parser.add_argument("--metrics", action="store_true", help="Prometheus text")
    add_output_argument(parser, "json", "yaml")


def run(args: Namespace) -> int:
    """Print them."""
    found = list(stats(args))
    if args.metrics:
        print(metrics(found), end="")
    elif args.output != "table":
        emit([_as_json(stat) for stat in found], args.output)
    elif not found:
        print("no network has a config or reservations", file=sys.stderr)
    else:
        print(table(HEAD, map(_cells, found), right=NUMBERS, painter=painted))
    return 0


def stats(args: Namespace) -> Iterator[Stat]:
    """Configured networks first, then those that are only a folder."""
    known = set()
    for network, ipam, _file in configured(config_files(args.conf)):
        if args.network in ("", network):
            listing = read_listing(ipam.data_dir, network) or Listing(ipam.data_dir, network)
            known.add(listing.path)
            yield from _counted(ipam, listing)
    for listing in all_listings(data_dirs(args)):
        if args.network in ("", listing.network) and listing.path not in known:
            yield Stat(listing.network, "", "no config", None, len(_living(listing)))


def _counted(ipam: IpamConf, listing: Listing) -> Iterator[Stat]:
    names = _living(listing)
    log = b"" if listing.past else Folder(listing.path).read(RELEASED) or b""
    cool = cooling(parse_released(log), boot_clock_s(), ipam.cooldown_s)
    for index, ranges in enumerate(ipam.range_sets):
        count = usage(pool(ranges), names, cool)
        text = set_text(ranges)
        yield Stat(listing.network, str(index), text, count.total, count.used, count.cooling)
    outside = [
        entry
        for entry in listing.entries
        if entry.address in names and not _in_a_range(ipam, ip_address(entry.address))
    ]
    if outside:
        yield Stat(listing.network, "", "outside of all ranges", None, len(outside))


def _in_a_range(ipam: IpamConf, address: IPAddress) -> bool:
    return any(find_range(ranges, address) for ranges in ipam.range_sets)


def _living(listing: Listing) -> set[str]:
    """Of another boot only what was reserved by hand is left at the next ADD."""
    return {
        entry.address
        for entry in listing.entries
        if not listing.past or (entry.owner and entry.owner.by_hand)
    }


def _cells(stat: Stat) -> tuple[str, ...]:
    free = "" if stat.free is None else number_text(stat.free)
    total = "" if stat.total is None else number_text(stat.total)
    bar = bar_text(stat.level) if stat.total is not None else ""
    return (
        stat.network, stat.set, stat.ranges, total, str(stat.used), str(stat.cooling), free, bar,
    )  # fmt: skip


def number_text(number: int) -> str:
    """Whole up to ten million, then `1.8e+19`: nobody reads the digits of an IPv6 subnet."""
    return str(number) if number < COUNTABLE else f"{number:.1e}"


def bar_text(level: float) -> str:
    """`[####................]  20%`; a cell is full only when it is, empty only when nobody is."""
    cells = min(BAR_CELLS, int(level * BAR_CELLS) + (1 if 0 < level * BAR_CELLS < 1 else 0))
    return f"[{'#' * cells}{'.' * (BAR_CELLS - cells)}] {level:4.0%}"


def _as_json(stat: Stat) -> dict[str, object]:
    return {
        "network": stat.network,
        "set": int(stat.set) if stat.set else None,
        "ranges": stat.ranges,
        "total": stat.total,
        "used": stat.used,
        "cooling": stat.cooling,
        "free": stat.free,
    }


def metrics(found: Sequence[Stat]) -> str:
    """Prometheus text format 0.0.4: gauges with the labels network and set."""
    lines = []
    for name, about in METRICS.items():
        full = f"podwire_ipam_{name}_addresses"
        lines += [f"# HELP {full} {about}", f"# TYPE {full} gauge"]
        for stat in found:
            value = stat.total if name == "size" else getattr(stat, name)
            if value is not None:
                labels = f'network="{_label(stat.network)}",set="{stat.set}"'
                lines.append(f"{full}{{{labels}}} {value}")
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _colour(level: float) -> str:
    return "red" if level >= FULL else "yellow" if level >= NEARLY else "green"


def painted(head: str, cell: str) -> str:
    """The bar in the colour of its level."""
    if head != "FULL" or "%" not in cell:
        return cell
    return paint(cell, _colour(float(cell.rsplit(maxsplit=1)[-1].rstrip("%")) / 100), sys.stdout)
