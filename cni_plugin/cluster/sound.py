"""Whether all that a source tells can be used as it is, which nearly always is so.

The judgement on a node alone is made once, when it is new or another than before; what nodes may be
to each other (`admission`) is seen by sorting numbers. So 5,000 nodes of which one is new take 5 ms
and not 25. Where anything is wrong the answer is no more than that: `admission` says what. Pure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from itertools import pairwise
from typing import NamedTuple

from cni_plugin.cluster.numbers import Ends, ends, is_special
from cni_plugin.cluster.values import Cluster, Node
from ipam.values import IPNetwork

VERSION_BIT = {4: 0, 6: 1 << 128}  # added to an address: one order for both versions


class _Judged(NamedTuple):
    """A node alone. good: nothing of it is wrong by itself."""

    node: Node
    good: bool
    addresses: tuple[int, ...]
    ranges: tuple[Ends, ...]
    macs: tuple[tuple[int, str], ...]


class Sound:
    """Remembers the nodes of the last time. allowed, barred: networks that hold each range, or of
    which none touches one."""

    def __init__(self) -> None:
        self._limits: tuple[tuple[Ends, ...], tuple[Ends, ...]] = ((), ())
        self._judged: dict[str, _Judged] = {}

    def is_sound(
        self, cluster: Cluster, allowed: Iterable[IPNetwork], barred: Iterable[IPNetwork]
    ) -> bool:
        """False: look closely."""
        limits = tuple(map(_numbers, allowed)), tuple(map(_numbers, barred))
        if limits != self._limits:
            self._limits, self._judged = limits, {}
        before, now = self._judged, dict[str, _Judged]()
        for node in cluster.nodes:
            known = before.get(node.name)
            now[node.name] = (
                known if known is not None and known.node is node else _judge(node, *limits)
            )
        self._judged = now
        alone = len(now) == len(cluster.nodes) and all(one.good for one in now.values())
        return alone and _apart(now.values())


def _judge(node: Node, allowed: tuple[Ends, ...], barred: tuple[Ends, ...]) -> _Judged:
    addresses = tuple(VERSION_BIT[one.version] | int(one) for one in node.addresses)
    ranges = tuple(map(_numbers, node.pod_cidrs))
    good = not any(map(is_special, node.addresses)) and all(
        (not allowed or any(low <= first and last <= high for low, high in allowed))
        and not any(low <= last and first <= high for low, high in barred)
        for first, last in ranges
    )
    return _Judged(node, good, addresses, ranges, node.vtep_macs)


def _numbers(cidr: IPNetwork) -> Ends:
    first, last = ends(cidr)
    bit = VERSION_BIT[cidr.version]
    return bit | first, bit | last


def _apart(judged: Collection[_Judged]) -> bool:
    """No two nodes have the same address or MAC, no two ranges overlap, none holds an address."""
    addresses = [one for node in judged for one in node.addresses]
    macs = [one for node in judged for one in node.macs]
    if len(set(addresses)) < len(addresses) or len(set(macs)) < len(macs):
        return False
    ranges = sorted(one for node in judged for one in node.ranges)
    if any(low[1] >= high[0] for low, high in pairwise(ranges)):
        return False
    addresses.sort()
    count = len(addresses)
    for first, last in ranges:
        place = bisect_left(addresses, first)
        if place < count and addresses[place] <= last:
            return False
    return True
