"""Which ranges this node's kernel has already: what an agent that begins knows of before. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from cni_plugin.cluster.admission import Claims
from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import Element, Obj, RouteTo

OWN = ("local4", "local6")  # filter.cluster: this node's ranges


def installed(nodes: Iterable[Node], there: Iterable[Obj]) -> Claims:
    """there: all that bears our mark. Who has a range that is routed, or is this node's own."""
    known = set()
    for obj in there:
        if isinstance(obj, RouteTo):
            known.add(obj.dst)
        elif isinstance(obj, Element) and obj.set in OWN:
            known.add(ip_network(obj.key[0]))
    return {node.name: tuple(cidr for cidr in node.pod_cidrs if cidr in known) for node in nodes}
