"""Pods on different nodes reach each other, by each backend and beyond a router."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

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
    size = 1430 - 48  # what the MTU leaves for an echo over IPv6
    wait_until(lambda: other.reaches(one, size), "large packets pass")
    for version in (4, 6):
        assert [dev.startswith(link) for dev in a.routes(version).values()] == [True]
    assert len(a.tunnels()) == tunnels
    # The node itself reaches the other's pods too, and is answered.
    assert all(a.node.ping(address) for address in other.addresses)


@pytest.mark.parametrize(
    ("backend", "outer", "inner"),
    [
        ("host-gw", (6,), (6,)),
        ("vxlan", (6,), (6,)),
        ("vxlan", (4,), (4, 6)),
        ("vxlan", (6,), (4, 6)),
    ],
)
def test_nodes_that_have_one_ip_version_only(
    make_fabric: Callable[..., Fabric],
    backend: str,
    outer: tuple[int, ...],
    inner: tuple[int, ...],
) -> None:
    """Pods of the other version go by the tunnel all the same."""
    fabric = make_fabric(versions=outer, pod_versions=inner)
    a, b = fabric.join("a"), fabric.join("b")
    fabric.write()
    fabric.start(backend=backend)
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    wait_until(lambda: other.reaches(one, size=1430 - 48), "large packets pass")
    assert len(other.addresses) == len(inner)
    assert len(a.tunnels()) == (backend == "vxlan")


def test_three_nodes_on_two_networks_with_backend_auto(fabric: Fabric) -> None:
    """Near ones by plain routes, the far one by the tunnel; the router knows of no pod."""
    a, b, c = fabric.join("a"), fabric.join("b"), fabric.join("c", subnet=2)
    fabric.write()
    fabric.start()
    assert {dst: dev.partition("-")[0] for dst, dev in a.routes().items()} == {
        "10.244.2.0/24": "eth0",
        "10.244.3.0/24": "podwire4",
    }
    pods = [member.pod() for member in (a, b, c)]
    for one, other in permutations(pods, 2):
        wait_until(
            lambda x=one, y=other: x.reaches(y, size=1430 - 48),
            f"{one.addresses} reaches {other.addresses}",
        )
    assert all(a.node.ping(address) for address in pods[2].addresses)


def test_who_cannot_be_reached_or_may_not_be_is_told_and_the_others_are_served(
    fabric: Fabric,
) -> None:
    a, _b, _c = fabric.join("a"), fabric.join("b"), fabric.join("c", subnet=2)
    fabric.write()
    a.start(backend="host-gw", clusterCIDRs=["10.244.0.0/16"])
    wait_until(lambda: len(a.routes()) == 1, "there is the route to the near one")
    expected = {("c", "unreachable"), *((name, "outside-cluster-range") for name in "abc")}

    def told() -> set[tuple[str, str]]:
        lines = [line for line in a.log() if line["message"].startswith("cluster: refused")]
        return {(line["node"], line["reason"]) for line in lines}

    wait_until(lambda: told() == expected, "what is refused is told")
    _status, page = a.page("/metrics")
    assert 'podwire_cluster_refused{reason="outside-cluster-range"} 3.0' in page
    assert "podwire_cluster_peers 2.0" in page
    assert 'podwire_cluster_steps_total{kind="add"}' in page


def test_a_node_that_nobody_knows_or_without_a_range_is_not_ready_until_it_has_one(
    fabric: Fabric,
) -> None:
    a, b = fabric.join("a"), fabric.join("b")
    a.start(backend="host-gw")

    def says(reason: str) -> None:
        wait_until(lambda: reason in a.page("/readyz")[1], f"the agent says {reason!r}")

    says("cluster: its nodes are not known yet")
    fabric.write(b)
    says("cluster: the source knows no node a")
    fabric.write(b, without=a)
    says("cluster: node a has no podCIDR yet")
    fabric.write()
    wait_until(a.ready, "it is ready")
    assert list(a.routes().values()) == ["eth0"]
