"""What is remembered of nodes that were good changes nothing of what is admitted."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.cluster.admission import Rules, admit
from cni_plugin.cluster.sound import Sound
from cni_plugin.cluster.values import Cluster, Node

# Few enough that they meet, good ones among them.
CIDRS = (
    "10.244.1.0/24", "10.244.2.0/24", "10.244.2.0/25", "10.244.0.0/22", "10.244.3.0/24",
    "10.250.1.0/24", "192.0.2.0/28",
)  # fmt: skip
CIDRS6 = ("2001:db8:244:1::/64", "2001:db8:244:2::/64", "2001:db8:244::/60", "::/0")
ADDRESSES = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "10.244.2.9", "127.0.0.1")
ADDRESSES6 = ("2001:db8:1::1", "2001:db8:1::2", "2001:db8:244:1::9", "fe80::1")


def one_each(*listed: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    """At most one of each."""
    each = [st.lists(st.sampled_from(values), max_size=1) for values in listed]
    return st.tuples(*each).map(lambda found: tuple(one for some in found for one in some))


nodes = st.builds(
    Node,
    st.sampled_from(["me", "a", "b", "c"]),
    one_each(CIDRS, CIDRS6).map(lambda found: tuple(map(ip_network, found))),
    one_each(ADDRESSES, ADDRESSES6).map(lambda found: tuple(map(ip_address, found))),
    st.sampled_from([(), ((4, "02:00:5e:00:00:01"),), ((4, "02:00:5e:00:00:02"),)]),
)
rules = st.builds(
    Rules,
    st.sampled_from([(), (ip_network("10.244.0.0/16"), ip_network("2001:db8:244::/48"))]),
    st.sampled_from([(), (ip_network("10.244.3.0/24"),)]),
)
underlays = st.sampled_from([(), (ip_network("192.0.2.0/24"),)])


@given(
    known=st.lists(nodes, min_size=1, max_size=6),
    picks=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=4),
    limits=st.lists(st.tuples(rules, underlays), min_size=1, max_size=2),
)
def test_a_memory_of_nodes_changes_nothing(
    known: list[Node], picks: list[set[int]], limits: list[tuple[Rules, tuple[object, ...]]]
) -> None:
    sound = Sound()
    for turn, pick in enumerate(picks):
        listed = tuple(known[index] for index in sorted(pick) if index < len(known))
        cluster = Cluster(listed)
        allowed, underlay = limits[turn % len(limits)]
        closely = admit(cluster, "me", allowed, underlay)  # type: ignore[arg-type]
        assert admit(cluster, "me", allowed, underlay, sound=sound) == closely  # type: ignore[arg-type]
