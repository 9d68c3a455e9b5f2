"""The last known nodes: there and back."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from cni_plugin.cluster.known import Unusable, dump_nodes, load_nodes
from cni_plugin.cluster.values import Node

NODES = (
    Node("a"),
    Node(
        "b",
        (ip_network("10.244.1.0/24"), ip_network("2001:db8:0:1::/64")),
        (ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        ((4, "02:00:00:00:00:0a"), (6, "02:00:00:00:00:0b")),
        "vxlan",
    ),
)


def test_there_and_back():
    assert load_nodes(dump_nodes(NODES)) == NODES


def test_cut_short_anywhere_it_is_not_used():
    whole = dump_nodes(NODES).rstrip()
    for size in range(len(whole)):
        with pytest.raises(Unusable):
            load_nodes(whole[:size])
