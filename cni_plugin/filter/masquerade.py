"""Masquerade for `ipMasq`: a pod's address leads to its network's chain.

The chain's name is the digest of what it does, so pods keep the rules they were made with when a
config changes, two networks with the same ranges share one, and making it again is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import collapse_addresses, ip_network

from cni_plugin.filter.expressions import (
    INET_V4,
    INET_V6,
    IP6_DESTINATION,
    IP6_SOURCE,
    IP_DESTINATION,
    IP_SOURCE,
    MASQUERADE,
    RETURN,
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
_DESTINATION = {4: IP_DESTINATION, 6: IP6_DESTINATION}
_IS = {4: INET_V4, 6: INET_V6}
_MULTICAST = (ip_network("224.0.0.0/4"), ip_network("ff00::/8"))  # a group has no way back


def kept(cidrs: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    """The destinations that keep the pod's source address: each once, multicast included."""
    everything = (*cidrs, *_MULTICAST)
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
    return (
        network_chain(cidrs),
        RuleChain("inet", "postrouting", POSTROUTING, _ENTER),
    )


def network_chain(cidrs: tuple[IPNetwork, ...]) -> RuleChain:
    """One network's chain: the kept destinations leave it, the rest is masqueraded."""
    name = chain_name(cidrs)
    returns = tuple(
        Rule(name, (_IS[cidr.version], within(_DESTINATION[cidr.version], cidr), RETURN))
        for cidr in kept(cidrs)
    )
    return RuleChain("inet", name, None, (*returns, Rule(name, (MASQUERADE,))))


_ENTER = (
    Rule("postrouting", (INET_V4, verdict_map("masq4", IP_SOURCE))),
    Rule("postrouting", (INET_V6, verdict_map("masq6", IP6_SOURCE))),
)


def desired_elements(
    link: str, addresses: Iterable[IPAddress], cidrs: tuple[IPNetwork, ...]
) -> tuple[Element, ...]:
    """One element an address. link: the host's end of the pod's veth, kept as the owner."""
    name = chain_name(cidrs)
    return tuple(
        Element("inet", f"masq{address.version}", (str(address),), goto=name, owner=link)
        for address in addresses
    )
