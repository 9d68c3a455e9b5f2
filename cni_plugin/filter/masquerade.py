"""Masquerade: of a cluster's pods by their node's ranges, for `ipMasq` by the pod's address.

With `ipMasq` a pod's address leads to its network's chain. The chain's name is the digest of what
it does, so pods keep the rules they were made with when a config changes, two networks with the
same ranges share one, and making it again is harmless.

What goes from node to node inside a cluster is none of it, whatever a network's config says. All
that depends on the cluster is in sets (filter.cluster), so the base chain is always the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import collapse_addresses, ip_network

from cni_plugin.filter.expressions import (
    DESTINATION,
    IS,
    MASQUERADE,
    RETURN,
    SOURCE,
    in_set,
    verdict_map,
    within,
)
from cni_plugin.model.names import digest
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Hook, Rule
from ipam.values import IPAddress, IPNetwork

# NF_INET_POST_ROUTING, NF_IP_PRI_NAT_SRC. linux/netfilter_ipv4.h
POSTROUTING = Hook("nat", 4, 100)
PREFIX = "masq-"
MULTICAST = (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))  # a group has no way back


def kept(cidrs: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The destinations that keep the pod's source address: each once, multicast included."""
    everything = (*cidrs, *MULTICAST)
    result: list[IPNetwork] = []
    for version in (4, 6):
        result += collapse_addresses(cidr for cidr in everything if cidr.version == version)  # type: ignore[type-var]  # one version each time
    return tuple(result)


def is_network_chain(chain: RuleChain) -> bool:
    """Whether it is one network's chain, which goes with the network's last pod."""
    return chain.name.startswith(PREFIX)


def chain_name(cidrs: Iterable[IPNetwork]) -> str:
    """PREFIX and a digest; the same destinations give the same name."""
    return f"{PREFIX}{digest(*map(str, kept(cidrs)))}"


def desired_chains(cidrs: tuple[IPNetwork, ...]) -> tuple[RuleChain, ...]:
    """The network's own chain (kept destinations leave it, the rest is masqueraded) and the
    base chain that leads pods' addresses into their networks' chains."""
    return network_chain(cidrs), BASE


def network_chain(cidrs: tuple[IPNetwork, ...]) -> RuleChain:
    """One network's chain: the kept destinations leave it, the rest is masqueraded."""
    name = chain_name(cidrs)
    returns = tuple(
        Rule(name, (IS[cidr.version], within(DESTINATION[cidr.version], cidr), RETURN))
        for cidr in kept(cidrs)
    )
    return RuleChain("inet", name, None, (*returns, Rule(name, (MASQUERADE,))))


def _base(version: int) -> tuple[Rule, ...]:
    """One IP version's rules of the base chain."""
    bodies = (
        (in_set(f"cluster{version}", DESTINATION[version]), RETURN),
        (in_set(f"kept{version}", DESTINATION[version]), RETURN),
        (verdict_map(f"masq{version}", SOURCE[version]),),
        (in_set(f"local{version}", SOURCE[version]), MASQUERADE),
    )
    return tuple(Rule("postrouting", (IS[version], *body)) for body in bodies)


BASE = RuleChain("inet", "postrouting", POSTROUTING, (*_base(4), *_base(6)))


def desired_elements(
    link: str, addresses: Iterable[IPAddress], cidrs: tuple[IPNetwork, ...]
) -> tuple[Element, ...]:
    """One element an address. link: the host's end of the pod's veth, kept as the owner."""
    name = chain_name(cidrs)
    return tuple(
        Element("inet", f"masq{address.version}", (str(address),), goto=name, owner=link)
        for address in addresses
    )
