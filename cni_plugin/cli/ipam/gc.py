"""Show what one pass of the reconciler would free and why; with --yes, run it.

Only what is dead by all evidence is freed, and only when it was seen dead before, at least 60 s
earlier (300 s for what podwire has no record of). A pass notes what it saw dead; looking without
--yes does not. Exit status: 0 done, 1 something could not be freed, 2 wrong usage.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import add_output_argument, data_dirs, emit
from cni_plugin.cli.output import complain, paint
from cni_plugin.cli.table import table
from cni_plugin.reconcile.decide import Ruling
from cni_plugin.reconcile.life import LIVE
from cni_plugin.reconcile.node import node_reconciler
from cni_plugin.reconcile.reconciler import Reconciler, Report

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

HEAD = ("WOULD", "ADDRESSES", "NETWORK", "CONTAINER", "IFNAME", "BECAUSE")
ID_SHOWN = 13


def add_arguments(parser: ArgumentParser) -> None:
    """Look or act."""
    acts = parser.add_mutually_exclusive_group()
    acts.add_argument("--yes", action="store_true", help="run the pass")
    acts.add_argument("--dry-run", action="store_true", help="only show it (the default)")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="with --yes: wait for the second sighting, and pass again",
    )
    parser.add_argument("--all", action="store_true", help="show those that live, too")
    parser.add_argument("--data-dir", action="append", metavar="FOLDER", help="where stores are")
    add_output_argument(parser, "json", "yaml")


def run(args: Namespace) -> int:
    """One pass, or a look."""
    reconciler = node_reconciler(_warn, data_dirs(args))
    if not args.yes:
        rulings = reconciler.look().rulings
        freed = tuple(one for one in rulings if one.doomed)
        kept = tuple(one for one in rulings if not one.doomed)
        _show(Report(freed, kept, ()), args, done=False)
        return 0
    report = reconciler.run_once()
    if args.wait:
        report = _again(reconciler, report)
    _show(report, args, done=True)
    for failure in report.failures:
        complain(failure)
    return 1 if report.failures else 0


def _again(reconciler: Reconciler, first: Report) -> Report:
    """A pass after each wait that somebody is still to be seen dead for."""
    report = first
    waits = sorted({ruling.wait_s for ruling in first.kept if ruling.wait_s})
    started_s = time.monotonic()
    for wait_s in waits:
        left_s = wait_s + 0.1 - (time.monotonic() - started_s)
        if sys.stderr.isatty():
            print(f"waiting {left_s:.0f} s for the second sighting", file=sys.stderr)
        time.sleep(max(0.0, left_s))
        last = reconciler.run_once()
        report = Report(report.freed + last.freed, last.kept, report.failures + last.failures)
    return report


def _show(report: Report, args: Namespace, *, done: bool) -> None:
    if args.output != "table":
        emit(document(report, done=done), args.output)
        return
    shown = [*report.freed, *(one for one in report.kept if args.all or one.life.state != LIVE)]
    if shown:
        head = ("DID" if done else "WOULD", *HEAD[1:])
        freed = {id(one) for one in report.freed}
        print(table(head, [_cells(one, free=id(one) in freed) for one in shown], painter=_painted))
    print(summary(report, done=done))


def summary(report: Report, *, done: bool) -> str:
    """One line: how many, and how the rest is doing."""
    states = Counter(one.life.state for one in report.kept)
    rest = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nobody"
    line = f"{'freed' if done else 'would free'} {len(report.freed)}; kept {rest}"
    if not done and (report.freed or states["dead"]):
        line += "\nnothing was changed; `podwire ipam gc --yes` runs the pass"
        line += ", --wait with it the second one" if states["dead"] else ""
    return line


def _cells(ruling: Ruling, *, free: bool) -> tuple[str, ...]:
    subject = ruling.subject
    return (
        "free" if free else "keep",
        ", ".join(subject.addresses),
        subject.network,
        subject.attachment.container_id[:ID_SHOWN],
        subject.attachment.ifname,
        ruling.reason,
    )


def _painted(head: str, cell: str) -> str:
    if head not in ("WOULD", "DID"):
        return cell
    return paint(cell, "red" if cell.strip() == "free" else "green", sys.stdout)


def document(report: Report, *, done: bool) -> dict[str, object]:
    """The JSON form."""
    return {
        "dryRun": not done,
        "freed": _listed(report.freed),
        "kept": _listed(report.kept),
        "failures": list(report.failures),
    }


def _listed(rulings: Sequence[Ruling]) -> list[dict[str, object]]:
    return [
        {
            "addresses": list(one.subject.addresses),
            "network": one.subject.network,
            "containerID": one.subject.attachment.container_id,
            "ifname": one.subject.attachment.ifname,
            "state": one.life.state,
            "reason": one.reason,
            "waitSeconds": round(one.wait_s, 1),
        }
        for one in rulings
    ]


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
