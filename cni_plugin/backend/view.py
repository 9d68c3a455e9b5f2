"""What a backend decides from, and what it decides with."""

from __future__ import annotations

from collections.abc import Iterator

from cni_plugin.cluster.values import Node, Underlay
from cni_plugin.model.objects import (
    CLUSTER_PROTOCOL,
    HOST,
    MAIN_TABLE,
    SCOPE_UNIVERSE,
    Obj,
    RouteTo,
    Sysctl,
)
from ipam.lean_typing import NamedTuple, Protocol
from ipam.values import IPAddress, IPNetwork

DEFAULT_VNI = 112
DEFAULT_PORT = 8472  # UDP; the kernel's own choice, drivers/net/vxlan. IANA's is 4789
DEFAULT_METRIC = {4: 0, 6: 1024}  # what the kernel makes of no metric


class Settings(NamedTuple):
    """What the agent's config says to the backends. mtu: at most so many bytes for a pod's packet.
    tx_checksum: None leaves the offload as the kernel has it."""

    vni: int = DEFAULT_VNI
    port: int = DEFAULT_PORT
    direct_routing: bool = False
    mtu: int | None = None
    tx_checksum: bool | None = None


class View(NamedTuple):
    """The cluster as this node sees it. underlays: at most one an IP version. peers: the nodes that
    may be used, without this one. ipv6: the kernel has it."""

    me: Node
    peers: tuple[Node, ...]
    underlays: tuple[Underlay, ...]
    settings: Settings = Settings()
    ipv6: bool = True

    def underlay(self, version: int) -> Underlay | None:
        """The link by which nodes are reached over an IP version."""
        return next((one for one in self.underlays if one.address.version == version), None)


class Backend(Protocol):
    """A file in this package. Pure; a peer's objects depend on nothing but the peer and on what of
    the view is the same for all peers, so that one that joins or leaves costs only its own."""

    def overhead(self, version: int) -> int:
        """Bytes that a pod's packet grows by on an underlay of an IP version."""

    def common(self, view: View) -> tuple[Obj, ...]:
        """What the node itself needs."""

    def of_peer(self, view: View, peer: Node) -> tuple[Obj, ...]:
        """What leads to a peer's pods; nothing for a range that cannot be reached."""


def on_link(view: View, address: IPAddress | None) -> Underlay | None:
    """The underlay whose network an address is in: a packet needs no router to get there."""
    underlay = view.underlay(address.version) if address else None
    return underlay if underlay and address in underlay.address.network else None


def direct_route(view: View, peer: Node, cidr: IPNetwork) -> RouteTo | None:
    """The plain route to one of a peer's ranges; None when the peer is not on-link."""
    address = peer.address(cidr.version)
    underlay = on_link(view, address)
    return route(cidr, underlay.link, address) if underlay else None


def route(
    cidr: IPNetwork, link: str, gateway: IPAddress | None, *, onlink: bool = False
) -> RouteTo:
    """A route to another node's pods. onlink: the gateway is taken to be there, no route to it is
    looked for."""
    return RouteTo(
        place=HOST,
        dst=cidr,
        table=MAIN_TABLE,
        priority=DEFAULT_METRIC[cidr.version],
        link=link,
        gw=gateway,
        scope=SCOPE_UNIVERSE,
        onlink=onlink,
        protocol=CLUSTER_PROTOCOL,
    )


def forwarding(view: View) -> Iterator[Sysctl]:
    """Packets of pods pass through the node."""
    for cidr in view.me.pod_cidrs:
        if cidr.version == 4:
            yield Sysctl(HOST, ("ipv4", "ip_forward"), "1")
        elif view.ipv6:
            yield Sysctl(HOST, ("ipv6", "conf", "all", "forwarding"), "1")
