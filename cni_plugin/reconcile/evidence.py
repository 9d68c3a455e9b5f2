"""What is known about the attachments of a node, as values. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from cni_plugin.cni.values import Attachment
from cni_plugin.model.names import HOST_LINK_PREFIX
from cni_plugin.record import Record
from ipam.listing import Listing
from ipam.values import is_by_hand

ALIAS_WORDS = 4  # podwire NETWORK CONTAINERID IFNAME
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
        return is_by_hand(*self.attachment)

    @property
    def incarnation(self) -> tuple[object, ...]:
        """Its identity over time. Inode numbers of namespaces are given again soon, paths not."""
        netns = (self.record.netns, self.record.netns_inode) if self.record else ("", 0)
        return (self.data_dir, self.network, *self.attachment, self.since_ns, *netns)


@dataclass(frozen=True)
class KernelFacts:
    """The host's namespace. links: every link's alias by name. present: by (network's label,
    address) the host link of the pod that has the address, None when the element names none.
    routes: addresses with a host route. failure: why this is incomplete; empty: it is whole."""

    links: Mapping[str, str] = field(default_factory=dict)
    present: Mapping[tuple[str, str], str | None] = field(default_factory=dict)
    routes: frozenset[str] = frozenset()
    failure: str = ""

    @cached_property
    def marked(self) -> Mapping[tuple[str, str, str], str]:
        """Links by whom their alias names: (network, container id, ifname)."""
        return {who: link for link, alias in self.links.items() if (who := named_in(alias))}

    @cached_property
    def nameless(self) -> frozenset[str]:
        """Links that may be ours by their name although no alias says whose."""
        ours = (link for link in self.links if link.startswith(HOST_LINK_PREFIX))
        return frozenset(ours) - frozenset(self.marked.values())


def named_in(alias: str) -> tuple[str, str, str] | None:
    """(network, container id, ifname) of the mark on our links, see model.names.alias."""
    words = alias.split(" ")
    if len(words) != ALIAS_WORDS or words[0] != "podwire":
        return None
    return words[1], words[2], words[3]


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
    known = {(one.data_dir, one.network, one.attachment): one for one in records}
    for listing in listings:
        for entry in listing.entries:
            if entry.owner is None:
                continue
            attachment = Attachment(entry.owner.container_id, entry.owner.ifname)
            key = (listing.data_dir, listing.network, attachment)
            own: tuple[str, ...] = ()
            before = found.get(key)
            if before is None:
                since_ns, record = entry.since_ns, known.pop(key, None)
            else:
                own, since_ns, record = before.addresses, before.since_ns, before.record
            addresses = (*own, entry.address)
            since_ns = max(since_ns, entry.since_ns)
            found[key] = Subject(*key, addresses, since_ns, record, listing.past)
    for key, record in known.items():
        found[key] = Subject(*key, record.addresses, record=record)
    return tuple(found.values())


def netns_paths(seen: Iterable[Subject], runtime: RuntimeFacts) -> frozenset[str]:
    """The namespaces that the evidence speaks of."""
    named = {subject.record.netns for subject in seen if subject.record}
    return frozenset(named | {cached.netns for cached in runtime.cached.values()}) - {""}
