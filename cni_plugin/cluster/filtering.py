"""What a node's view of the cluster wants of the filter, part by part as for routes. Pure."""

from __future__ import annotations

from ipaddress import ip_network
from typing import NamedTuple

from cni_plugin.backend.view import View
from cni_plugin.cluster.values import AUTO, VXLAN, Node
from cni_plugin.filter.cluster import (
    Options,
    desired_chains,
    desired_elements,
    node_elements,
    obsolete_chains,
    pod_elements,
)
from cni_plugin.model.objects import Obj, RuleChain
from ipam.values import IPNetwork

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
TUNNELLING = (VXLAN, AUTO)


class Policy(NamedTuple):
    """What the agent's config says. cluster: ranges of all pods; empty: those of the nodes, each by
    itself. kept: other destinations that see pods' own addresses. egress_ttl: 1 to 255."""

    cluster: tuple[IPNetwork, ...] = ()
    masquerade: bool = True
    kept: tuple[IPNetwork, ...] = ()
    clamp_mss: bool = False
    egress_ttl: int | None = None


def is_guarded(backend: str, view: View) -> bool:
    """Whether anybody's tunnel is to be guarded. Another node's too: to it a pod of this one would,
    once it is masqueraded, look like this node."""
    return backend in TUNNELLING or any(peer.backend in TUNNELLING for peer in view.peers)


def common(policy: Policy, view: View, *, guarded: bool) -> tuple[Obj, ...]:
    """What depends on no single peer."""
    kept = policy.kept if policy.masquerade else EVERYWHERE
    links = (underlay.link for underlay in view.underlays)
    elements = desired_elements(view.me.pod_cidrs, policy.cluster, kept, links)
    return (*desired_chains(_options(policy, view, guarded=guarded)), *elements)


def of_peer(policy: Policy, peer: Node) -> tuple[Obj, ...]:
    """What lets a peer be heard, and its pods see this node's pods' own addresses."""
    ranges = () if policy.cluster else peer.pod_cidrs
    return (*pod_elements(ranges), *node_elements(peer.addresses))


def obsolete(policy: Policy, view: View, *, guarded: bool) -> tuple[RuleChain, ...]:
    """Chains that are taken away where they are found."""
    return obsolete_chains(_options(policy, view, guarded=guarded))


def _options(policy: Policy, view: View, *, guarded: bool) -> Options:
    port = view.settings.port if guarded else None
    return Options(port, policy.clamp_mss, policy.egress_ttl)
