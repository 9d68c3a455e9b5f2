"""The rules as `nft` would show them, and which of them a pod adds to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from cni_plugin.filter import guard, masquerade, presence
from cni_plugin.filter.tables import FAMILY_SETS, SETS
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Lookup, Verdict

MAC = "02:00:5e:00:00:01"
V4, V6 = ip_address("10.244.0.2"), ip_address("2001:db8::2")
ENTER = (
    "iifname != pw* return",
    "iifname @ports goto guard",
    "iifname @mac_ports jump mac-guard",
    "iifname @ip_ports jump ip-guard",
)
POD_CIDRS = (ip_network("10.244.0.0/24"), ip_network("2001:db8::/64"))


def shown(chains: tuple[RuleChain, ...]) -> dict[str, list[str]]:
    return {chain.name: [rule.text for rule in chain.rules] for chain in chains}


def test_the_guard_of_bridge_ports() -> None:
    assert shown(guard.desired_chains("bridge")) == {
        "mac-guard": [
            "ether type 8021q drop",
            "ether type 8021ad drop",
            "iifname . ether saddr != @macs drop",
            "meta protocol arp iifname . arp saddr ether != @macs drop",
        ],
        "ip-guard": [
            "meta protocol arp arp saddr ip 0.0.0.0 return",
            "meta protocol arp iifname . arp saddr ip @source4 return",
            "meta protocol ip iifname . ip saddr @source4 return",
            "meta protocol ip ip saddr 0.0.0.0 meta l4proto udp udp dport 67 return",
            "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 134 drop",
            "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 137 drop",
            (
                "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 136"
                " iifname . icmpv6 taddr != @source6 drop"
            ),
            "meta protocol ip6 iifname . ip6 saddr @source6 return",
            (
                "meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135"
                " iifname . icmpv6 taddr != @source6 drop"
            ),
            "meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp return",
            "drop",
        ],
        "guard": [
            "jump mac-guard",
            "meta protocol arp arp saddr ip 0.0.0.0 return",
            "meta protocol arp iifname . ether saddr . arp saddr ip @own4 return",
            "meta protocol ip iifname . ether saddr . ip saddr @own4 return",
            "meta protocol ip ip saddr 0.0.0.0 meta l4proto udp udp dport 67 return",
            "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 134 drop",
            "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 137 drop",
            (
                "meta protocol ip6 meta l4proto ipv6-icmp icmpv6 type 136"
                " iifname . ether saddr . icmpv6 taddr != @own6 drop"
            ),
            "meta protocol ip6 iifname . ether saddr . ip6 saddr @own6 return",
            (
                "meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135"
                " iifname . ether saddr . icmpv6 taddr != @own6 drop"
            ),
            "meta protocol ip6 ip6 saddr :: meta l4proto ipv6-icmp return",
            "drop",
        ],
        "prerouting": [
            (
                "meta protocol ip ether type != 8021q ether type != 8021ad"
                " iifname pw* iifname . ether saddr . ip saddr @own4 return"
            ),
            (
                "meta protocol ip6 meta l4proto != ipv6-icmp"
                " ether type != 8021q ether type != 8021ad"
                " iifname pw* iifname . ether saddr . ip6 saddr @own6 return"
            ),
            *ENTER,
        ],
    }


def test_the_guard_of_routed_links() -> None:
    assert shown(guard.desired_chains("inet")) == {
        "mac-guard": ["iifname . ether saddr != @macs drop"],
        "ip-guard": [
            "meta nfproto ipv4 iifname . ip saddr @source4 return",
            "meta nfproto ipv4 ip saddr 0.0.0.0 meta l4proto udp udp dport 67 return",
            "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 134 drop",
            "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 137 drop",
            (
                "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 136"
                " iifname . icmpv6 taddr != @source6 drop"
            ),
            "meta nfproto ipv6 iifname . ip6 saddr @source6 return",
            (
                "meta nfproto ipv6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135"
                " iifname . icmpv6 taddr != @source6 drop"
            ),
            "meta nfproto ipv6 ip6 saddr :: meta l4proto ipv6-icmp return",
            "drop",
        ],
        "guard": [
            "jump mac-guard",
            "meta nfproto ipv4 iifname . ether saddr . ip saddr @own4 return",
            "meta nfproto ipv4 ip saddr 0.0.0.0 meta l4proto udp udp dport 67 return",
            "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 134 drop",
            "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 137 drop",
            (
                "meta nfproto ipv6 meta l4proto ipv6-icmp icmpv6 type 136"
                " iifname . ether saddr . icmpv6 taddr != @own6 drop"
            ),
            "meta nfproto ipv6 iifname . ether saddr . ip6 saddr @own6 return",
            (
                "meta nfproto ipv6 ip6 saddr :: meta l4proto ipv6-icmp icmpv6 type 135"
                " iifname . ether saddr . icmpv6 taddr != @own6 drop"
            ),
            "meta nfproto ipv6 ip6 saddr :: meta l4proto ipv6-icmp return",
            "drop",
        ],
        "prerouting": [
            "meta nfproto ipv4 iifname pw* iifname . ether saddr . ip saddr @own4 return",
            (
                "meta nfproto ipv6 meta l4proto != ipv6-icmp"
                " iifname pw* iifname . ether saddr . ip6 saddr @own6 return"
            ),
            *ENTER,
        ],
    }


def test_masquerade_keeps_the_pods_own_networks_and_multicast() -> None:
    kept = (*POD_CIDRS, ip_network("198.51.100.0/24"))
    name = masquerade.chain_name(kept)
    assert shown(masquerade.desired_chains(kept)) == {
        name: [
            "meta nfproto ipv4 ip daddr 10.244.0.0/24 return",
            "meta nfproto ipv4 ip daddr 198.51.100.0/24 return",
            "meta nfproto ipv4 ip daddr 224.0.0.0/4 return",
            "meta nfproto ipv6 ip6 daddr 2001:db8::/64 return",
            "meta nfproto ipv6 ip6 daddr ff00::/8 return",
            "masquerade fully-random",
        ],
        "postrouting": [
            "meta nfproto ipv4 ip daddr @cluster4 return",
            "meta nfproto ipv4 ip daddr @kept4 return",
            "meta nfproto ipv4 ip saddr vmap @masq4",
            "meta nfproto ipv4 ip saddr @local4 masquerade fully-random",
            "meta nfproto ipv6 ip6 daddr @cluster6 return",
            "meta nfproto ipv6 ip6 daddr @kept6 return",
            "meta nfproto ipv6 ip6 saddr vmap @masq6",
            "meta nfproto ipv6 ip6 saddr @local6 masquerade fully-random",
        ],
    }


# names and marks ---------------------------------------------------------------------------------


def test_a_masquerade_chain_is_named_by_what_it_does() -> None:
    assert masquerade.chain_name(POD_CIDRS) == masquerade.chain_name(tuple(reversed(POD_CIDRS)))
    assert masquerade.chain_name(POD_CIDRS) != masquerade.chain_name(POD_CIDRS[:1])


def test_ranges_that_mean_the_same_share_a_chain() -> None:
    halves = (ip_network("10.244.0.0/25"), ip_network("10.244.0.128/25"))
    assert masquerade.chain_name(halves) == masquerade.chain_name(POD_CIDRS[:1])


def test_a_networks_chain_is_told_from_the_base_chain() -> None:
    network, base = masquerade.desired_chains(POD_CIDRS)
    assert masquerade.is_network_chain(network)
    assert not masquerade.is_network_chain(base)


@pytest.mark.parametrize("family", ["inet", "bridge"])
def test_every_rule_of_a_chain_has_a_mark_of_its_own(family: str) -> None:
    for chain in guard.desired_chains(family):
        marks = [rule.mark for rule in chain.rules]
        assert len(set(marks)) == len(marks)


@pytest.mark.parametrize("family", ["inet", "bridge"])
def test_every_rule_belongs_to_its_chain_and_uses_sets_and_chains_that_are_there(
    family: str,
) -> None:
    chains = guard.desired_chains(family)
    if family == "inet":
        chains += masquerade.desired_chains(POD_CIDRS)
    made = [chain.name for chain in chains]
    for chain in chains:
        assert {rule.chain for rule in chain.rules} <= {chain.name}
        for expr in (expr for rule in chain.rules for expr in rule.exprs):
            if isinstance(expr, Lookup):
                assert expr.set in FAMILY_SETS[family]
            if isinstance(expr, Verdict) and expr.chain:
                # The kernel wants a jump's target to be there before the rule.
                assert made.index(expr.chain) < made.index(chain.name)


def test_a_prefix_is_compared_under_its_mask() -> None:
    chain = masquerade.network_chain((ip_network("10.244.0.0/20"),))
    mask, compare = chain.rules[0].exprs[3:5]
    assert (mask[0], compare[0]) == (b"\xff\xff\xf0\x00", b"\x0a\xf4\x00\x00")


# elements ----------------------------------------------------------------------------------------


def _guarded(*, check_mac: bool = True, check_ip: bool = True) -> set[tuple[str, ...]]:
    made = guard.desired_elements(
        "bridge", "pwabc", MAC, (V4, V6), check_mac=check_mac, check_ip=check_ip
    )
    assert {element.owner for element in made} <= {"pwabc"}
    return {(element.set, *element.key) for element in made}


MACS = {("mac_ports", "pwabc"), ("macs", "pwabc", MAC)}
IPS = {
    ("ip_ports", "pwabc"),
    ("source4", "pwabc", "10.244.0.2"),
    ("source6", "pwabc", "2001:db8::2"),
    ("source6", "pwabc", "fe80::5eff:fe00:1"),
}


def test_a_pod_may_use_its_mac_its_addresses_and_its_link_local_one() -> None:
    assert _guarded() == {
        ("ports", "pwabc"),
        ("macs", "pwabc", MAC),
        ("own4", "pwabc", MAC, "10.244.0.2"),
        ("own6", "pwabc", MAC, "2001:db8::2"),
        ("own6", "pwabc", MAC, "fe80::5eff:fe00:1"),
    }


def test_each_guard_can_be_had_alone() -> None:
    assert _guarded(check_ip=False) == MACS
    assert _guarded(check_mac=False) == IPS
    assert _guarded(check_mac=False, check_ip=False) == set()


def test_a_masqueraded_address_leads_to_its_networks_chain() -> None:
    chain = masquerade.chain_name(POD_CIDRS)
    assert masquerade.desired_elements("pwabc", (V4, V6), POD_CIDRS) == (
        Element("inet", "masq4", ("10.244.0.2",), chain, "pwabc"),
        Element("inet", "masq6", ("2001:db8::2",), chain, "pwabc"),
    )


def test_an_address_in_use_is_known_by_network() -> None:
    assert presence.desired_elements("net", "pwabc", (V4,)) == (
        Element("inet", "pods4", ("net", "10.244.0.2"), owner="pwabc"),
    )


@pytest.mark.parametrize("network", ["n", "n" * 15, "n" * 16, "n" * 200])
def test_a_networks_label_fits_the_field(network: str) -> None:
    assert len(presence.label(network).encode()) <= 15
    assert presence.label(network) != presence.label(network + "x")


def test_every_element_has_as_many_parts_as_its_set_has_fields() -> None:
    made = (
        *guard.desired_elements("inet", "pwabc", MAC, (V4, V6), check_mac=True, check_ip=True),
        *masquerade.desired_elements("pwabc", (V4, V6), POD_CIDRS),
        *presence.desired_elements("net", "pwabc", (V4, V6)),
    )
    assert all(len(element.key) == len(SETS[element.set]) for element in made)
