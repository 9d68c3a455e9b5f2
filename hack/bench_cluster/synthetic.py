"""A cluster that is only told of: its nodes as values, as a peers file, and as lines that somebody
would write by hand for `ip -batch` and `bridge -batch`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network
from typing import NamedTuple

from cni_plugin.backend.view import DEFAULT_PORT, DEFAULT_VNI
from cni_plugin.backend.vxlan import OVERHEAD, tunnel_name, vtep_mac
from cni_plugin.cluster.values import HOST_GW, Cluster, Node
from cni_plugin.model.objects import CLUSTER_PROTOCOL
from ipam.values import IPAddress, IPNetwork

UNDERLAY = ip_network("198.18.0.0/15")  # for benchmarks, RFC 2544 appendix C.2.2
PODS = ip_network("10.0.0.0/8")
MTU = 1500
ME = 1  # the number of the node that is measured
TUNNEL = tunnel_name(4, DEFAULT_VNI, DEFAULT_PORT)


class Lines(NamedTuple):
    """What `ip -batch` and `bridge -batch` are given."""

    ip: list[str]
    bridge: list[str]

    def __add__(self, other: object) -> Lines:
        assert isinstance(other, Lines)
        return Lines([*self.ip, *other.ip], [*self.bridge, *other.bridge])


def address(number: int) -> IPAddress:
    """Where other nodes reach a node."""
    return UNDERLAY[number]


def pod_cidr(number: int) -> IPNetwork:
    """A node's range, a /24."""
    return ip_network((int(PODS.network_address) + (number << 8), 24))


def node(number: int) -> Node:
    """A node by its number, 1 and up."""
    return Node(f"node-{number}", (pod_cidr(number),), (address(number),))


def cluster(numbers: Iterable[int]) -> Cluster:
    """Nodes that a source has told of."""
    return Cluster(tuple(map(node, numbers)))


def peers_file(nodes: Iterable[Node]) -> str:
    """The same for a file source; JSON is YAML."""
    listed = [
        {
            "name": one.name,
            "podCIDRs": list(map(str, one.pod_cidrs)),
            "addresses": list(map(str, one.addresses)),
        }
        for one in nodes
    ]
    return json.dumps({"nodes": listed})


def underlay_lines() -> list[str]:
    """The link that the others are on, with this node's address. Nobody is at its other end."""
    own = ip_interface((address(ME), UNDERLAY.prefixlen))
    return [
        f"link add eth0 mtu {MTU} type veth peer name other",
        "link set other up",
        "link set eth0 up",
        f"addr add {own} dev eth0",
    ]


def common_lines(backend: str) -> Lines:
    """What the node needs once."""
    if backend == HOST_GW:
        return Lines([], [])
    made = (
        f"link add {TUNNEL} mtu {MTU - OVERHEAD[4]} address {vtep_mac(f'node-{ME}', 4)} type vxlan"
        f" id {DEFAULT_VNI} local {address(ME)} dstport {DEFAULT_PORT} nolearning"
    )
    own = pod_cidr(ME).network_address
    return Lines([made, f"addr add {own}/32 dev {TUNNEL}", f"link set {TUNNEL} up"], [])


def peer_lines(backend: str, number: int, verb: str = "add") -> Lines:
    """What leads to one peer. verb: add or del."""
    cidr, outer = pod_cidr(number), address(number)
    if backend == HOST_GW:
        return Lines([f"route {verb} {cidr} via {outer} dev eth0 proto {CLUSTER_PROTOCOL}"], [])
    gateway, mac = ip_address(int(cidr.network_address)), vtep_mac(f"node-{number}", 4)
    route = f"route {verb} {cidr} via {gateway} dev {TUNNEL} onlink proto {CLUSTER_PROTOCOL}"
    neighbour = f"neigh {verb} {gateway} lladdr {mac} dev {TUNNEL} nud permanent"
    entry = f"fdb {verb} {mac} dev {TUNNEL} dst {outer} self permanent"
    ordered = [neighbour, route] if verb == "add" else [route, neighbour]
    return Lines(ordered, [entry])


def all_lines(backend: str, nodes: int) -> Lines:
    """Everything that a node of so many wants."""
    total = common_lines(backend)
    for number in range(ME + 1, nodes + 1):
        one = peer_lines(backend, number)
        total.ip.extend(one.ip)
        total.bridge.extend(one.bridge)
    return total
