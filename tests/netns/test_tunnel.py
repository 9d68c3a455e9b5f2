"""VXLAN links and what hangs on them, on a real kernel: made, read back by `ip`, changed, gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from ipaddress import ip_address, ip_interface, ip_network
from typing import TypeVar

import pytest
from pyroute2 import Ethtool

from cni_plugin.kernel import cluster, offload
from cni_plugin.kernel.execute import Outcome, apply
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.places import Places
from cni_plugin.model.names import tunnel_name
from cni_plugin.model.objects import (
    CLUSTER_PROTOCOL,
    HOST,
    Addr,
    Fdb,
    Neigh,
    Obj,
    RouteTo,
    Sysctl,
    TxChecksum,
    Up,
    Vxlan,
    key,
)
from cni_plugin.model.plan import Step, diff, removal
from tests.support import need
from tests.support.node import Node

MAC, PEER_MAC = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
TUNNEL = {version: tunnel_name(version, 112, 8472) for version in (4, 6)}
LOCAL = {4: "192.0.2.1", 6: "2001:db8:1::1"}
PEER = {4: "192.0.2.2", 6: "2001:db8:1::2"}
OWN = {4: "10.244.1.0/32", 6: "2001:db8:244:1::/128"}
DST = {4: "10.244.2.0/24", 6: "2001:db8:244:2::/64"}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
T = TypeVar("T")
Do = Callable[[Callable[[], T]], T]


def _vxlan(version: int) -> Vxlan:
    return Vxlan(
        TUNNEL[version], 112, 8472, ip_address(LOCAL[version]), MAC, 1400, "podwire cluster"
    )


def _route(version: int) -> RouteTo:
    dst = ip_network(DST[version])
    return RouteTo(
        HOST, dst, 254, 0 if version == 4 else 1024, TUNNEL[version], dst.network_address, 0,
        onlink=True, protocol=CLUSTER_PROTOCOL,
    )  # fmt: skip


def _objects(version: int) -> tuple[Obj, ...]:
    link, gateway = TUNNEL[version], ip_network(DST[version]).network_address
    return (
        _vxlan(version),
        Sysctl(HOST, ("ipv6", "conf", link, "addr_gen_mode"), "1"),
        TxChecksum(link, on=False),
        Addr(HOST, link, ip_interface(OWN[version]), dad=None if version == 4 else False),
        Up(HOST, link),
        Neigh(HOST, link, gateway, PEER_MAC),
        Fdb(link, PEER_MAC, ip_address(PEER[version])),
        _route(version),
    )


@pytest.fixture
def do(node: Node) -> Iterator[Do[object]]:
    """Runs something in the node's network."""
    need.link_kind("vxlan")
    node.configure("link add base type veth peer name other")
    node.configure("link set base up")
    node.configure("link set other up")
    node.configure("addr add 192.0.2.1/24 dev base")
    node.run("ip", "addr", "add", "2001:db8:1::1/64", "dev", "base", "nodad")
    with open(node.netns, "rb") as netns:
        yield lambda work: inside(netns.fileno(), work)


def _look(wanted: Iterable[Obj]) -> dict[tuple[object, ...], Obj]:
    with closing(Host()) as host:
        seen = cluster.look(host)
    return {key(obj): obj for obj in seen.objects} | cluster.settings(wanted)


def _apply(steps: Iterable[Step]) -> Outcome:
    with closing(Places()) as places:
        return apply(places, tuple(steps), stop=False)


def _make(objects: Iterable[Obj]) -> Outcome:
    objects = tuple(objects)
    return _apply(diff(objects, _look(objects)))


@pytest.mark.parametrize("name", ["podwire4-vpn", "podwire", TUNNEL[6], tunnel_name(4, 113, 8472)])
def test_a_tunnel_whose_name_does_not_follow_from_what_it_is_is_somebody_elses(
    node: Node, do: Do[object], name: str
) -> None:
    node.configure(f"link add {name} type vxlan id 112 dstport 8472 local 192.0.2.1 nolearning")
    node.configure(f"link set {name} up alias podwire")
    node.configure(f"addr add 10.244.1.0/32 dev {name}")
    assert do(lambda: _look([])) == {}


def test_a_tunnel_is_podwires_before_it_has_its_alias(node: Node, do: Do[object]) -> None:
    node.configure(f"link add {TUNNEL[4]} type vxlan id 112 dstport 8472 local 192.0.2.1")
    assert ("Vxlan", TUNNEL[4]) in do(lambda: _look([]))  # type: ignore[operator]


