"""The tables as podwire writes them: sets, chains and rules of one family."""

from __future__ import annotations

import zlib
from typing import NamedTuple

from cni_plugin.filter.expressions import Rule
from cni_plugin.model.objects import Ruleset

TABLE = "podwire"
FAMILIES = ("inet", "bridge")

# The types of a set's key fields; an element's key has one text for each.
SETS: dict[str, tuple[str, ...]] = {
    "mac_ports": ("ifname",),  # links whose source MAC is checked
    "ip_ports": ("ifname",),  # links whose source addresses are checked
    "macs": ("ifname", "ether_addr"),
    "source4": ("ifname", "ipv4_addr"),
    "source6": ("ifname", "ipv6_addr"),
    "masq4": ("ipv4_addr",),  # maps a pod's address to the chain of its network
    "masq6": ("ipv6_addr",),
}
VERDICT_MAPS = ("masq4", "masq6")
FAMILY_SETS = {
    "inet": tuple(SETS),
    "bridge": ("mac_ports", "ip_ports", "macs", "source4", "source6"),
}


class Hook(NamedTuple):
    """Where the kernel enters a base chain."""

    type: str  # filter | nat
    number: int  # NF_INET_* / NF_BR_*
    priority: int


class Chain(NamedTuple):
    """A chain; hook None: entered by jump or goto only."""

    name: str
    hook: Hook | None = None


class Table(NamedTuple):
    """One family's table: chains in the order in which they are made, and all their rules."""

    family: str
    chains: tuple[Chain, ...]
    rules: tuple[Rule, ...]


def mark(rule: Rule) -> str:
    """The comment that identifies a rule: its text's checksum. An older or newer podwire's rule
    has another, so a changed rule set is noticed without decoding the kernel's expressions."""
    return f"podwire {zlib.crc32(rule.text.encode()):08x}"


def ruleset(table: Table) -> Ruleset:
    """The table as an object that can be compared with what the kernel shows."""
    return Ruleset(table.family, tuple((rule.chain, mark(rule)) for rule in table.rules))
