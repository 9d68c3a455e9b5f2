"""What is wanted after any story of changes is what a backend says of the last view."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.backend import BACKENDS, desired
from cni_plugin.backend.view import Settings, View
from cni_plugin.cluster import filtering
from cni_plugin.cluster.desired import Desired
from cni_plugin.cluster.filtering import Policy
from cni_plugin.cluster.values import Node, Underlay
from cni_plugin.model.objects import key

UNDERLAY = Underlay("eth0", ip_interface("192.0.2.1/24"), 1500)
ME = Node("me", (ip_network("10.244.0.0/24"),), (ip_address("192.0.2.1"),))

# Ranges are shared out among the nodes: one may move from a node to another.
cidrs = st.integers(1, 4).map(lambda n: (ip_network(f"10.244.{n}.0/24"),))
outer = st.tuples(st.sampled_from(["192.0.2", "198.51.100"]), st.integers(2, 9)).map(
    lambda pair: (ip_address(f"{pair[0]}.{pair[1]}"),)
)
nodes = st.builds(Node, st.sampled_from("abcd"), cidrs, outer)
peers = st.lists(
    nodes, max_size=4, unique_by=(lambda one: one.name, lambda one: one.pod_cidrs)
).map(tuple)
views = st.builds(
    View,
    st.just(ME),
    peers,
    st.sampled_from([(UNDERLAY,), (UNDERLAY._replace(mtu=1400),)]),
    st.just(Settings()),
)


@given(story=st.lists(st.tuples(st.sampled_from(BACKENDS), views), min_size=1, max_size=6))
def test_the_last_view_counts(story: list[tuple[str, View]]) -> None:
    policy = Policy((), True, (ip_network("203.0.113.0/24"),))
    kept = Desired(policy)
    for name, view in story:
        before = dict(kept.objects)
        change = kept.update(name, view)
        guarded = filtering.is_guarded(name, view)
        filtered = [*filtering.common(policy, view, guarded=guarded)]
        filtered += [obj for peer in view.peers for obj in filtering.of_peer(policy, peer)]
        whole = {key(obj): obj for obj in (*desired(name, view), *filtered)}
        assert kept.objects == whole
        assert change.wanted == {k: obj for k, obj in whole.items() if before.get(k) != obj}
        assert change.gone == {k: obj for k, obj in before.items() if k not in whole}
