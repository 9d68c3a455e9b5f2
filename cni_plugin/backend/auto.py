"""Backend auto: plain routes to the peers that are on-link, a tunnel to the others.

Where every peer is on-link that is host-gw, and there is no tunnel; otherwise it is vxlan with
directRouting.
"""

from __future__ import annotations

from cni_plugin.backend import host_gw, vxlan
from cni_plugin.backend.view import View, direct_route
from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import Obj


def overhead(version: int) -> int:
    """The tunnel's: the first peer beyond a router must not find pods whose packets are too big."""
    return vxlan.overhead(version)


def common(view: View) -> tuple[Obj, ...]:
    """The tunnel only when somebody needs it."""
    if any(_is_far(view, peer) for peer in view.peers):
        return vxlan.common(_direct(view))
    return host_gw.common(view)


def of_peer(view: View, peer: Node) -> tuple[Obj, ...]:
    """The plain route where there can be one."""
    return vxlan.of_peer(_direct(view), peer)


def _is_far(view: View, peer: Node) -> bool:
    return any(direct_route(view, peer, cidr) is None for cidr in peer.pod_cidrs)


def _direct(view: View) -> View:
    return view._replace(settings=view.settings._replace(direct_routing=True))
