"""What is known about the attachments of a node, as values. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from cni_plugin.cni.values import Attachment
from cni_plugin.record import Record
from ipam.listing import Listing
from ipam.values import Owner

NETNS_GONE, NETNS_UNKNOWN = 0, -1  # beside a living namespace's inode number


class Subject(NamedTuple):
    """One attachment as the store and the records know it.

    since_ns: the newest of its reservations' file times (wall clock, 0: it has none). With the
    record's namespace it tells this attachment from an earlier one of the same names.
    past: its reservations are of an earlier boot.
    """

    data_dir: str  # of its reservations; "" for one without IPAM
    network: str
    attachment: Attachment
    addresses: tuple[str, ...] = ()
    since_ns: int = 0
    record: Record | None = None
    past: bool = False

    @property
    def by_hand(self) -> bool:
        return Owner(*self.attachment).by_hand

    @property
    def incarnation(self) -> tuple[object, ...]:
        """Its identity over time. Inode numbers of namespaces are given again soon, paths not."""
        netns = (self.record.netns, self.record.netns_inode) if self.record else ("", 0)
        return (self.data_dir, self.network, *self.attachment, self.since_ns, *netns)


class KernelFacts(NamedTuple):
    """The host's namespace. links: every link's alias by name. present: by (network's label,
    address) the host link of the pod that has the address, None when the element names none.
    routes: addresses with a host route. failure: why this is incomplete; empty: it is whole."""

    links: Mapping[str, str] = {}
    present: Mapping[tuple[str, str], str | None] = {}
    routes: frozenset[str] = frozenset()
    failure: str = ""


class Cached(NamedTuple):
    """One attachment in the runtime's result cache (libcni, `kind` cniCacheV1)."""

    netns: str
    pod: str = ""


class RuntimeFacts(NamedTuple):
    """The runtime's result cache, by (network, container id, ifname). failure: why it cannot be
    relied on (absent, unreadable, an entry that does not parse)."""

    cached: Mapping[tuple[str, str, str], Cached] = {}
    failure: str = ""

    @property
    def networks(self) -> frozenset[str]:
        return frozenset(network for network, _id, _ifname in self.cached)


class Evidence(NamedTuple):
    """All that tells the living from the dead. netns: by path the inode of the namespace there,
    NETNS_GONE or NETNS_UNKNOWN."""

    kernel: KernelFacts
    runtime: RuntimeFacts
    netns: Mapping[str, int]


def subjects(listings: Iterable[Listing], records: Iterable[Record]) -> tuple[Subject, ...]:
    """Reservations and records joined, in the store's order; records without one come last."""
    found: dict[tuple[str, str, Attachment], Subject] = {}
    for listing in listings:
        for entry in listing.entries:
            if entry.owner is None:
                continue
            attachment = Attachment(entry.owner.container_id, entry.owner.ifname)
            key = (listing.data_dir, listing.network, attachment)
            known = found.get(key, Subject(listing.data_dir, listing.network, attachment))
            found[key] = known._replace(
                addresses=(*known.addresses, str(entry.address)),
                since_ns=max(known.since_ns, entry.since_ns),
                past=listing.past,
            )
    for record in records:
        key = (record.data_dir, record.network, record.attachment)
        found[key] = found.get(key, Subject(*key, record.addresses))._replace(record=record)
    return tuple(found.values())


def netns_paths(seen: Iterable[Subject], runtime: RuntimeFacts) -> frozenset[str]:
    """The namespaces that the evidence speaks of."""
    named = {subject.record.netns for subject in seen if subject.record}
    return frozenset(named | {cached.netns for cached in runtime.cached.values()}) - {""}
