"""Backend host-gw: each peer is the gateway to its own pods.

A plain route a range, and nothing is added to a packet. The peers must be on-link: a router between
two nodes would have to know the pods' ranges.
"""

from __future__ import annotations

from cni_plugin.backend.view import View, direct_route, forwarding
from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import Obj


def overhead(_version: int) -> int:
    """Nothing is added."""
    return 0


def common(view: View) -> tuple[Obj, ...]:
    """Forwarding."""
    return tuple(forwarding(view))


def of_peer(view: View, peer: Node) -> tuple[Obj, ...]:
    """A route a range, by the peer's address of the same IP version."""
    routes = (direct_route(view, peer, cidr) for cidr in peer.pod_cidrs)
    return tuple(one for one in routes if one is not None)
