"""Which ranges and addresses of a cluster are used."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from cni_plugin.cluster.admission import Admitted, Rules, admit
from cni_plugin.cluster.sound import Sound
from cni_plugin.cluster.values import Cluster, Node, Refused

RULES = Rules((ip_network("10.244.0.0/16"), ip_network("2001:db8:244::/48")),
              (ip_network("10.244.96.0/20"), ip_network("2001:db8:244:ffff::/112")))  # fmt: skip
UNDERLAY = (ip_network("192.0.2.0/24"), ip_network("2001:db8:1::/64"))


def node(name: str, cidrs: Sequence[str] = (), addresses: Sequence[str] = ()) -> Node:
    return Node(name, tuple(map(ip_network, cidrs)), tuple(map(ip_address, addresses)))


ME = node("me", ["10.244.1.0/24", "2001:db8:244:1::/64"], ["192.0.2.1", "2001:db8:1::1"])


def admitted(*nodes: Node, rules: Rules = RULES, before: Admitted | None = None) -> Admitted:
    claims = before.claims if before else {}
    return admit(Cluster((*nodes, ME)), "me", rules, UNDERLAY, claims)


def test_a_range_that_is_refused_refuses_nobody() -> None:
    """The outer one overlaps the first's; the third's overlaps the outer one alone."""
    first, third = node("c", ["10.244.34.0/24"]), node("b", ["10.244.33.0/24"])
    outer = node("a", ["10.244.32.0/20"])
    found = admitted(first, outer, third)
    assert [peer.pod_cidrs for peer in found.peers] == [first.pod_cidrs, (), third.pod_cidrs]
    assert [(one.node, one.reason) for one in found.refused] == [("a", "overlaps-node")]


def test_what_is_right_is_used_as_it_is() -> None:
    peer = node("b", ["10.244.2.0/24", "2001:db8:244:2::/64"], ["192.0.2.2", "2001:db8:1::2"])
    found = admitted(peer)
    assert found == Admitted(ME, (peer,), ())
    assert found.me is ME
    assert found.peers[0] is peer


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("10.250.0.0/24", "outside-cluster-range"),
        ("10.0.0.0/8", "outside-cluster-range"),
        ("0.0.0.0/0", "outside-cluster-range"),
        ("2001:db8:245::/64", "outside-cluster-range"),
        ("10.244.96.0/24", "overlaps-service-range"),
        ("10.244.64.0/18", "overlaps-service-range"),
        ("2001:db8:244:ffff::/64", "overlaps-service-range"),
        ("10.244.1.0/24", "overlaps-own"),
        ("10.244.1.128/25", "overlaps-own"),
        ("10.244.0.0/20", "overlaps-own"),
        ("2001:db8:244::/60", "overlaps-own"),
    ],
)
def test_a_range_that_may_not_be_is_left_out_and_the_rest_of_its_node_used(
    cidr: str, reason: str
) -> None:
    peer = node("b", ["10.244.2.0/24", cidr], ["192.0.2.2"])
    found = admitted(peer)
    assert found.peers == (peer._replace(pod_cidrs=peer.pod_cidrs[:1]),)
    (refused,) = found.refused
    assert (refused.node, refused.reason) == ("b", reason)
    assert cidr in refused.text


@pytest.mark.parametrize(
    ("cidr", "held"),
    [("203.0.113.0/24", "203.0.113.9/32"), ("2001:db8:ffff::/64", "2001:db8:ffff::9/128")],
)
def test_nobodys_pods_are_where_the_kubernetes_api_is(cidr: str, held: str) -> None:
    rules = Rules(servers=(ip_network("203.0.113.9/32"), ip_network("2001:db8:ffff::9/128")))
    (refused,) = admitted(node("b", [cidr]), rules=rules).refused
    assert refused.reason == "overlaps-api"
    assert f"overlaps the address of the Kubernetes API, {held}: give" in refused.text


@pytest.mark.parametrize(
    ("cidr", "reason"),
    [
        ("0.0.0.0/0", "overlaps-underlay"),
        ("192.0.2.128/25", "overlaps-underlay"),
        ("::/0", "overlaps-underlay"),
        ("198.51.100.0/24", "contains-node-address"),
    ],
)
def test_without_a_cluster_range_the_nodes_own_addresses_are_safe(cidr: str, reason: str) -> None:
    found = admitted(node("b", [cidr], ["198.51.100.7"]), rules=Rules())
    assert [(one.node, one.reason) for one in found.refused] == [("b", reason)]
    assert found.peers[0].pod_cidrs == ()


def test_of_two_nodes_with_one_range_the_earlier_in_the_list_has_it() -> None:
    one, two = node("b", ["10.244.2.0/24"]), node("c", ["10.244.2.0/25"])
    assert [peer.pod_cidrs for peer in admitted(one, two).peers] == [one.pod_cidrs, ()]
    assert [peer.pod_cidrs for peer in admitted(two, one).peers] == [two.pod_cidrs, ()]
    assert admitted(one, two).refused[0].reason == "overlaps-node"


def test_a_range_that_moves_goes_over_when_its_old_node_is_gone() -> None:
    """The add of the new node may come before the delete of the old one."""
    old, new = node("z", ["10.244.2.0/24"]), node("b", ["10.244.2.0/24"])
    first = admitted(old)
    between = admitted(new, old, before=first)
    assert {peer.name: len(peer.pod_cidrs) for peer in between.peers} == {"z": 1, "b": 0}
    after = admitted(new, before=between)
    assert after.peers == (new,)
    assert after.refused == ()


def test_a_large_range_does_not_take_what_others_have() -> None:
    small = [node(f"n{i}", [f"10.244.{i}.0/24"]) for i in (4, 5, 7)]
    found = admitted(node("big", ["10.244.4.0/22"]), *small, before=admitted(*small))
    assert [(one.node, one.reason) for one in found.refused] == [("big", "overlaps-node")]
    assert found.peers[1:] == tuple(small)


@pytest.mark.parametrize("address", ["10.244.2.9", "2001:db8:244:2::9"])
def test_a_newcomer_whose_address_lies_in_a_used_range_is_the_one_that_is_refused(
    address: str,
) -> None:
    peer = node("b", ["10.244.2.0/24", "2001:db8:244:2::/64"], ["192.0.2.2", "2001:db8:1::2"])
    other = "2001:db8:1::3" if "." in address else "192.0.2.3"
    newcomer = node("a", ["10.244.3.0/24"], [address, other])
    first = admitted(peer)
    for before in (first, admitted(newcomer, peer, before=first)):
        found = admitted(newcomer, peer, before=before)
        assert found.peers == (newcomer._replace(addresses=newcomer.addresses[1:]), peer)
        (refused,) = found.refused
        assert (refused.node, refused.reason) == ("a", "inside-node-range")
        assert f"{address} of a lies in" in refused.text
    found = admitted(newcomer, before=first)
    assert (found.peers, found.refused) == ((newcomer,), ()), "when the range is gone it is used"


def test_nor_does_a_newcomer_take_this_nodes_range() -> None:
    newcomer = node("a", ["10.244.3.0/24"], ["10.244.1.9"])
    found = admitted(newcomer, before=admitted())
    assert (found.me, found.peers[0].addresses) == (ME, ())


@pytest.mark.parametrize(
    ("range_", "addresses", "others"),
    [
        ("10.244.2.0/24", ["10.244.2.9"], []),  # its own address
        ("192.0.2.0/30", [], []),  # this node's
        ("10.244.2.0/24", [], ["10.244.2.9"]),  # any, of a range that is new
    ],
)
def test_otherwise_the_range_is(range_: str, addresses: list[str], others: list[str]) -> None:
    peer, third = node("b", [range_], addresses), node("c", [], others)
    before = {} if others else {"b": peer.pod_cidrs}
    found = admit(Cluster((peer, third, ME)), "me", Rules(), (), before)
    assert [(one.node, one.reason) for one in found.refused] == [("b", "contains-node-address")]


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "127.0.0.1", "224.0.0.1", "::1", "fe80::1", "ff02::1", "::ffff:192.0.2.2"],
)
def test_an_address_that_is_nobodys_is_left_out(address: str) -> None:
    found = admitted(node("b", ["10.244.2.0/24"], [address]))
    assert [one.reason for one in found.refused] == ["bad-address"]
    assert found.peers[0].addresses == ()


def test_nobody_takes_this_nodes_address() -> None:
    found = admitted(node("b", [], ["192.0.2.1"]), node("c", [], ["192.0.2.3"]))
    assert [(one.node, one.reason) for one in found.refused] == [("b", "duplicate-address")]
    assert found.me == ME


def test_two_nodes_never_have_one_mac() -> None:
    mac = ((4, "02:00:5e:00:00:01"),)
    one, two = node("b")._replace(vtep_macs=mac), node("c")._replace(vtep_macs=mac)
    found = admitted(one, two)
    assert found.peers == (one, two._replace(vtep_macs=()))
    assert [(refused.node, refused.reason) for refused in found.refused] == [("c", "duplicate-mac")]


def test_the_own_range_is_checked_too() -> None:
    me = ME._replace(pod_cidrs=(ip_network("10.250.0.0/24"),))
    found = admit(Cluster((me,)), "me", RULES, UNDERLAY)
    assert found.me == me._replace(pod_cidrs=())
    assert found.refused[0].reason == "outside-cluster-range"


def test_a_source_that_does_not_know_this_node_and_what_it_refused_itself() -> None:
    refused = Refused("c", "garbage", "podCIDR is x")
    found = admit(Cluster((node("b"),), (refused,)), "me", RULES)
    assert (found.me, found.refused) == (None, (refused,))


def test_nodes_that_are_all_good_are_sound_and_one_that_is_not_spoils_it() -> None:
    peer = node("b", ["10.244.2.0/24", "2001:db8:244:2::/64"], ["192.0.2.2", "2001:db8:1::2"])
    barred, sound = (*RULES.services, *UNDERLAY), Sound()
    assert sound.is_sound(Cluster((ME, peer)), RULES.cluster, barred)
    assert not sound.is_sound(Cluster((ME, peer, peer)), RULES.cluster, barred)
    assert not sound.is_sound(
        Cluster((ME, peer, node("c", ["10.244.2.0/25"]))), RULES.cluster, barred
    )
    assert sound.is_sound(Cluster((ME, peer)), RULES.cluster, barred)
    assert not sound.is_sound(Cluster((ME, peer)), RULES.cluster[:1], barred)
