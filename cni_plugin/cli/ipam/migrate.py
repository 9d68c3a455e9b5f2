"""Move a network's reservations to another data folder, under both locks.

FROM is the network's folder (/var/lib/cni/networks/NAME), TO the data folder that shall hold it.
Calls under way are waited for, at most 30 s each. Refused when an address is held by different
owners. Then set `ipam.dataDir` in the config list at once. With --check nothing is moved: it says
whether FROM, of host-local, can be taken over as it is.
Exit status: 0 done or fit, 1 refused or not fit, 2 wrong usage.
"""

from __future__ import annotations

import os
import resource
import sys
from contextlib import ExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cni_plugin.cli.output import complain, one_line
from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.wiring import node_leases
from ipam.migrate import fitness, migrate
from ipam.values import IpamConf, Owner

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
    records, leases = DiskRecords(), node_leases(_warn)
    before = IpamConf("podwire-ipam", data_dir=data_dir)
    after = before._replace(data_dir=target)

    def follow(attachment: Attachment) -> None:
        """DEL looks where the record says."""
        record = records.load(network, attachment)
        if record is None or record.data_dir != data_dir:
            return
        if leases.held(after, network, Owner(*attachment), [*map(ip_address, record.addresses)]):
            records.save(record._replace(data_dir=target))

    with ExitStack() as calls:
        # A call under way has read where the address is, and would look for it there.
        holders = leases.owners(before, network).values()
        named = {Attachment(who.container_id, who.ifname) for who in holders if who.ifname}
        named |= {record.attachment for record in records.of_network(network)}
        _allow_descriptors()
        for attachment in sorted(named):
            calls.enter_context(records.lock(network, attachment))

        def moved() -> None:
            for attachment in named:
                follow(attachment)

        count = migrate(leases, data_dir, target, network, moved)
    for record in records.of_network(network):  # of an ADD that had begun by then
        with records.lock(network, record.attachment):
            follow(record.attachment)
    print(f"moved {count} reservations of network {network} to {target}/{network}")
    print(f'set "dataDir": "{target}" in the ipam section of the network\'s config list now')
    return 0


def _allow_descriptors() -> None:
    """As many as may be had: each lock is one."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check(path: str) -> int:
    found = fitness(path)
    for line in found.notes:
        print(f"note: {one_line(line)}")
    for line in found.faults:
        print(f"fault: {one_line(line)}")
    verdict = "cannot be taken over as it is" if found.faults else "can be taken over as it is"
    print(f"{path}: {found.reservations} reservations, {verdict}")
    return 1 if found.faults else 0


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
