"""Events in any order, and again: what counts is the newest of each node."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.cluster.kube_view import View
from cni_plugin.cluster.values import Cluster, Node
from tests.support.kube_api import node_object


def event(kind: str, name: str, version: int, backend: str = "") -> tuple[str, dict]:
    item = node_object(name, annotations={"podwire.io/backend": backend})
    item["metadata"]["resourceVersion"] = str(version)
    return kind, item


@given(st.data())
def test_the_newest_of_each_node_counts_in_any_order(data):
    history = []
    alive: dict[str, str] = {}
    for version in range(1, data.draw(st.integers(1, 12)) + 1):
        name = data.draw(st.sampled_from("abc"))
        if name in alive and data.draw(st.booleans()):
            del alive[name]
            history.append(event("DELETED", name, version))
        else:
            kind = "MODIFIED" if name in alive else "ADDED"
            alive[name] = data.draw(st.sampled_from(["local", "vxlan", "host-gw"]))
            history.append(event(kind, name, version, alive[name]))
    twice = data.draw(st.lists(st.sampled_from(history), max_size=4))
    view = View()
    for kind, item in data.draw(st.permutations([*history, *twice])):
        view.apply(kind, item)
    wanted = tuple(Node(name, backend=backend) for name, backend in sorted(alive.items()))
    assert view.cluster() == Cluster(wanted)


def test_versions_that_are_no_numbers_count_in_the_order_of_their_coming():
    view = View()
    for kind, name in (("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a")):
        item = node_object(name)
        item["metadata"]["resourceVersion"] = f"opaque-{kind}"
        assert view.apply(kind, item)
    assert view.cluster() == Cluster((Node("b"),))


def test_a_bookmark_moves_the_version_only():
    view = View()
    assert not view.apply("BOOKMARK", {"metadata": {"resourceVersion": "77"}})
    assert view.version == "77"
    assert view.cluster() == Cluster()


def test_a_list_replaces_everything():
    view = View()
    view.apply(*event("ADDED", "a", 5))
    listing = view.listing()
    listing.take(event("", "b", 6)[1])
    view.replace(listing, "9")
    assert (view.cluster(), view.version) == (Cluster((Node("b"),)), "9")
    assert not view.apply(*event("MODIFIED", "b", 6))


def test_what_is_older_than_the_list_is_in_it():
    view = View()
    listing = view.listing()
    listing.take(event("", "b", 6, "vxlan")[1])
    view.replace(listing, "9")
    assert not view.apply(*event("ADDED", "a", 8))  # gone again before the list was made
    assert not view.apply(*event("MODIFIED", "b", 7, "local"))
    assert not view.apply(*event("DELETED", "b", 5))
    assert view.cluster() == Cluster((Node("b", backend="vxlan"),))
    assert view.apply(*event("DELETED", "b", 10))