def test_a_bridge_whose_alias_only_begins_as_podwires_is_somebody_elses(
    node: Node, do: Do[object]
) -> None:
    for number, words in enumerate(("podwire net", "podwire is what this is not", "podwire")):
        node.configure(f"link add br{number} type bridge")
        node.run("ip", "link", "set", f"br{number}", "alias", words)
        node.configure(f"addr add 10.244.{number}.1/24 dev br{number}")

    def gateways() -> object:
        with closing(Host()) as host:
            return cluster.look(host).gateways

    assert do(gateways) == (("br0", ip_interface("10.244.0.1/24")),)


@VERSIONS
def test_what_is_made_is_found_and_nothing_is_left_to_do(version: int, do: Do[object]) -> None:
    wanted = _objects(version)
    assert do(lambda: _make(wanted)) == Outcome(diff(wanted, {}), ())
    assert do(lambda: diff(wanted, _look(wanted))) == ()


@VERSIONS
def test_what_is_made_is_what_ip_and_bridge_show(version: int, node: Node, do: Do[object]) -> None:
    do(lambda: _make(_objects(version)))
    link = node.link(TUNNEL[version])
    assert link is not None
    data = link["linkinfo"]["info_data"]
    local = data["local" if version == 4 else "local6"]
    assert (link["address"], link["mtu"], link["ifalias"]) == (MAC, 1400, "podwire cluster")
    assert (data["id"], data["port"], local, data["learning"]) == (112, 8472, LOCAL[version], False)
    assert "UP" in link["flags"]
    (entry,) = node.json("bridge", "-j", "fdb", "show", "dev", TUNNEL[version])
    assert (entry["mac"], entry["dst"], entry["state"]) == (PEER_MAC, PEER[version], "permanent")
    (route,) = node.ip(f"-{version}", "route", "show", "proto", str(CLUSTER_PROTOCOL))
    gateway = DST[version].partition("/")[0]
    assert (route["dst"], route["gateway"], route["dev"]) == (
        DST[version], gateway, TUNNEL[version],
    )  # fmt: skip
    assert "onlink" in route["flags"]
    (neighbour,) = node.ip(f"-{version}", "neigh", "show", "dev", TUNNEL[version])
    assert (neighbour["dst"], neighbour["lladdr"], neighbour["state"]) == (
        gateway, PEER_MAC, ["PERMANENT"],
    )  # fmt: skip
    assert node.addresses(TUNNEL[version], link_local=True) == [OWN[version]]


@VERSIONS
def test_outer_address_mac_mtu_and_node_are_changed_in_place(
    version: int, node: Node, do: Do[object]
) -> None:
    do(lambda: _make(_objects(version)))
    before = node.link(TUNNEL[version])
    new = ip_address(LOCAL[version]) + 8
    changed = _vxlan(version)._replace(local=new, mac=PEER_MAC, mtu=1300)
    entry = Fdb(TUNNEL[version], PEER_MAC, ip_address(PEER[version]) + 8)
    outcome = do(lambda: _make([changed, entry]))
    assert isinstance(outcome, Outcome)
    assert outcome.failures == ()
    assert do(lambda: diff([changed, entry], _look([]))) == ()
    after = node.link(TUNNEL[version])
    assert before is not None
    assert after is not None
    assert after["ifindex"] == before["ifindex"]


def test_a_route_of_anybody_else_is_neither_seen_nor_replaced(node: Node, do: Do[object]) -> None:
    node.configure("route add 10.244.2.0/24 via 192.0.2.9 proto static")
    outcome = do(lambda: _make(_objects(4)))
    assert isinstance(outcome, Outcome)
    (failure,) = outcome.failures
    assert "File exists" in str(failure)
    do(lambda: _apply(removal([_route(4)], {key(_route(4)): _route(4)})))
    assert node.routes() == ["10.244.2.0/24 via 192.0.2.9 dev base proto static"]


def test_the_link_takes_along_all_that_hangs_on_it(node: Node, do: Do[object]) -> None:
    do(lambda: _make(_objects(4)))
    do(lambda: _apply([Step(None, _vxlan(4))]))
    assert do(lambda: _look([])) == {}
    assert node.link(TUNNEL[4]) is None


def test_a_vni_that_another_link_has_is_told_with_the_remedy(node: Node, do: Do[object]) -> None:
    node.configure("link add flannel.1 type vxlan id 112 dstport 8472 local 192.0.2.1")
    outcome = do(lambda: _make([_vxlan(4)]))
    assert isinstance(outcome, Outcome)
    (failure,) = outcome.failures
    assert "vxlan.vni" in failure.details


def test_checksums_are_left_to_the_link_or_not(do: Do[object]) -> None:
    def features() -> bool:
        with Ethtool() as tool:
            return bool(tool.get_features(TUNNEL[4]).features["tx-checksum-ip-generic"].enable)

    do(lambda: _make([_vxlan(4)]))
    before = do(features)
    do(lambda: _make([TxChecksum(TUNNEL[4], on=False)]))
    assert (before, do(features)) == (True, False)
    assert do(lambda: offload.tx_checksum("missing")) is None
