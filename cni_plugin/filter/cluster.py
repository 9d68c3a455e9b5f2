"""What a cluster wants of the filter: whose packets are masqueraded, clamped or given a TTL, and
who may send to the tunnel's port.

Rules follow from the config alone and name sets; what comes and goes with the nodes are elements.
So a node that joins or leaves is a few elements in one transaction, and no rule is written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cni_plugin.filter.expressions import (
    CLAMP_MSS,
    DESTINATION,
    DROP,
    IIFNAME,
    IS,
    SOURCE,
    SYN,
    TCP,
    UDP,
    UDP_DESTINATION,
    equals,
    in_set,
    set_ttl,
)
from cni_plugin.filter.masquerade import BASE, MULTICAST
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Hook, Part, Rule
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress, IPNetwork

# NF_INET_LOCAL_IN and NF_INET_FORWARD; NF_IP_PRI_FILTER and, because packets are changed there,
# NF_IP_PRI_MANGLE. linux/netfilter.h, linux/netfilter_ipv4.h
INPUT, FORWARD = Hook("filter", 1, 0), Hook("filter", 2, -150)
# All that is in these is the cluster's: what is found there and not wanted goes.
SETS = (
    *(f"{name}{version}" for name in ("local", "cluster", "kept", "nodes") for version in (4, 6)),
    "underlays",
)
CHAINS = (BASE.name, "cluster-input", "cluster-forward")


class Options(NamedTuple):
    """What the config says. vxlan_port: UDP port of the tunnel, None without one. clamp_mss: TCP of
    pods fits the smallest MTU of its routes. egress_ttl: 1 to 255, the TTL and hop limit of what
    leaves the cluster; None leaves it as it is."""

    vxlan_port: int | None = None
    clamp_mss: bool = False
    egress_ttl: int | None = None


def desired_chains(options: Options) -> tuple[RuleChain, ...]:
    """The chains wanted. The first is the base chain of all masquerading, which brings the sets:
    where it is new and the nodes are many, their elements go in before the other chains do, or
    nodes are not heard for as long as that takes (0.2 s for 5,000)."""
    return (BASE, *(chain for chain in _optional(options) if chain.rules))


def obsolete_chains(options: Options) -> tuple[RuleChain, ...]:
    """Chains that other options have and these have not: to be taken away where they are found."""
    return tuple(chain for chain in _optional(options) if not chain.rules)


def desired_elements(
    local: Iterable[IPNetwork],
    cluster: Iterable[IPNetwork],
    kept: Iterable[IPNetwork] = (),
    underlays: Iterable[str] = (),
) -> tuple[Element, ...]:
    """What does not depend on single nodes. local: ranges of this node's pods; cluster: those of
    all nodes' pods, of each node or of all together; kept: other destinations that see pods'
    own addresses (nonMasqueradeCIDRs; 0.0.0.0/0 and ::/0 for no masquerading); underlays: names of
    the links by which other nodes are reached."""
    ranges = (("local", local), ("cluster", (*cluster, *local)), ("kept", (*kept, *MULTICAST)))
    return (
        *(
            Element("inet", f"{name}{network.version}", (str(network),))
            for name, networks in ranges
            for network in apart(networks)
        ),
        *(Element("inet", "underlays", (link,)) for link in dict.fromkeys(underlays)),
    )


def pod_elements(ranges: Iterable[IPNetwork]) -> tuple[Element, ...]:
    """What lets another node's pods see pods' own addresses, where the ranges of all nodes are not
    known together. ranges: of that node's pods."""
    return tuple(
        Element("inet", f"cluster{network.version}", (str(network),)) for network in ranges
    )


def node_elements(addresses: Iterable[IPAddress]) -> tuple[Element, ...]:
    """What lets another node be heard. addresses: all from which it may send, and at which its
    tunnel can be reached."""
    return tuple(
        Element("inet", f"nodes{address.version}", (str(address),))
        for address in dict.fromkeys(addresses)
    )


def apart(networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """Without those that lie in another one, which a set of networks does not take. Neighbours are
    not joined: what one node brings stays one element, whoever else comes."""
    kept: list[IPNetwork] = []
    for network in sorted(networks, key=lambda n: (n.version, n.network_address, n.prefixlen)):
        last = kept[-1] if kept else None
        if last is None or last.version != network.version or not _holds(last, network):
            kept.append(network)
    return tuple(kept)


def _holds(outer: IPNetwork, inner: IPNetwork) -> bool:
    return inner.broadcast_address <= outer.broadcast_address  # type: ignore[operator]  # one version


Body = tuple[Part, ...]


def _optional(options: Options) -> tuple[RuleChain, ...]:
    """Each chain that some options have; without rules where these have it not."""
    heard = [body for version in (4, 6) for body in _heard(version, options)]
    forwarded = [body for version in (4, 6) for body in _forwarded(version, options)]
    return (
        _chain(CHAINS[1], INPUT, heard),
        _chain(CHAINS[2], FORWARD, forwarded),
    )


def _chain(name: str, hook: Hook, bodies: Iterable[Body]) -> RuleChain:
    return RuleChain("inet", name, hook, tuple(Rule(name, body) for body in bodies))


def _heard(version: int, options: Options) -> Iterator[Body]:
    """The tunnel hears nobody but nodes, or whoever sends to it is on every pod's network."""
    if options.vxlan_port is not None:
        stranger = in_set(f"nodes{version}", SOURCE[version], negate=True)
        yield IS[version], *_tunnel(options.vxlan_port), stranger, DROP


def _forwarded(version: int, options: Options) -> Iterator[Body]:
    """Of what passes through the node. A pod that sends to another node's tunnel would, once it is
    masqueraded, look like this node; so would one that forges its source."""
    is_version = IS[version]
    from_pod = in_set(f"local{version}", SOURCE[version])
    if options.vxlan_port is not None:
        to_node = in_set(f"nodes{version}", DESTINATION[version])
        elsewhere = in_set("underlays", IIFNAME, negate=True)
        yield is_version, *_tunnel(options.vxlan_port), to_node, elsewhere, DROP
    if options.clamp_mss:
        to_pod = in_set(f"local{version}", DESTINATION[version])
        for pod in (from_pod, to_pod):
            yield is_version, TCP, SYN, pod, CLAMP_MSS
    if options.egress_ttl is not None:
        outside = in_set(f"cluster{version}", DESTINATION[version], negate=True)
        yield is_version, from_pod, outside, set_ttl(version, options.egress_ttl)


def _tunnel(port: int) -> Body:
    return UDP, equals(UDP_DESTINATION, port.to_bytes(2, "big"), str(port))
