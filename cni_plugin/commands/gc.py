"""GC: every attachment of the network that the runtime does not list is taken away as DEL does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack

from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, Request
from cni_plugin.commands.delete import Removed, raise_all, remove_attachments
from cni_plugin.ports import Kernel, Ports
from cni_plugin.record import Record
from ipam.errors import IpamError
from ipam.values import IPAddress, Owner

BATCH = 128  # attachments whose locks are held at a time: each is an open file
ALIAS_WORDS = 4  # podwire NETWORK CONTAINERID IFNAME, or podwire-ifb for the first one


def collect(request: Request, ports: Ports) -> None:
    """SPEC 1.1.0, GC: goes on after errors and reports them all. Without a list nothing is valid
    to remove; with an empty list nothing is valid to keep."""
    valid = request.valid_attachments
    if valid is None:
        ports.warn("GC without cni.dev/valid-attachments: nothing is removed")
        return
    failures: list[CNIError] = []
    before = _owners(request, ports)
    with ports.kernel(None) as kernel:
        stale = _stale(request, ports, kernel)
        left = set(stale)
        items = list(stale.items())
        for start in range(0, len(items), BATCH):
            removed = _remove(request, dict(items[start : start + BATCH]), ports, kernel)
            failures += removed.failures
            left.difference_update(removed.done)
    failures += _release_rest(request, ports, before, left)
    ports.records.drop_stale_locks()
    failures += _delegate_gc(request, ports)
    raise_all(failures)


def _remove(
    request: Request, stale: dict[Attachment, Record | None], ports: Ports, kernel: Kernel
) -> Removed:
    """Those that no call works on: the runtime's list is older than an ADD under way."""
    network = request.conf.name
    with ExitStack() as held:
        idle = {
            item: record
            for item, record in stale.items()
            if held.enter_context(ports.records.try_lock(network, item))
        }
        for busy in stale.keys() - idle.keys():
            ports.warn(f"GC leaves {busy.ifname} of {busy.container_id}: a call is under way")
        return remove_attachments(request.conf, idle, ports, kernel)


def _stale(request: Request, ports: Ports, kernel: Kernel) -> dict[Attachment, Record | None]:
    """By record and by the mark on links, those without a record last."""
    network, valid = request.conf.name, set(request.valid_attachments or ())
    known: dict[Attachment, Record | None] = {
        record.attachment: record for record in ports.records.of_network(network)
    }
    for alias in kernel.links().values():
        words = alias.split(" ")
        if len(words) == ALIAS_WORDS and words[1] == network:
            known.setdefault(Attachment(words[2], words[3]), None)
    return {item: record for item, record in known.items() if item not in valid}


def _owners(request: Request, ports: Ports) -> Mapping[IPAddress, Owner]:
    """Who holds what before anything is looked at: what is reserved later is an ADD's, whatever
    the runtime's list says."""
    ipam = request.conf.ipam
    if ipam is None or not ipam.in_process:
        return {}
    try:
        return ports.leases.owners(ipam, request.conf.name)
    except IpamError:
        return {}  # freeing will say so


def _release_rest(
    request: Request,
    ports: Ports,
    before: Mapping[IPAddress, Owner],
    still_there: Collection[Attachment],
) -> list[CNIError]:
    """Reservations that no record or link speaks for. still_there: what could not be taken away
    keeps its address, or another pod would get it."""
    conf, ipam = request.conf, request.conf.ipam
    if ipam is None or not ipam.in_process:
        return []
    kept = {*(request.valid_attachments or ()), *still_there}
    for owner in before.values():
        attachment = Attachment(owner.container_id, owner.ifname)
        if attachment not in kept and _in_use(conf.name, attachment, ports):
            kept.add(attachment)
    valid = {(item.container_id, item.ifname) for item in kept}
    try:
        ports.leases.retain(ipam, conf.name, valid, before)
    except IpamError as error:
        return [_translated(error)]
    return []


def _in_use(network: str, attachment: Attachment, ports: Ports) -> bool:
    """Whether an ADD has reserved for it since the records were read: it works still, or has made
    a record meanwhile."""
    with ports.records.try_lock(network, attachment) as idle:
        return not idle or ports.records.load(network, attachment) is not None


def _delegate_gc(request: Request, ports: Ports) -> list[CNIError]:
    ipam = request.conf.ipam
    if ipam is None or ipam.in_process:
        return []
    try:
        ports.delegate(request, ipam.type, "GC")
    except CNIError as error:
        return [error]
    return []


def _translated(error: IpamError) -> CNIError:
    return CNIError(error.msg, error.details, code=error.code)
