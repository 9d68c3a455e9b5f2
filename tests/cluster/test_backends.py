"""Pods on different nodes reach each other, by each backend."""

from __future__ import annotations

import pytest

from tests.support.cluster import Fabric
from tests.support.node import wait_until


@pytest.mark.parametrize(
    ("backend", "link", "tunnels"),
    [("host-gw", "eth0", 0), ("vxlan", "podwire", 2), ("auto", "eth0", 0)],
)
def test_two_nodes_of_one_network(fabric: Fabric, backend: str, link: str, tunnels: int) -> None:
    a, b = fabric.join("a"), fabric.join("b")
    fabric.write()
    fabric.start(backend=backend)
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    assert other.reaches(one, size=1430 - 48)  # what the MTU leaves for an echo over IPv6
    for version in (4, 6):
        assert all(dev.startswith(link) for dev in a.routes(version).values())
        assert len(a.routes(version)) == 1
    assert len(a.tunnels()) == tunnels
    # The node itself reaches the other's pods too, and is answered.
    assert all(a.node.ping(address) for address in other.addresses)
