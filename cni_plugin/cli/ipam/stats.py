"""Show how full each range set is.

The ranges are those of the config lists in /etc/cni/net.d, or of --conf FILE. Of a network without
a config only the addresses in use are counted. cooling: released a moment ago, given again last.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import add_output_argument, add_place_arguments, data_dirs, emit
from cni_plugin.cli.output import complain, paint
from cni_plugin.cli.table import table
from cni_plugin.pools import METRICS, Stat, config_files, configured, stats

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HEAD = ("NETWORK", "SET", "RANGES", "TOTAL", "USED", "COOLING", "FREE", "FULL")
NUMBERS = ("SET", "TOTAL", "USED", "COOLING", "FREE")
BAR_CELLS = 20
COUNTABLE = 10_000_000
FULL, NEARLY = 0.95, 0.8  # painted red, yellow


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
    networks = configured(config_files(args.conf), complain)
    found = list(stats(networks, data_dirs(args), args.network))
    if args.metrics:
        print(metrics(found), end="")
    elif args.output != "table":
        emit([_as_json(stat) for stat in found], args.output)
    elif not found:
        print("no network has a config or reservations", file=sys.stderr)
    else:
        print(table(HEAD, map(_cells, found), right=NUMBERS, painter=painted))
    return 0


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
