"""List the reservations of this node's networks: who holds an address, and whether he lives.

States: live; dead (`podwire ipam gc` frees it); reserved (by hand, until released); torn (the file
names no owner); unknown (evidence is missing). `show` tells why.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import (
    COLOURS,
    SHORT_ID,
    Row,
    add_output_argument,
    add_place_arguments,
    emit_flat,
    look,
    rows,
)
from cni_plugin.cli.output import paint
from cni_plugin.cli.table import table

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HEAD = ("ADDRESS", "NETWORK", "POD", "CONTAINER", "STATE")
WIDE = ("ADDRESS", "NETWORK", "POD", "CONTAINER", "IFNAME", "LINK", "NETNS", "SINCE", "STATE")


def add_arguments(parser: ArgumentParser) -> None:
    """Which networks, which form."""
    add_place_arguments(parser)
    add_output_argument(parser, "wide", "json", "yaml")


def run(args: Namespace) -> int:
    """Print them."""
    found = list(rows(look(args)))
    if args.output in ("json", "yaml"):
        emit_flat([row.as_json() for row in found], args.output)
    elif not found:
        print("no reservations", file=sys.stderr)
    else:
        print(listed(found, wide=args.output == "wide"))
    return 0


def listed(found: Sequence[Row], *, wide: bool = False) -> str:
    """The table."""
    cells = (_wide(row) if wide else _short(row) for row in found)
    return table(WIDE if wide else HEAD, cells, painter=_painted)


def _short(row: Row) -> tuple[str, ...]:
    who = row.container_id
    if not (row.subject and row.subject.by_hand):
        who = who[:SHORT_ID]
    return row.address, row.network, row.pod, who, row.state


def _wide(row: Row) -> tuple[str, ...]:
    return (
        row.address, row.network, row.pod, row.container_id, row.ifname, row.host_link, row.netns,
        row.since, row.state,
    )  # fmt: skip


def _painted(head: str, cell: str) -> str:
    return paint(cell, COLOURS.get(cell, "bold"), sys.stdout) if head == "STATE" else cell
