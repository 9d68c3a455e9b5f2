"""The cluster as values: nodes, what is known of them, and what this node wants.

A source (a peers file, the Kubernetes API) makes a Cluster; a backend makes of it and of this
node's underlay the objects wanted; the reconciler brings them about. None of them knows another.
"""

from __future__ import annotations

from typing import NamedTuple

from ipam.values import IPAddress, IPInterface, IPNetwork

LOCAL, HOST_GW, VXLAN, AUTO = "local", "host-gw", "vxlan", "auto"


class Node(NamedTuple):
    """A node as the source tells of it.

    pod_cidrs: the ranges its pods get addresses of, at most one an IP version.
    addresses: where other nodes reach it (InternalIP), at most one an IP version.
    vtep_macs: of its tunnel's links by the underlay's IP version, ((4, "02:..."), ); empty when it
    announces none. backend: which one it announces; "" when it announces none."""

    name: str
    pod_cidrs: tuple[IPNetwork, ...] = ()
    addresses: tuple[IPAddress, ...] = ()
    vtep_macs: tuple[tuple[int, str], ...] = ()
    backend: str = ""

    def address(self, version: int) -> IPAddress | None:
        """Its address of an IP version."""
        return next((a for a in self.addresses if a.version == version), None)

    def pod_cidr(self, version: int) -> IPNetwork | None:
        """Its pods' range of an IP version."""
        return next((cidr for cidr in self.pod_cidrs if cidr.version == version), None)


class Refused(NamedTuple):
    """What a source says of a node and cannot be used: it is left out, told and counted. reason: a
    word for a metric; text: a sentence with the value and the remedy."""

    node: str
    reason: str
    text: str


class Cluster(NamedTuple):
    """All nodes a source knows of, this one among them.

    synced False: the last known state from disk, because the source has not been heard yet; then
    nothing that is there is taken away. backend: the one that the source wants of this node; "":
    the agent's config says it."""

    nodes: tuple[Node, ...] = ()
    refused: tuple[Refused, ...] = ()
    synced: bool = True
    backend: str = ""

    def node(self, name: str) -> Node | None:
        """A node by name."""
        return next((node for node in self.nodes if node.name == name), None)


class Underlay(NamedTuple):
    """One of this node's links that other nodes are reached by. link: its name; address: this
    node's own on it; mtu in bytes."""

    link: str
    address: IPInterface
    mtu: int
