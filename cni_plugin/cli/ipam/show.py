"""Show one attachment: who holds which addresses since when, on which link, and whether he lives.

ADDRESS, CONTAINER (an id or its beginning) or POD (NAME or NAMESPACE/NAME). Several matches are
listed. Exit status: 0 shown, 1 none or several, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.ls import listed
from cni_plugin.cli.ipam.rows import (
    COLOURS,
    Row,
    add_output_argument,
    add_place_arguments,
    attachments,
    emit,
    look,
    matching,
    rows,
)
from cni_plugin.cli.output import complain, one_line, paint

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """What to show."""
    parser.add_argument("what", metavar="ADDRESS|CONTAINER|POD")
    add_place_arguments(parser)
    add_output_argument(parser, "json", "yaml")


def run(args: Namespace) -> int:
    """Print it."""
    found = one_attachment(list(rows(look(args))), args.what)
    if found is None:
        return 1
    if args.output != "table":
        emit(document(found), args.output)
        return 0
    for name, value in lines(found):
        print(f"{name + ':':<12}{one_line(value) or '-'}")
    return 0


def one_attachment(found: Sequence[Row], what: str) -> list[Row] | None:
    """The rows of the one attachment that is meant; otherwise None, and the user is told."""
    groups = attachments(matching(found, what))
    if len(groups) == 1:
        whole = groups[0][0]
        return [row for row in found if _same(row, whole)]
    if not groups:
        complain(
            f"{what or repr(what)}: no reservation has this address, container or pod",
            "`podwire ipam ls` lists them; --data-dir looks elsewhere",
        )
    else:
        complain(f"{what}: {len(groups)} attachments match", "name one by its address")
        print(listed([row for group in groups for row in group]))
    return None


def _same(row: Row, other: Row) -> bool:
    if row.subject is None or other.subject is None:
        return row is other
    return row.subject == other.subject


def lines(found: Sequence[Row]) -> list[tuple[str, str]]:
    """(name, value) of what is known."""
    row = found[0]
    state = paint(row.state, COLOURS[row.state], sys.stdout) if sys.stdout.isatty() else row.state
    record = row.subject.record if row.subject else None
    return [
        ("addresses", ", ".join(one.address for one in found)),
        ("network", f"{row.network} ({row.data_dir})"),
        ("pod", row.pod),
        ("container", row.container_id),
        ("ifname", row.ifname),
        ("state", state),
        ("because", row.reason),
        ("since", f"{row.since} (the time of the reservation's file)"),
        ("host link", row.host_link),
        ("netns", row.netns),
        ("mode", record.mode if record else ""),
        ("record", record.phase if record else "none"),
    ]


def document(found: Sequence[Row]) -> dict[str, object]:
    """For programs: as in `ls`, with all addresses and the record's phase."""
    record = found[0].subject.record if found[0].subject else None
    whole: dict[str, object] = {"addresses": [row.address for row in found]}
    whole |= {name: value for name, value in found[0].as_json().items() if name != "address"}
    return whole | {"mode": record.mode if record else "", "record": record.phase if record else ""}
