"""Node objects of the API -> values, whatever they hold."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.cluster.kube_node import annotations_patch, digest_of, node_of, version_of
from cni_plugin.cluster.values import Node, Refused
from tests.support.kube_api import merged, node_object


def test_a_dual_stack_node_in_either_order():
    wanted = Node(
        "n",
        (ip_network("10.244.1.0/24"), ip_network("2001:db8:0:1::/64")),
        (ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    )
    cidrs, addresses = list(map(str, wanted.pod_cidrs)), list(map(str, wanted.addresses))
    assert node_of(node_object("n", cidrs, addresses)) == wanted
    assert node_of(node_object("n", cidrs[::-1], addresses[::-1])) == wanted


def test_an_old_api_tells_pod_cidr_only():
    item = node_object("n", ["10.244.1.0/24"])
    del item["spec"]["podCIDRs"]
    assert node_of(item) == Node("n", (ip_network("10.244.1.0/24"),))


@pytest.mark.parametrize("spec", [{}, {"podCIDR": ""}, {"podCIDRs": []}, {"podCIDRs": None}])
def test_a_node_without_a_range_yet_is_a_node(spec):
    assert node_of({"metadata": {"name": "n"}, "spec": spec}) == Node("n")


def test_the_first_internal_ip_of_a_version_counts():
    item = node_object("n", [], ["192.0.2.1", "192.0.2.2"])
    item["status"]["addresses"].insert(0, {"type": "ExternalIP", "address": "198.51.100.1"})
    assert node_of(item) == Node("n", (), (ip_address("192.0.2.1"),))


def test_annotations_tell_backend_macs_and_public_address():
    item = node_object(
        "n",
        [],
        ["192.0.2.1", "2001:db8::1"],
        {
            "podwire.io/backend": "vxlan",
            "podwire.io/vtep-mac-ipv4": "02-00-00-00-00-0A",
            "podwire.io/vtep-mac-ipv6": "02:00:00:00:00:0b",
            "podwire.io/public-address": "198.51.100.1",
            "other.io/public-address": "198.51.100.2",
        },
    )
    assert node_of(item) == Node(
        "n",
        (),
        (ip_address("198.51.100.1"), ip_address("2001:db8::1")),
        ((4, "02:00:00:00:00:0a"), (6, "02:00:00:00:00:0b")),
        "vxlan",
    )


@pytest.mark.parametrize(
    ("cidrs", "addresses", "annotations", "reason", "words"),
    [
        (["10.244.1.7/24"], [], {}, "podcidr", "without host bits, here 10.244.1.0/24"),
        (["10.244.1.0/33"], [], {}, "podcidr", "10.244.1.0/33"),
        (["10.244.1.0/24", 7], [], {}, "podcidr", "is 7, accepted"),
        (["10.244.1.0/24", "10.244.2.0/24"], [], {}, "podcidr", "more than one range"),
        (["0.0.0.0/0"], [], {}, "podcidr", "no range for pods"),
        (["127.0.0.0/24"], [], {}, "podcidr", "no range for pods"),
        (["fe80::/64"], [], {}, "podcidr", "no range for pods"),
        (["10.0.0.0/24"] * 33, [], {}, "list", "a list of at most 32"),
        ([], ["192.0.2.1; reboot"], {}, "address", '"192.0.2.1; reboot"'),
        ([], ["127.0.0.1"], {}, "address", "where no other node is reached"),
        ([], ["fe80::1"], {}, "address", "where no other node is reached"),
        ([], [None], {}, "address", "an InternalIP is null"),
        ([], [], {"podwire.io/backend": "$(reboot)"}, "annotation", "accepted: local, host-gw"),
        ([], [], {"podwire.io/backend": {"a": 1}}, "annotation", "accepted: local, host-gw"),
        ([], [], {"podwire.io/vtep-mac-ipv4": "01:00:5e:00:00:01"}, "annotation", "group address"),
        ([], [], {"podwire.io/vtep-mac-ipv6": ["x"]}, "annotation", "a unicast MAC"),
        ([], [], {"podwire.io/public-address": "1.2.3"}, "annotation", '"1.2.3"'),
        ([], [], {"podwire.io/public-address": 7}, "annotation", "is 7"),
        ([], [], {"podwire.io/public-address": "0.0.0.0"}, "address", "0.0.0.0"),
        (
            [],
            [],
            {"podwire.io/public-address": "192.0.2.1,192.0.2.2"},
            "annotation",
            "more than one",
        ),
    ],
)
def test_garbage_is_refused_with_value_and_remedy(cidrs, addresses, annotations, reason, words):
    refused = node_of(node_object("n", cidrs, addresses, annotations))
    assert isinstance(refused, Refused)
    assert (refused.node, refused.reason) == ("n", reason)
    assert refused.text.startswith("node n is left out: ")
    assert words in refused.text


@pytest.mark.parametrize("name", [None, "", 7, "../etc", "a b", "n\n", "x" * 300])
def test_a_name_that_is_none_is_refused(name):
    refused = node_of({"metadata": {"name": name}})
    assert isinstance(refused, Refused)
    assert refused.reason == "name"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
PLACES = (
    ("metadata",),
    ("metadata", "name"),
    ("metadata", "annotations"),
    ("metadata", "annotations", "podwire.io/backend"),
    ("metadata", "annotations", "podwire.io/public-address"),
    ("metadata", "annotations", "podwire.io/vtep-mac-ipv4"),
    ("metadata", "resourceVersion"),
    ("spec",),
    ("spec", "podCIDR"),
    ("spec", "podCIDRs"),
    ("status",),
    ("status", "addresses"),
)


@given(st.sampled_from(PLACES), JSON)
def test_whatever_a_field_holds_the_answer_is_a_value(place, value):
    item = node_object("n", ["10.244.1.0/24"], ["192.0.2.1"])
    inner = item
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    told = node_of(item)
    assert isinstance(told, Node | Refused)
    assert version_of(item) >= 0
    assert len(digest_of(item)) == 16
    json.dumps(annotations_patch(Node("n", backend="vxlan"), item))


@given(st.sampled_from(PLACES), JSON)
def test_equal_digests_equal_values(place, value):
    before = node_object("n", ["10.244.1.0/24"], ["192.0.2.1"])
    after = node_object("n", ["10.244.1.0/24"], ["192.0.2.1"], bulk=3)
    assert digest_of(before) == digest_of(after)
    inner = after
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if node_of(after) != node_of(before):
        assert digest_of(after) != digest_of(before)


@given(JSON)
def test_whatever_an_object_is_the_answer_is_a_value(item):
    assert isinstance(node_of(item), Node | Refused)
    assert version_of(item) >= 0


ME = Node(
    "n",
    (),
    (ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    ((4, "02:00:00:00:00:0a"),),
    "vxlan",
)


@pytest.mark.parametrize(
    ("internal", "annotations"),
    [
        (["192.0.2.1", "2001:db8::1"], {}),
        (["192.0.2.9"], {"podwire.io/backend": "host-gw", "else": "stays"}),
        (["nonsense"], {"podwire.io/vtep-mac-ipv6": "02:00:00:00:00:0b"}),
        (["192.0.2.1", "2001:db8::1"], {"podwire.io/public-address": "198.51.100.1"}),
    ],
)
def test_a_patch_makes_the_object_say_it_and_then_there_is_none(internal, annotations):
    item = node_object("n", [], internal, annotations)
    patch = annotations_patch(ME, item)
    after = merged(item, {"metadata": {"annotations": patch}})
    assert annotations_patch(ME, after) == {}
    assert after["metadata"]["annotations"].get("else") == annotations.get("else")
    assert all(key.startswith("podwire.io/") for key in patch)
    if "nonsense" not in internal:
        assert node_of(after) == ME


def test_nothing_to_say_takes_ours_away():
    item = node_object("n", [], [], {"podwire.io/backend": "vxlan", "else": "stays"})
    assert annotations_patch(Node("n"), item) == {"podwire.io/backend": None}
