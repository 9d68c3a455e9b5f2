"""The one table `podwire`, in two families: its sets, and the chains every node has."""

from __future__ import annotations

TABLE = "podwire"

# The types of a set's key fields; an element's key has one text for each.
SETS: dict[str, tuple[str, ...]] = {
    "ports": ("ifname",),  # links whose source MAC and addresses are checked
    "own4": ("ifname", "ether_addr", "ipv4_addr"),  # what these may send from
    "own6": ("ifname", "ether_addr", "ipv6_addr"),
    "macs": ("ifname", "ether_addr"),
    "mac_ports": ("ifname",),  # links of which only one of the two is, and those of older podwires
    "ip_ports": ("ifname",),
    "source4": ("ifname", "ipv4_addr"),
    "source6": ("ifname", "ipv6_addr"),
    "pods4": ("ifname", "ipv4_addr"),  # addresses in use, by network (filter.presence)
    "pods6": ("ifname", "ipv6_addr"),
    "masq4": ("ipv4_addr",),  # maps a pod's address to the chain of its network
    "masq6": ("ipv6_addr",),
    # The cluster's (filter.cluster), empty on a node that is in none.
    "local4": ("ipv4_addr",),  # ranges of this node's pods
    "local6": ("ipv6_addr",),
    "cluster4": ("ipv4_addr",),  # ranges of all nodes' pods
    "cluster6": ("ipv6_addr",),
    "kept4": ("ipv4_addr",),  # other destinations to which pods keep their addresses
    "kept6": ("ipv6_addr",),
    "nodes4": ("ipv4_addr",),  # other nodes
    "nodes6": ("ipv6_addr",),
    "underlays": ("ifname",),  # links by which nodes are reached
    # Ports of the node that lead to a pod (filter.host_ports): of every address, of one address.
    "hostports4": ("inet_proto", "inet_service"),
    "hostports6": ("inet_proto", "inet_service"),
    "hostports4_at": ("ipv4_addr", "inet_proto", "inet_service"),
    "hostports6_at": ("ipv6_addr", "inet_proto", "inet_service"),
    "hairpin4": ("ipv4_addr", "ipv4_addr"),  # source and destination of a pod's call of itself
    "hairpin6": ("ipv6_addr", "ipv6_addr"),
    "near4": ("ifname", "ipv4_addr"),  # a bridge, and a pod whose answers would stay on it
    "near6": ("ifname", "ipv6_addr"),
}
# Maps whose elements lead to an address and a port.
DATA_MAPS: dict[str, tuple[str, ...]] = {
    "hostports4": ("ipv4_addr", "inet_service"),
    "hostports6": ("ipv6_addr", "inet_service"),
    "hostports4_at": ("ipv4_addr", "inet_service"),
    "hostports6_at": ("ipv6_addr", "inet_service"),
}
VERDICT_MAPS = ("masq4", "masq6")
RANGE_SETS = ("local4", "local6", "cluster4", "cluster6", "kept4", "kept6")  # of whole networks
FAMILY_SETS: dict[str, tuple[str, ...]] = {
    "inet": tuple(SETS),
    "bridge": ("ports", "own4", "own6", "macs", "mac_ports", "ip_ports", "source4", "source6"),
}
