"""Move a network's reservations to another data folder, under both locks.

FROM is the network's folder (/var/lib/cni/networks/NAME), TO the data folder that shall hold it.
Refused when an address is held by different owners. Then set `ipam.dataDir` in the config list
at once. With --check nothing is moved: it says whether FROM, of host-local, can be taken over
as it is. Exit status: 0 done or fit, 1 refused or not fit, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cni_plugin.cli.output import complain, printable
from cni_plugin.disk import DiskRecords
from cni_plugin.wiring import node_leases
from ipam.migrate import fitness, migrate

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

USAGE_ERROR = 2


def add_arguments(parser: ArgumentParser) -> None:
    """From where to where."""
    parser.add_argument("source", metavar="FROM", help="a network's folder")
    parser.add_argument("target", metavar="TO", nargs="?", help="a data folder")
    parser.add_argument("--check", action="store_true", help="only say whether FROM is fit")


def run(args: Namespace) -> int:
    """Check, or move."""
    source = os.path.abspath(args.source)
    if args.check:
        return _check(source)
    if args.target is None:
        complain("TO is missing", "`podwire ipam migrate FROM TO`, or --check FROM")
        return USAGE_ERROR
    data_dir, network = os.path.split(source)
    target = os.path.abspath(args.target)

    def follow() -> None:
        """DEL looks where the record says."""
        records = DiskRecords()
        for record in records.of_network(network):
            if record.data_dir == data_dir:
                records.save(record._replace(data_dir=target))

    count = migrate(node_leases(_warn), data_dir, target, network, follow)
    print(f"moved {count} reservations of network {network} to {target}/{network}")
    print(f'set "dataDir": "{target}" in the ipam section of the network\'s config list now')
    return 0


def _check(path: str) -> int:
    found = fitness(path)
    for line in found.notes:
        print(f"note: {printable(line)}")
    for line in found.faults:
        print(f"fault: {printable(line)}")
    verdict = "cannot be taken over as it is" if found.faults else "can be taken over as it is"
    print(f"{path}: {found.reservations} reservations, {verdict}")
    return 1 if found.faults else 0


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
