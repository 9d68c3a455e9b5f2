"""What is known of all nodes, from a list and the events after it. Pure: objects in, values out.

Only values are kept, never the API's objects. An event counts when its version is newer than what
is known of its node, so that one that comes twice or late changes nothing; where versions are no
numbers, events count in the order of their coming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cni_plugin.cluster.kube_node import digest_of, node_of, number_of, version_of
from cni_plugin.cluster.values import Cluster, Node, Refused

REMOVED, BOOKMARK = "DELETED", "BOOKMARK"
GONE_MAX = 10_000  # departed nodes whose version is remembered


class _Known(NamedTuple):
    told: Node | Refused
    version: int
    digest: bytes


def _read(item: object, before: _Known | None) -> _Known:
    """What an object tells; parsed only when it is not what was read before."""
    digest = digest_of(item)
    told = before.told if before and before.digest == digest else node_of(item)
    return _Known(told, version_of(item), digest)


class Listing:
    """A list while its pages come. before: what is known by now."""

    def __init__(self, before: Mapping[str, _Known]) -> None:
        self.known: dict[str, _Known] = {}
        self._before = before

    def take(self, item: object) -> None:
        """A Node of the list."""
        name = _name(item)
        self.known[name] = _read(item, self._before.get(name))


class View:
    """All nodes. version: where a watch goes on; empty: a list is needed first."""

    def __init__(self) -> None:
        self.version = ""
        self._known: dict[str, _Known] = {}
        self._gone: dict[str, int] = {}
        self._listed = 0  # the version of the last list: what is older is in it

    def __len__(self) -> int:
        return len(self._known)

    def listing(self) -> Listing:
        """A new list begins."""
        return Listing(self._known)

    def replace(self, listing: Listing, version: str) -> None:
        """A list is complete: what is not in it is no longer there."""
        self._known = listing.known
        self._gone = {}
        self._listed = number_of(version)
        self.version = version

    def apply(self, kind: str, item: Mapping[str, Any]) -> bool:
        """An event. Whether anything that is told has changed."""
        self.version = _version_text(item) or self.version
        if kind == BOOKMARK:
            return False
        name, version = _name(item), version_of(item)
        known = self._known.get(name)
        latest = max(known.version if known else self._gone.get(name, 0), self._listed)
        if 0 < version < latest or (0 < version == latest and kind != REMOVED):
            return False
        if kind == REMOVED:
            return self._remove(name, version)
        self._gone.pop(name, None)
        read = self._known[name] = _read(item, known)
        return known is None or known.told != read.told

    def _remove(self, name: str, version: int) -> bool:
        while len(self._gone) >= GONE_MAX:
            del self._gone[next(iter(self._gone))]
        self._gone[name] = version
        return self._known.pop(name, None) is not None

    def cluster(self) -> Cluster:
        """Everything, by name."""
        told = [self._known[name].told for name in sorted(self._known)]
        return Cluster(
            tuple(one for one in told if isinstance(one, Node)),
            tuple(one for one in told if isinstance(one, Refused)),
        )

    def told(self, name: str) -> Node | Refused | None:
        """What is known of one node."""
        known = self._known.get(name)
        return known.told if known else None


def _name(item: object) -> str:
    """The name that an object bears; empty where it has none."""
    metadata = item.get("metadata") if isinstance(item, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _version_text(item: Mapping[str, Any]) -> str:
    metadata = item.get("metadata")
    text = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
    return text if isinstance(text, str) else ""
