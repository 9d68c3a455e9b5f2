"""What should not be, seen from this node: kernel, store and records compared. Pure.

The invariants are those of docs/reliability.md: one interface an address; one reservation a live
interface; nothing left of what has gone. Files by themselves are `files`' business.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cni_plugin.filter.presence import label
from cni_plugin.model.names import HOST_LINK_PREFIX, IFB_ALIAS, IFB_PREFIX, host_link
from cni_plugin.model.objects import Element
from cni_plugin.reconcile.evidence import Subject, named_in
from cni_plugin.reconcile.life import DEAD, LIVE, judge
from cni_plugin.reconcile.observe import Seen

GC = "`podwire ipam gc --yes --wait` frees it"
REPAIR = "`podwire ipam repair --yes`"


class Finding(NamedTuple):
    """One thing that should not be. code: stable, for programs. repair: what `repair` would do,
    None when it is for a person or another command."""

    code: str
    what: str
    where: str
    remedy: str
    repair: Repair | None = None


class Repair(NamedTuple):
    """kind and its object: elements (take away), forget (as DEL), claim (reserve again), heal (a
    store's folder), unlink (a file), chmod (a file, to mode)."""

    kind: str
    subject: Subject | None = None
    elements: tuple[Element, ...] = ()
    path: str = ""
    mode: int = 0


def findings(seen: Seen, links: Mapping[str, str], elements: Iterable[Element]) -> list[Finding]:
    """links: name to alias, of the host. elements: of every set of ours."""
    elements = tuple(elements)
    return [
        *_duplicates(links, elements),
        *_contradictions(seen, links, elements),
        *_unreserved(seen),
        *_unrecorded(seen, links),
        *_dead(seen),
        *_orphans(links, elements),
        *_idle_queues(links),
        *_cache(seen),
    ]


def _duplicates(links: Mapping[str, str], elements: tuple[Element, ...]) -> Iterator[Finding]:
    """The guard lets a link use an address: within a network it may be one link only."""
    users: dict[tuple[str, str], set[str]] = defaultdict(set)
    for element in elements:
        if element.set not in ("own4", "own6", "source4", "source6"):
            continue
        link, *_mac, address = element.key
        network = (named_in(links.get(link, "")) or ("",))[0]
        if network and not address.startswith("fe80:"):
            users[network, address].add(link)
    for (network, address), found in sorted(users.items()):
        if len(found) > 1:
            yield Finding(
                "duplicate-address",
                f"{address} of network {network} is on {len(found)} interfaces",
                ", ".join(sorted(found)),
                "delete all pods of these links but one; `podwire ipam show` tells whose they are",
            )


def _contradictions(
    seen: Seen, links: Mapping[str, str], elements: tuple[Element, ...]
) -> Iterator[Finding]:
    """The kernel says one link has the address, the store says another attachment holds it."""
    present = {
        (e.key[0], e.key[1]): e.owner for e in elements if e.set in ("pods4", "pods6") and e.owner
    }
    for subject in seen.subjects:
        expected = host_link(subject.network, *subject.attachment)
        for address in subject.addresses:
            owner = present.get((label(subject.network), address), expected)
            if owner != expected and owner in links and not subject.past:
                yield Finding(
                    "other-holder",
                    f"{address} is reserved for {_who(subject)}, but link {owner} has it",
                    f"{subject.data_dir}/{subject.network}/{address}",
                    "delete the pod of that link: its address is not its own",
                )


def _unreserved(seen: Seen) -> Iterator[Finding]:
    """Records whose addresses the store does not hold for them."""
    reserved = {
        (listing.data_dir, listing.network, entry.address): entry.owner
        for listing in seen.listings
        for entry in listing.entries
    }
    for subject in seen.subjects:
        record = subject.record
        if record is None or record.ipam_type not in ("podwire-ipam", "host-local"):
            continue
        folder = (record.data_dir, record.network)
        missing = [a for a in record.addresses if (*folder, a) not in reserved]
        where = f"/run/podwire/attachments/{record.network}/{':'.join(subject.attachment)}"
        if not missing:
            continue
        alive = judge(subject, seen.evidence).state == LIVE
        lost = ", ".join(missing)
        yield Finding(
            "unreserved-interface" if alive else "record-without-reservation",
            f"{lost} of {_who(subject)} is not reserved" + (", and it lives" if alive else ""),
            where,
            f"{REPAIR} {'reserves it again' if alive else 'takes the record and its traces away'}",
            Repair("claim" if alive else "forget", subject._replace(addresses=tuple(missing))),
        )


def _unrecorded(seen: Seen, links: Mapping[str, str]) -> Iterator[Finding]:
    """Links of ours that no record speaks of."""
    known = {(s.network, *s.attachment) for s in seen.subjects if s.record}
    held = {(s.network, *s.attachment) for s in seen.subjects if s.addresses}
    for link, alias in sorted(links.items()):
        who = named_in(alias)
        if who is None or who in known or link != host_link(*who):
            continue
        lost = "neither a record nor a reservation" if who not in held else "no record"
        yield Finding(
            "link-without-record",
            f"link {link} of {who[1][:13]} {who[2]} (network {who[0]}) has {lost}",
            link,
            "DEL and GC find it by its name; recreate the pod to have it whole again",
        )


def _dead(seen: Seen) -> Iterator[Finding]:
    for subject in seen.subjects:
        if subject.past or not subject.addresses:
            continue
        life = judge(subject, seen.evidence)
        if life.state == DEAD and subject.since_ns:
            yield Finding(
                "dead-reservation",
                f"{', '.join(subject.addresses)} is held by {_who(subject)}, who is dead: "
                f"{life.reason}",
                f"{subject.data_dir}/{subject.network}",
                GC,
            )


def _orphans(links: Mapping[str, str], elements: tuple[Element, ...]) -> Iterator[Finding]:
    """Elements whose link is gone. Those of the dead that still hold a reservation go with it."""
    lost: dict[str, list[Element]] = defaultdict(list)
    for element in elements:
        if element.owner and element.owner not in links:
            lost[element.owner].append(element)
    for link, found in sorted(lost.items()):
        yield Finding(
            "element-without-link",
            f"{len(found)} nftables elements of {link}, a link that is gone",
            ", ".join(sorted({f"{e.family} podwire {e.set}" for e in found})),
            f"{REPAIR} takes them away",
            Repair("elements", elements=tuple(found)),
        )


def _idle_queues(links: Mapping[str, str]) -> Iterator[Finding]:
    """The links in which an attachment's packets queued, and the pair is gone."""
    for link, alias in sorted(links.items()):
        prefix = next((one for one in IFB_PREFIX.values() if link.startswith(one)), None)
        if prefix is None or not alias.startswith(IFB_ALIAS):
            continue
        pair = HOST_LINK_PREFIX + link.removeprefix(prefix)
        if pair not in links:
            yield Finding(
                "queue-without-link",
                f"{link} ({alias}) is the queue of {pair}, a link that is gone",
                link,
                f"DEL and GC take it away, or `ip link delete {link}`",
            )


def _cache(seen: Seen) -> Iterator[Finding]:
    failure = seen.evidence.runtime.failure
    if failure:
        yield Finding(
            "no-runtime-evidence",
            f"the runtime's result cache cannot be relied on: {failure}",
            "/var/lib/cni/results",
            "until it can, the reconciler keeps every reservation that shows no life",
        )


def _who(subject: Subject) -> str:
    pod = f" ({subject.record.pod})" if subject.record and subject.record.pod else ""
    return f"{subject.attachment.container_id[:13]} {subject.attachment.ifname}{pod}"
