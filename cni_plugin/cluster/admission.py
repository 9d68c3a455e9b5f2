"""Which of the ranges and addresses that a source tells are used, and why the others are not. Pure.

What a source says may be wrong, or come from somebody who should not say it: a range that holds the
API server's address would take its traffic (flannel, GHSA-vchx-5pr6-ffx2). So each range must lie
where pods may be and where nothing else is; what does not is left out, and the rest of the node is
used. Who was there first stays: of two nodes with the same range the one that had it before keeps
it, and the other gets it in the moment the first is gone; and an address that lies in a range which
was used before is a newer one, so it is the address that is left out.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from cni_plugin.cluster.numbers import ends, is_special
from cni_plugin.cluster.sound import Sound
from cni_plugin.cluster.values import Cluster, Node, Refused
from ipam.values import IPAddress, IPNetwork

Claim = tuple[str, IPNetwork | IPAddress]  # a node's name, and its range or address
Claims = Mapping[str, tuple[IPNetwork, ...]]  # by the node's name


class Rules(NamedTuple):
    """Where pods' ranges may be. cluster: inside one of these, anywhere when there are none.
    services, servers: in none of these; the latter are where the Kubernetes API is."""

    cluster: tuple[IPNetwork, ...] = ()
    services: tuple[IPNetwork, ...] = ()
    servers: tuple[IPNetwork, ...] = ()


# Reasons for which a range is refused, rather than an address or a MAC.
OF_RANGES = (
    "outside-cluster-range",
    "overlaps-service-range",
    "overlaps-api",
    "overlaps-underlay",
    "overlaps-own",
    "overlaps-node",
    "contains-node-address",
)


class Admitted(NamedTuple):
    """What is used. me: None when the source does not know this node."""

    me: Node | None
    peers: tuple[Node, ...]
    refused: tuple[Refused, ...]

    @property
    def claims(self) -> Claims:
        """Who has which ranges."""
        nodes = (*self.peers, self.me) if self.me else self.peers
        return {node.name: node.pod_cidrs for node in nodes}


class _Span(NamedTuple):
    """A range as numbers, first and last."""

    first: int
    last: int
    rank: int  # the lower one keeps what two claim
    old: bool  # used before
    node: Node
    cidr: IPNetwork

    def overlaps(self, other: _Span) -> bool:
        return self.first <= other.last and other.first <= self.last


def admit(
    cluster: Cluster,
    name: str,
    rules: Rules,
    underlay: Iterable[IPNetwork] = (),
    before: Claims = MappingProxyType({}),
    sound: Sound | None = None,
) -> Admitted:
    """name: this node's. underlay: the networks it is on. before: the claims of the last time.
    sound: what is remembered of the last time's nodes; without it each is looked at closely."""
    underlay = tuple(underlay)
    barred = (*rules.services, *rules.servers, *underlay)
    if sound and sound.is_sound(cluster, rules.cluster, barred):
        return _admitted(cluster.nodes, name, cluster.refused)
    refused = list(cluster.refused)
    nodes = tuple(_with_addresses(cluster, name, refused))
    fixed = [
        *(("overlaps-service-range", "the service range", one) for one in rules.services),
        *(("overlaps-api", "the address of the Kubernetes API,", one) for one in rules.servers),
        *(("overlaps-underlay", "the nodes' network", one) for one in underlay),
    ]
    dropped: set[Claim] = set()
    for version in (4, 6):
        spans = list(_spans(nodes, version, name, before))
        for one in _all_faults(spans, nodes, name, rules.cluster, fixed, version):
            dropped.add((one.node, one.claim))
            refused.append(Refused(one.node, one.reason, one.text))
    used = [_without(node, dropped) for node in nodes] if dropped else list(nodes)
    return _admitted(used, name, refused)


def _admitted(nodes: Iterable[Node], name: str, refused: Iterable[Refused]) -> Admitted:
    nodes = tuple(nodes)
    me = next((node for node in nodes if node.name == name), None)
    return Admitted(me, tuple(node for node in nodes if node.name != name), tuple(refused))


class _Fault(NamedTuple):
    node: str
    claim: IPNetwork | IPAddress
    reason: str
    text: str


