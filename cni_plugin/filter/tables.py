"""The one table `podwire`, in two families: its sets, and the chains every node has."""

from __future__ import annotations

TABLE = "podwire"

# The types of a set's key fields; an element's key has one text for each.
SETS: dict[str, tuple[str, ...]] = {
    "mac_ports": ("ifname",),  # links whose source MAC is checked
    "ip_ports": ("ifname",),  # links whose source addresses are checked
    "macs": ("ifname", "ether_addr"),
    "source4": ("ifname", "ipv4_addr"),
    "source6": ("ifname", "ipv6_addr"),
    "pods4": ("ifname", "ipv4_addr"),  # addresses in use, by network (filter.presence)
    "pods6": ("ifname", "ipv6_addr"),
    "masq4": ("ipv4_addr",),  # maps a pod's address to the chain of its network
    "masq6": ("ipv6_addr",),
}
VERDICT_MAPS = ("masq4", "masq6")
FAMILY_SETS = {
    "inet": tuple(SETS),
    "bridge": ("mac_ports", "ip_ports", "macs", "source4", "source6"),
}
