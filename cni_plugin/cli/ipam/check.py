"""Look for everything that should not be: duplicates between kernel and store, interfaces without
a reservation and the reverse, leftovers, torn files, modes, unknown files.

What is found is looked for again a moment later, so that an ADD under way is no finding. Exit
status: 0 nothing found, 1 findings, 2 wrong usage.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.rows import add_output_argument, add_place_arguments, data_dirs, emit
from cni_plugin.cli.output import one_line, paint
from cni_plugin.kernel import census
from cni_plugin.reconcile.files import file_findings
from cni_plugin.reconcile.invariants import Finding, findings
from cni_plugin.reconcile.observe import Observer, Seen

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

PAUSE_S = 0.25  # longer than an ADD takes from its reservation to its link


def add_arguments(parser: ArgumentParser) -> None:
    """Which networks, which form."""
    add_place_arguments(parser)
    add_output_argument(parser, "json", "yaml")


def run(args: Namespace) -> int:
    """Print what is found."""
    found, seen = check(args)
    if args.output != "table":
        emit([as_json(one) for one in found], args.output)
        return 1 if found else 0
    for one in found:
        print(f"{paint(one.code, 'red', sys.stdout)}: {one_line(one.what)}")
        print(f"  at {one_line(one.where)}")
        print(f"  {one_line(one.remedy)}")
    print(summary(found, seen))
    return 1 if found else 0


def check(args: Namespace) -> tuple[list[Finding], Seen]:
    """What is found twice. Raises OSError and KernelError: half a look is no check."""
    found, seen = look_once(args)
    if found:
        time.sleep(PAUSE_S)
        before = {(one.code, one.what, one.where) for one in found}
        again, seen = look_once(args)
        found = [one for one in again if (one.code, one.what, one.where) in before]
    return found, seen


def look_once(args: Namespace) -> tuple[list[Finding], Seen]:
    """Elements and links after the store, as everywhere."""
    seen = Observer(data_dirs(args)).look(args.network)
    counted = census.take(every_set=True)
    return [*findings(seen, counted.links, counted.elements), *file_findings(seen)], seen


def summary(found: list[Finding], seen: Seen) -> str:
    """One line: what was looked at."""
    reserved = sum(len(listing.entries) for listing in seen.listings)
    looked = (
        f"{_count(len(seen.listings), 'network')}, {_count(reserved, 'reservation')}, "
        f"{_count(len(seen.records), 'record')}"
    )
    return f"{_count(len(found), 'finding') if found else 'nothing found'} in {looked}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_json(finding: Finding) -> dict[str, object]:
    """A finding for programs."""
    return {
        "code": finding.code,
        "what": finding.what,
        "where": finding.where,
        "remedy": finding.remedy,
        "repairable": finding.repair is not None,
    }
