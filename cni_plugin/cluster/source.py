"""Who says which nodes there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cni_plugin.cluster.values import Cluster, Node


class Source(Protocol):
    """A peers file, the Kubernetes API, or whatever else knows the nodes."""

    async def run(self, changed: Callable[[Cluster], None]) -> None:
        """Tells the whole cluster at the beginning and after each change, until it is cancelled."""

    async def announce(self, me: Node) -> None:
        """Lets the other nodes know of this one, where the source can."""
