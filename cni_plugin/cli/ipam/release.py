"""Free the addresses of one attachment as DEL would, or an address that was reserved by hand.

A pod that lives keeps its addresses: --force cuts it off, link and all. Exit status: 0 freed,
1 none or several match, or refused, 2 wrong usage.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import Row, add_place_arguments, look, rows
from cni_plugin.cli.ipam.show import one_attachment
from cni_plugin.cli.output import complain
from cni_plugin.commands.delete import remove_attachments
from cni_plugin.ports import Ports
from cni_plugin.reconcile.evidence import Subject
from cni_plugin.reconcile.life import LIVE, UNKNOWN
from cni_plugin.reconcile.reconciler import conf_of
from cni_plugin.wiring import node_ports

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Whose."""
    parser.add_argument("what", metavar="ADDRESS|CONTAINER")
    parser.add_argument(
        "--force", action="store_true", help="also of a pod that lives, or may: it is cut off"
    )
    add_place_arguments(parser)


def run(args: Namespace) -> int:
    """Free them."""
    subject = _meant(args)
    if subject is None:
        return 1
    ports = node_ports(_warn)
    with ports.records.lock(subject.network, subject.attachment):
        # An ADD or DEL of it may have been under way until now: what counts is what it left.
        again = _meant(args)
        if again is None:
            return 1
        if again.incarnation != subject.incarnation:
            complain(f"{args.what} is another attachment by now", "look again with `show`")
            return 1
        return _remove(again, ports)


def _meant(args: Namespace) -> Subject | None:
    """The one that is meant and may be released; otherwise None, and the user is told."""
    found = one_attachment(list(rows(look(args, whole=True))), args.what)
    if found is None:
        return None
    row = found[0]
    if row.subject is None:
        complain(f"{row.address}: {row.reason}")
    elif row.state in (LIVE, UNKNOWN) and not args.force:
        complain(_refusal(row), "stop the pod, or cut it off with --force")
        return None
    return row.subject


def _refusal(row: Row) -> str:
    may = "is alive" if row.state == LIVE else "may be alive"
    return f"{row.address} is not released: {row.container_id[:13]} {may}, {row.reason}"


def _remove(subject: Subject, ports: Ports) -> int:
    with ports.kernel(None) as kernel:
        doomed = {subject.attachment: subject.record}
        removed = remove_attachments(conf_of(subject), doomed, ports, kernel)
    for failure in removed.failures:
        complain(failure.msg, failure.details)
    if not removed.done:
        return 1
    print(f"released {', '.join(subject.addresses)} of network {subject.network}")
    return 0


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