def _all_faults(
    spans: list[_Span],
    nodes: tuple[Node, ...],
    name: str,
    allowed: tuple[IPNetwork, ...],
    fixed: list[tuple[str, str, IPNetwork]],
    version: int,
) -> Iterator[_Fault]:
    good: list[_Span] = []
    limits = [ends(one) for one in allowed if one.version == version]
    barred = [(*ends(one), reason, what, one) for reason, what, one in fixed
              if one.version == version]  # fmt: skip
    held = sorted((int(a), a, node.name) for node in nodes for a in node.addresses
                  if a.version == version)  # fmt: skip
    numbers = [number for number, _, _ in held]
    for span in spans:
        if allowed and not any(a <= span.first and span.last <= b for a, b in limits):
            ranges = ", ".join(map(str, allowed))
            why = f"lies outside clusterCIDRs ({ranges}): correct one of them"
            yield _fault(span, "outside-cluster-range", why)
            continue
        bar = next((one for one in barred if one[0] <= span.last and span.first <= one[1]), None)
        if bar is not None:
            yield _fault(span, bar[2], f"overlaps {bar[3]} {bar[4]}: give the node another range")
            continue
        within = held[bisect_left(numbers, span.first) : bisect_right(numbers, span.last)]
        newer = span.old and not {name, span.node.name} & {owner for *_, owner in within}
        if within and not newer:
            _, address, owner = within[-1]
            why = f"contains {address}, the address of node {owner}: give it another range"
            yield _fault(span, "contains-node-address", why)
            continue
        yield from (_newcomer(span, owner, address) for _, address, owner in within)
        good.append(span)
    yield from _contested(good)


def _newcomer(span: _Span, owner: str, address: IPAddress) -> _Fault:
    why = f"lies in {span.cidr}, which node {span.node.name} had before: correct one of them"
    return _Fault(owner, address, "inside-node-range", f"address {address} of {owner} {why}")


def _contested(spans: list[_Span]) -> Iterator[_Fault]:
    """Ranges that overlap one that is kept. By rank: one that is refused refuses nobody."""
    kept: list[_Span] = []  # by address; none overlaps another
    firsts: list[int] = []
    for span in sorted(spans, key=lambda one: one.rank):
        place = bisect_right(firsts, span.first)
        near = kept[max(place - 1, 0) : place + 1]
        keeper = next((one for one in near if one.overlaps(span)), None)
        if keeper is None:
            kept.insert(place, span)
            firsts.insert(place, span.first)
            continue
        own = keeper.rank < 0
        yield _fault(
            span,
            "overlaps-own" if own else "overlaps-node",
            f"overlaps {keeper.cidr} of {'this node' if own else 'node'} {keeper.node.name}, which"
            " keeps it: give one of them another range",
        )


def _fault(span: _Span, reason: str, why: str) -> _Fault:
    return _Fault(
        span.node.name, span.cidr, reason, f"podCIDR {span.cidr} of {span.node.name} {why}"
    )


def _spans(nodes: tuple[Node, ...], version: int, name: str, before: Claims) -> Iterator[_Span]:
    """Ranks: this node, then those who had their range before, then by order."""
    for place, node in enumerate(nodes):
        for cidr in node.pod_cidrs:
            if cidr.version == version:
                old = cidr in before.get(node.name, ())
                rank = -1 if node.name == name else place if old else place + len(nodes)
                yield _Span(*ends(cidr), rank, old, node, cidr)


def _without(node: Node, dropped: set[Claim]) -> Node:
    cidrs = tuple(one for one in node.pod_cidrs if (node.name, one) not in dropped)
    addresses = tuple(one for one in node.addresses if (node.name, one) not in dropped)
    if len(cidrs) == len(node.pod_cidrs) and len(addresses) == len(node.addresses):
        return node
    return node._replace(pod_cidrs=cidrs, addresses=addresses)


def _with_addresses(cluster: Cluster, name: str, refused: list[Refused]) -> Iterator[Node]:
    """The nodes, each with those of its addresses that can be used and that nobody has before it;
    this node comes first."""
    taken: dict[IPAddress | str, str] = {}
    for node in sorted(cluster.nodes, key=lambda node: node.name != name):
        good = []
        for address in node.addresses:
            owner = taken.setdefault(address, node.name)
            if owner != node.name:
                why = f"is the address of {owner} too: correct one of them"
                refused.append(_refused_address(node, address, "duplicate-address", why))
            elif is_special(address):
                why = "is no address that other nodes could reach: give the node's own"
                refused.append(_refused_address(node, address, "bad-address", why))
            else:
                good.append(address)
        kept = len(good) == len(node.addresses)
        sound = node if kept else node._replace(addresses=tuple(good))
        yield _with_macs(sound, taken, refused) if node.vtep_macs else sound


def _with_macs(node: Node, taken: dict[IPAddress | str, str], refused: list[Refused]) -> Node:
    """Without those of the tunnels' MACs that another node announces: two nodes behind one MAC
    would take each other's packets. In place of one that is left out the usual one counts."""
    good = []
    for version, mac in node.vtep_macs:
        owner = taken.setdefault(f"{version} {mac}", node.name)
        if owner == node.name:
            good.append((version, mac))
            continue
        text = f"VTEP MAC {mac} of {node.name} is {owner}'s too: correct one of them"
        refused.append(Refused(node.name, "duplicate-mac", text))
    return node._replace(vtep_macs=tuple(good))


def _refused_address(node: Node, address: IPAddress, reason: str, why: str) -> Refused:
    return Refused(node.name, reason, f"address {address} of {node.name} {why}")
