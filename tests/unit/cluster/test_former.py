"""A bridge's gateway of a range that is another node's by now."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_interface, ip_network

from cni_plugin.cluster.former import former_gateways
from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import HOST, Addr
from ipam.values import IPAddress

ME = Node("me", (ip_network("10.244.9.0/24"), ip_network("2001:db8:244:9::/64")))
PEER = Node("b", (ip_network("10.244.3.0/24"), ip_network("2001:db8:244:3::/64")))
GATEWAYS = tuple(
    ("cni0", ip_interface(text))
    for text in (
        "10.244.9.1/24",
        "10.244.3.1/24",
        "2001:db8:244:9::1/64",
        "2001:db8:244:3::1/64",
        "10.88.0.1/16",
    )
)
FORMER = (
    Addr(HOST, "cni0", ip_interface("10.244.3.1/24")),
    Addr(HOST, "cni0", ip_interface("2001:db8:244:3::1/64")),
)


def found(*alive: str, peers: tuple[Node, ...] = (PEER,), known: bool = True) -> tuple[Addr, ...]:
    def living() -> Collection[IPAddress] | None:
        return frozenset(map(ip_address, alive)) if known else None

    return former_gateways(GATEWAYS, ME, peers, living)


def test_what_is_another_nodes_goes_and_nothing_else() -> None:
    assert found("10.244.9.7", "2001:db8:244:9::7", "10.88.0.2") == FORMER


def test_as_long_as_a_pod_lives_there_its_gateway_stays() -> None:
    assert found("10.244.3.7") == FORMER[1:]
    assert found("2001:db8:244:3::7") == FORMER[:1]


def test_while_nobody_else_has_the_range_or_nobody_knows_who_lives_all_stays() -> None:
    assert found(peers=()) == ()
    assert found(known=False) == ()


def test_nobody_is_asked_while_all_is_as_usual() -> None:
    def living() -> Collection[IPAddress]:
        raise AssertionError

    assert former_gateways(GATEWAYS[:1], ME, (PEER,), living) == ()
    assert former_gateways(GATEWAYS, ME, (), living) == ()
