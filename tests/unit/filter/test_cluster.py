"""The cluster's rules follow from the config alone; what comes with the nodes are elements."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import product

import pytest

from cni_plugin.filter import masquerade
from cni_plugin.filter.cluster import (
    SETS,
    Options,
    apart,
    desired_chains,
    desired_elements,
    node_elements,
    obsolete_chains,
)
from cni_plugin.filter.tables import FAMILY_SETS
from cni_plugin.model.rules import Lookup
from ipam.values import IPNetwork

ALL = [Options(*each) for each in product((None, 8472), (False, True), (None, 64))]
LOCAL = (ip_network("10.244.1.0/24"), ip_network("2001:db8:1::/64"))


def networks(*texts: str) -> tuple[IPNetwork, ...]:
    return tuple(map(ip_network, texts))


def shown(options: Options, name: str) -> list[str]:
    """The IPv4 rules of a chain, without what they have in common."""
    texts = [
        rule.text for chain in desired_chains(options) if chain.name == name for rule in chain.rules
    ]
    common = "meta nfproto ipv4 "
    return [text.removeprefix(common) for text in texts if text.startswith(common)]


@pytest.mark.parametrize("options", ALL, ids=str)
def test_each_chain_is_wanted_or_obsolete(options: Options) -> None:
    wanted, obsolete = desired_chains(options), obsolete_chains(options)
    names = [chain.name for chain in (*wanted, *obsolete)]
    assert sorted(names) == ["cluster-forward", "cluster-input", "postrouting"]
    assert all(chain.rules for chain in wanted)
    assert wanted[0] == masquerade.desired_chains(())[1]  # the one that ADD makes


@pytest.mark.parametrize("options", ALL, ids=str)
def test_both_ip_versions_have_the_same_rules(options: Options) -> None:
    for chain in desired_chains(options):
        texts = [rule.text for rule in chain.rules]
        four, six = texts[: len(texts) // 2], texts[len(texts) // 2 :]
        assert [_as_ipv4(text) for text in six] == four


def _as_ipv4(text: str) -> str:
    for name in ("local", "cluster", "kept", "nodes", "masq", "ipv"):
        text = text.replace(f"{name}6", f"{name}4")
    return text.replace("ip6 ", "ip ").replace("hoplimit", "ttl")


@pytest.mark.parametrize("options", ALL, ids=str)
def test_every_set_is_there_and_every_mark_is_one_of_a_kind(options: Options) -> None:
    for chain in desired_chains(options):
        exprs = [expr for rule in chain.rules for expr in rule.exprs]
        assert {expr.set for expr in exprs if isinstance(expr, Lookup)} <= set(FAMILY_SETS["inet"])
        assert len({rule.mark for rule in chain.rules}) == len(chain.rules)


def test_the_tunnel() -> None:
    options = Options(vxlan_port=4789)
    assert shown(options, "cluster-input") == [
        "meta l4proto udp udp dport 4789 ip saddr != @nodes4 drop"
    ]
    assert shown(options, "cluster-forward") == [
        "meta l4proto udp udp dport 4789 ip daddr @nodes4 iifname != @underlays drop"
    ]


def test_another_config_is_another_rule() -> None:
    marks = {
        tuple(rule.mark for chain in desired_chains(options) for rule in chain.rules)
        for options in (*ALL, Options(4789), Options(egress_ttl=65))
    }
    assert len(marks) == len(ALL) + 2


def test_a_nodes_own_range_is_one_of_the_clusters() -> None:
    keys = [(one.set, *one.key) for one in desired_elements(LOCAL, (), (), ["eth0", "eth0"])]
    assert keys == [
        ("local4", "10.244.1.0/24"), ("local6", "2001:db8:1::/64"),
        ("cluster4", "10.244.1.0/24"), ("cluster6", "2001:db8:1::/64"),
        ("kept4", "224.0.0.0/4"), ("kept6", "ff00::/8"),
        ("underlays", "eth0"),
    ]  # fmt: skip


def test_a_range_inside_another_is_not_an_element_of_its_own() -> None:
    made = desired_elements(
        LOCAL, networks("10.244.0.0/16", "10.244.2.0/24"), networks("0.0.0.0/0")
    )
    keys = {(one.set, *one.key) for one in made}
    assert {key for key in keys if key[0] in ("cluster4", "kept4")} == {
        ("cluster4", "10.244.0.0/16"),
        ("kept4", "0.0.0.0/0"),
    }


def test_neighbours_stay_apart_so_that_a_node_is_always_the_same_elements() -> None:
    halves = networks("10.244.0.0/25", "10.244.0.128/25", "10.244.0.128/25", "::/0")
    assert apart(reversed(halves)) == (halves[0], halves[1], halves[3])


def test_a_node_is_an_element_an_address() -> None:
    addresses = [*map(ip_address, ("192.0.2.1", "2001:db8::1", "192.0.2.1"))]
    assert [(one.set, *one.key) for one in node_elements(addresses)] == [
        ("nodes4", "192.0.2.1"),
        ("nodes6", "2001:db8::1"),
    ]


def test_all_its_elements_are_in_its_own_sets() -> None:
    made = desired_elements(LOCAL, LOCAL, networks("192.0.2.0/24"), ["eth0"])
    made += node_elements([ip_address("192.0.2.1"), ip_address("2001:db8::1")])
    assert {one.set for one in made} == set(SETS)
    assert {one.family for one in made} == {"inet"}
