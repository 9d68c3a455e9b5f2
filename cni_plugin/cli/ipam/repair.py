"""Show how what `check` finds would be repaired; with --yes, do it.

The kernel's part is a plan like that of DEL, the store heals itself as it does before an ADD. Dead
reservations are not repaired but freed, by `podwire ipam gc`. Exit status: 0 nothing (left) to
repair, 1 something is left or failed, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING

from cni_plugin.cli.ipam.check import check
from cni_plugin.cli.ipam.reserve import alone
from cni_plugin.cli.ipam.rows import add_place_arguments
from cni_plugin.cli.output import complain, one_line, paint
from cni_plugin.cni.errors import CNIError
from cni_plugin.commands.delete import remove_attachments
from cni_plugin.model.objects import Obj, RuleChain
from cni_plugin.model.plan import Step, describe, removal
from cni_plugin.ports import Kernel, Ports
from cni_plugin.reconcile.evidence import Subject
from cni_plugin.reconcile.invariants import Repair
from cni_plugin.reconcile.reconciler import conf_of
from cni_plugin.wiring import node_leases, node_ports
from ipam.disk import DiskLeases
from ipam.errors import IpamError
from ipam.values import IpamConf, Owner

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def add_arguments(parser: ArgumentParser) -> None:
    """Look or act."""
    acts = parser.add_mutually_exclusive_group()
    acts.add_argument("--yes", action="store_true", help="do it")
    acts.add_argument("--dry-run", action="store_true", help="only show it (the default)")
    add_place_arguments(parser)


def run(args: Namespace) -> int:
    """Show the plan, or carry it out."""
    found, _seen = check(args)
    plan = {one.repair: one for one in found if one.repair is not None}
    rest = [one for one in found if one.repair is None]
    ports = node_ports(_warn)
    failures = 0
    with ports.kernel(None) as kernel:
        for repair, finding in plan.items():
            print(f"{paint(finding.code, 'bold', sys.stdout)}: {one_line(finding.what)}")
            for line in steps(repair, kernel):
                print(f"  {one_line(line)}")
            if args.yes:
                failures += _done(repair, ports, kernel)
    for one in rest:
        print(f"{paint(one.code, 'yellow', sys.stdout)}: {one_line(one.what)}")
        print(f"  not repaired here: {one_line(one.remedy)}")
    print(_summary(len(plan), len(rest), failures, args))
    return 1 if rest or failures or (plan and not args.yes) else 0


def _summary(plan: int, rest: int, failures: int, args: Namespace) -> str:
    if not plan and not rest:
        return "nothing to repair"
    if not args.yes:
        more = "; nothing was changed, --yes does it" if plan else ""
        return f"{plan} to repair, {rest} for another command or a person{more}"
    return f"{plan - failures} repaired, {failures} failed, {rest} left"


def steps(repair: Repair, kernel: Kernel) -> Iterator[str]:
    """The commands a person would type for it."""
    if repair.kind == "elements":
        yield from map(describe, _leftovers(repair, kernel))
    elif repair.kind == "forget" and repair.subject and repair.subject.record:
        owned = repair.subject.record.owned
        yield from map(describe, removal(owned, kernel.observe(owned)))
        yield f"rm /run/podwire/attachments/{repair.subject.network}/..."
    elif repair.kind == "claim" and repair.subject:
        for address in repair.subject.addresses:
            yield f"reserve {address} for {' '.join(repair.subject.attachment)}"
    elif repair.kind == "heal":
        yield f"heal the folder {repair.path} under its lock"
    elif repair.kind == "chmod":
        yield f"chmod {repair.mode:04o} {repair.path}"
    else:
        yield f"rm {repair.path}"


def _done(repair: Repair, ports: Ports, kernel: Kernel) -> int:
    """The number of failures: 0 or 1."""
    try:
        failed = _repair(repair, ports, kernel)
    except (CNIError, IpamError) as error:
        complain(error.msg, error.details)
        return 1
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}")
        return 1
    for failure in failed:
        complain(failure.msg, failure.details)
    return 1 if failed else 0


def _repair(repair: Repair, ports: Ports, kernel: Kernel) -> list[CNIError]:
    if repair.kind == "elements":
        return list(kernel.apply(_leftovers(repair, kernel), stop=False).failures)
    if repair.kind == "forget" and repair.subject:
        return _forget(repair.subject, ports, kernel)
    if repair.kind == "claim" and repair.subject:
        _claim(repair)
    elif repair.kind == "heal":
        data_dir, _slash, network = repair.path.rpartition("/")
        conf = IpamConf("podwire-ipam", data_dir=data_dir or "/")
        # Nobody is in an empty snapshot, so nobody is freed: this heals and sweeps.
        node_leases(_warn).retain(conf, network, (), {})
    elif repair.kind == "chmod":
        with suppress(FileNotFoundError):  # healed away
            os.chmod(repair.path, repair.mode)
    else:
        with suppress(FileNotFoundError):
            os.unlink(repair.path)
    return []


def _forget(subject: Subject, ports: Ports, kernel: Kernel) -> list[CNIError]:
    """Nothing when an ADD or DEL of it has changed what was found."""
    with ports.records.lock(subject.network, subject.attachment):
        if ports.records.load(subject.network, subject.attachment) != subject.record:
            return []
        doomed = {subject.attachment: subject.record}
        return remove_attachments(conf_of(subject), doomed, ports, kernel).failures


def _leftovers(repair: Repair, kernel: Kernel) -> tuple[Step, ...]:
    """The elements of a link that is gone, and the masquerade chain they led into, which stays
    while another pod's does. Nothing when the link is back."""
    if any(element.owner and kernel.host_has(element.owner) for element in repair.elements):
        return ()
    leads = dict.fromkeys((one.family, one.goto) for one in repair.elements if one.goto)
    chains = (RuleChain(family, name, None, ()) for family, name in leads)
    objects: tuple[Obj, ...] = (*repair.elements, *chains)
    return removal(objects, kernel.observe(objects))


def _claim(repair: Repair) -> None:
    """Reserve again what a living pod has. The kernel has the address, because the pod has it: so
    here, and only here, that is no reason to refuse."""
    subject = repair.subject
    assert subject is not None  # noqa: S101  for the type checker
    leases = DiskLeases(lambda _network, _address: False, warn=_warn)
    addresses = [ip_address(text) for text in subject.addresses]
    ranges = tuple((alone(address),) for address in addresses)
    conf = IpamConf("podwire-ipam", ranges, data_dir=subject.data_dir)
    wanted = tuple(map(ip_interface, addresses))
    leases.reserve(conf, subject.network, Owner(*subject.attachment), wanted)


def _warn(line: str) -> None:
    print(f"podwire: {line}", file=sys.stderr)
