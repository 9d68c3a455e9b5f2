"""Whether an attachment lives, and why it is thought so. Pure.

One sign of life is enough; death needs all evidence, whole and silent:

- its host link is there;
- an address of it is among the present ones, and the link that the element names is there. An
  element whose link is gone is a leftover: the kernel takes a pod's links away with its namespace,
  never a set's elements, so by itself it proves nothing. One that names no link counts as life;
- its record's network namespace is at its path with its inode. A path that holds another
  namespace is another pod's;
- the runtime's cache has it with a namespace that is there. An entry whose namespace is gone
  proves nothing by itself: a runtime keeps entries until DEL succeeds, and this is about pods for
  whom DEL never came. One without a namespace (libcni before 1.2) is judged by the record's;
- the host has a route to an address of it (the reference `ptp`), where there is no record.

Not to know is not to be dead: what cannot be read keeps. Without a record podwire has not wired
the attachment itself (podwire-ipam under another plugin), so the cache is the only witness; one
that names nobody of the network has not seen it, and keeps too.
"""

from __future__ import annotations

from typing import NamedTuple

from cni_plugin.filter.presence import label
from cni_plugin.model.names import host_link
from cni_plugin.reconcile.evidence import (
    NETNS_GONE,
    NETNS_UNKNOWN,
    Cached,
    Evidence,
    KernelFacts,
    Subject,
)

LIVE, DEAD, RESERVED, UNKNOWN, TORN = "live", "dead", "reserved", "unknown", "torn"
NOT_CACHED = "not in the runtime's cache"
OWN_TYPES = ("podwire-ipam", "host-local")  # as IpamConf.in_process


class Life(NamedTuple):
    """The verdict and its reason, one sentence without a full stop."""

    state: str
    reason: str


def judge(subject: Subject, evidence: Evidence) -> Life:
    """LIVE, DEAD, RESERVED (by hand) or UNKNOWN."""
    if subject.by_hand:
        return Life(RESERVED, "reserved by hand: held until `podwire ipam release`")
    if subject.past:
        return Life(DEAD, "reserved in an earlier boot: dropped at the next ADD")
    sign = _sign_of_life(subject, evidence)
    if sign:
        return Life(LIVE, sign)
    doubt = _doubt(subject, evidence)
    return Life(UNKNOWN, doubt) if doubt else Life(DEAD, _absence(subject, evidence))


def is_told(subject: Subject, kernel: KernelFacts) -> bool:
    """Whether its link alone says that it lives, and its record whose it is: then no other evidence
    changes what is known of it. The record's words come first wherever the cache has some too."""
    if subject.by_hand:
        return True
    record = subject.record
    named = record is not None and record.pod and record.netns
    return bool(named and not subject.past and link_of(subject, kernel))


def _sign_of_life(subject: Subject, evidence: Evidence) -> str:
    return (
        _link_sign(subject, evidence)
        or _presence_sign(subject, evidence)
        or _record_sign(subject, evidence)
        or _cache_sign(subject, evidence)
        or _route_sign(subject, evidence)
    )


def link_of(subject: Subject, kernel: KernelFacts) -> str:
    """Its host link, found by the alias or by the name that follows from whose it is; empty when
    there is none. The name costs a digest, so it is made only where a link may bear it."""
    who = (subject.network, *subject.attachment)
    if who in kernel.marked or not kernel.nameless:
        return kernel.marked.get(who, "")
    name = host_link(*who)
    return name if name in kernel.nameless else ""


def _link_sign(subject: Subject, evidence: Evidence) -> str:
    link = link_of(subject, evidence.kernel)
    if link:
        return f"its host link {link} is there"
    if subject.attachment.ifname:
        return ""
    # host-local's old format knows no ifname: any link of the container keeps the address.
    wanted = (subject.network, subject.attachment.container_id)
    marked = evidence.kernel.marked.items()
    other = next((link for who, link in marked if who[:2] == wanted), "")
    return f"a host link of its container, {other}, is there" if other else ""


def _presence_sign(subject: Subject, evidence: Evidence) -> str:
    network = label(subject.network)
    for address in subject.addresses:
        if (network, address) not in evidence.kernel.present:
            continue
        owner = evidence.kernel.present[network, address]
        if owner is None:
            return f"the kernel's set of present addresses has {address}, of an unnamed link"
        if owner in evidence.kernel.links:
            return f"the kernel says that {owner} has {address}"
    return ""


def _record_sign(subject: Subject, evidence: Evidence) -> str:
    record = subject.record
    if record is None or not record.netns:
        return ""
    inode = evidence.netns.get(record.netns, NETNS_UNKNOWN)
    return f"its network namespace {record.netns} is alive" if inode == record.netns_inode else ""


def _cache_sign(subject: Subject, evidence: Evidence) -> str:
    for cached in _cached(subject, evidence):
        inode = evidence.netns.get(cached.netns, NETNS_UNKNOWN)
        if inode <= 0 or _is_anothers(subject, cached, inode):
            continue
        return f"the runtime's cache has it, with a living namespace ({cached.netns})"
    return ""


def _is_anothers(subject: Subject, cached: Cached, inode: int) -> bool:
    """The path is that of the record, and holds another namespace by now."""
    record = subject.record
    return record is not None and record.netns == cached.netns and record.netns_inode != inode


def _route_sign(subject: Subject, evidence: Evidence) -> str:
    if subject.record is not None:
        return ""
    routed = (address for address in subject.addresses if address in evidence.kernel.routes)
    address = next(routed, "")
    return f"the host has a route to {address}" if address else ""


def _cached(subject: Subject, evidence: Evidence) -> tuple[Cached, ...]:
    container_id, ifname = subject.attachment
    cached = evidence.runtime.cached
    if ifname:
        one = cached.get((subject.network, container_id, ifname))
        return () if one is None else (one,)
    return tuple(
        entry for key, entry in cached.items() if key[:2] == (subject.network, container_id)
    )


def _doubt(subject: Subject, evidence: Evidence) -> str:
    """Why death cannot be told; empty when it can."""
    record = subject.record
    if evidence.kernel.failure:
        return f"the kernel could not be asked: {evidence.kernel.failure}"
    if evidence.runtime.failure:
        return f"the runtime's evidence is incomplete: {evidence.runtime.failure}"
    if record and record.ipam_type not in ("", *OWN_TYPES):
        return f"its addresses are those of {record.ipam_type}, which only DEL can give back"
    if record is None and subject.network not in evidence.runtime.networks:
        return (
            "podwire has no record of it, and the runtime's cache names nobody of network "
            f"{subject.network}: that proves nothing"
        )
    return _namespace_doubt(subject, evidence)


def _namespace_doubt(subject: Subject, evidence: Evidence) -> str:
    record = subject.record
    paths = [record.netns] if record and record.netns else []
    for cached in _cached(subject, evidence):
        if not cached.netns and not paths:
            return "the runtime's cache has it, without a namespace to look for"
        paths += [cached.netns] if cached.netns else []
    for path in paths:
        if evidence.netns.get(path, NETNS_UNKNOWN) == NETNS_UNKNOWN:
            return f"it cannot be told whether its network namespace {path} is alive"
    return ""


def _absence(subject: Subject, evidence: Evidence) -> str:
    said = ["no host link"]
    record = subject.record
    if record and record.netns:
        gone = evidence.netns.get(record.netns) == NETNS_GONE
        said.append(f"namespace {record.netns} is {'gone' if gone else 'of another pod by now'}")
    cached = _cached(subject, evidence)
    said.append("in the runtime's cache only with a dead namespace" if cached else NOT_CACHED)
    return ", ".join(said)
