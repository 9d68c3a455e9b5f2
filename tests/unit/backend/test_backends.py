"""What each backend wants, as the lines a person would type."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni_plugin.backend import BACKENDS, backend, desired, pod_mtu
from cni_plugin.backend.view import Settings, View
from cni_plugin.backend.vxlan import tunnel_name, vtep_mac
from cni_plugin.cluster.values import Node, Underlay
from cni_plugin.model.addresses import link_local
from cni_plugin.model.objects import (
    CLUSTER_PROTOCOL,
    Addr,
    Fdb,
    Neigh,
    Obj,
    RouteTo,
    Sysctl,
    TxChecksum,
    Up,
    Vxlan,
)
from cni_plugin.model.plan import describe_object

V4, V6 = tunnel_name(4, 112, 8472), tunnel_name(6, 112, 8472)
UNDERLAYS = (
    Underlay("eth0", ip_interface("192.0.2.1/24"), 1500),
    Underlay("eth0", ip_interface("2001:db8:1::1/64"), 1500),
)
CIDRS = {4: "10.244.{}.0/24", 6: "2001:db8:244:{}::/64"}
NEAR = {4: "192.0.2.{}", 6: "2001:db8:1::{}"}
FAR = {4: "198.51.100.{}", 6: "2001:db8:2::{}"}
LINKS = (Vxlan, TxChecksum, Sysctl, Addr, Up)


def node(
    number: int,
    versions: Sequence[int] = (4,),
    *,
    far: bool = False,
    outer: Sequence[int] | None = None,
    **more: object,
) -> Node:
    """A node whose pods have these IP versions; outer: the node's own, the same if not given."""
    addresses = FAR if far else NEAR
    return Node(
        f"node-{number}",
        tuple(ip_network(CIDRS[v].format(number)) for v in versions),
        tuple(ip_address(addresses[v].format(number)) for v in outer or versions),
    )._replace(**more)


def view(*peers: Node, versions: Sequence[int] = (4,), **settings: object) -> View:
    """node-1's view."""
    underlays = tuple(one for one in UNDERLAYS if one.address.version in versions)
    return View(node(1, versions), peers, underlays, Settings()._replace(**settings))


def lines(name: str, seen: View) -> list[str]:
    """What is wanted for the peers."""
    return [describe_object(obj) for obj in desired(name, seen) if not isinstance(obj, LINKS)]


def of_kind(name: str, seen: View, *kinds: type) -> list[Obj]:
    return [obj for obj in desired(name, seen) if isinstance(obj, kinds)]


DIRECT4 = "ip route add 10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"
DIRECT6 = "ip route add 2001:db8:244:2::/64 via 2001:db8:1::2 dev eth0 proto 113"
MAC4, MAC6 = vtep_mac("node-2", 4), vtep_mac("node-2", 6)
TUNNEL4 = [
    f"ip neighbour add 10.244.2.0 lladdr {MAC4} dev {V4} nud permanent",
    f"bridge fdb add {MAC4} dev {V4} dst 192.0.2.2 self permanent",
    f"ip route add 10.244.2.0/24 via 10.244.2.0 dev {V4} onlink proto 113",
]
TUNNEL6 = [
    f"ip neighbour add {link_local(MAC6)} lladdr {MAC6} dev {V6} nud permanent",
    f"bridge fdb add {MAC6} dev {V6} dst 2001:db8:1::2 self permanent",
    f"ip route add 2001:db8:244:2::/64 via {link_local(MAC6)} dev {V6} proto 113",
]
BOTH = (4, 6)


@pytest.mark.parametrize(
    ("name", "versions", "expected"),
    [
        ("local", BOTH, []),
        ("host-gw", (4,), [DIRECT4]),
        ("host-gw", (6,), [DIRECT6]),
        ("host-gw", BOTH, [DIRECT4, DIRECT6]),
        ("vxlan", (4,), TUNNEL4),
        ("vxlan", (6,), TUNNEL6),
        ("vxlan", BOTH, [*TUNNEL4, *TUNNEL6]),
        ("auto", BOTH, [DIRECT4, DIRECT6]),
    ],
)
def test_a_near_peer(name: str, versions: Sequence[int], expected: list[str]) -> None:
    assert lines(name, view(node(2, versions), versions=versions)) == expected


@pytest.mark.parametrize(
    ("name", "direct", "expected"),
    [
        ("host-gw", False, []),
        ("vxlan", False, ["192.0.2.2", "198.51.100.3"]),
        ("vxlan", True, ["198.51.100.3"]),
        ("auto", False, ["198.51.100.3"]),
    ],
)
def test_which_peers_are_reached_by_the_tunnel(
    name: str, direct: bool, expected: list[str]
) -> None:
    seen = view(node(2), node(3, far=True), direct_routing=direct)
    assert [str(one.dst) for one in of_kind(name, seen, Fdb)] == expected
    routes = {str(one.dst): one.link for one in of_kind(name, seen, RouteTo)}
    assert routes.get("10.244.2.0/24") == (V4 if "192.0.2.2" in expected else "eth0")


@pytest.mark.parametrize(("far", "made"), [(False, 0), (True, 1)])
def test_auto_has_a_tunnel_only_for_peers_beyond_a_router(far: bool, made: int) -> None:
    assert len(of_kind("auto", view(node(2), node(3, far=far)), Vxlan)) == made


def test_the_node_has_a_tunnel_for_each_ip_version_of_its_own() -> None:
    wanted = of_kind("vxlan", view(versions=BOTH, tx_checksum=False), *LINKS)
    assert [describe_object(obj) for obj in wanted] == [
        "sysctl -w net/ipv4/ip_forward=1",
        "sysctl -w net/ipv6/conf/all/forwarding=1",
        *(
            line
            for link, mtu, local, version in (
                (V4, 1450, "192.0.2.1", 4),
                (V6, 1430, "2001:db8:1::1", 6),
            )
            for line in (
                (
                    f"ip link add {link} address {vtep_mac('node-1', version)} mtu {mtu}"
                    f" type vxlan id 112 dstport 8472 local {local} nolearning"
                ),
                f"sysctl -w net/ipv4/conf/{link}/accept_redirects=0",
                f"sysctl -w net/ipv4/conf/{link}/rp_filter=2",
                f"sysctl -w net/ipv6/conf/{link}/accept_ra=0",
                f"sysctl -w net/ipv6/conf/{link}/addr_gen_mode=1",
                f"ethtool -K {link} tx off",
                f"ip address add 10.244.1.0/32 dev {link}",
                f"ip address add 2001:db8:244:1::/128 dev {link} nodad",
                f"ip link set {link} up",
            )
        ),
    ]


def test_pods_of_ipv6_go_by_a_tunnel_over_ipv4_where_the_nodes_have_nothing_else() -> None:
    seen = view(node(2, BOTH, outer=(4,)), versions=(4,))
    assert lines("vxlan", seen) == [
        *TUNNEL4,
        f"ip neighbour add {link_local(MAC4)} lladdr {MAC4} dev {V4} nud permanent",
        f"bridge fdb add {MAC4} dev {V4} dst 192.0.2.2 self permanent",
        f"ip route add 2001:db8:244:2::/64 via {link_local(MAC4)} dev {V4} proto 113",
    ]


def test_an_announced_mac_counts() -> None:
    mac = "02:00:5e:00:00:09"
    seen = view(node(2, vtep_macs=((4, mac),)))
    assert [one.mac for one in of_kind("vxlan", seen, Neigh, Fdb)] == [mac, mac]


@pytest.mark.parametrize(
    ("announced", "far", "link"),
    [
        ("", False, V4),
        ("vxlan", False, V4),
        ("host-gw", False, "eth0"),
        ("local", False, "eth0"),
        ("auto", False, "eth0"),
        ("auto", True, V4),
        ("host-gw", True, None),
    ],
)
def test_nothing_is_sent_by_the_tunnel_to_whom_has_none(
    announced: str, far: bool, link: str | None
) -> None:
    seen = view(node(2, far=far, backend=announced))
    assert [one.link for one in of_kind("vxlan", seen, RouteTo)] == ([link] if link else [])


def test_another_vni_or_port_is_another_link() -> None:
    names = {tunnel_name(4, 112, 8472), tunnel_name(4, 113, 8472), tunnel_name(4, 112, 4789)}
    assert len(names) == 3
    assert all(len(name) <= 15 for name in names)


def test_the_mtu_leaves_room_for_the_headers_or_is_the_configured_one() -> None:
    assert [one.mtu for one in of_kind("vxlan", view(mtu=1400), Vxlan)] == [1400]
    assert [one.mtu for one in of_kind("vxlan", view(mtu=9000), Vxlan)] == [1450]
    mtus = {name: pod_mtu(name, UNDERLAYS) for name in BACKENDS}
    assert mtus == {"local": 1500, "host-gw": 1500, "vxlan": 1430, "auto": 1430}
    assert pod_mtu("vxlan", UNDERLAYS[:1], 1280) == 1280
    assert pod_mtu("vxlan", ()) is None


@pytest.mark.parametrize("name", BACKENDS)
def test_every_route_bears_our_mark_and_a_peer_is_independent_of_the_others(name: str) -> None:
    peers = (node(2, BOTH), node(3, BOTH, far=True))
    seen = view(*peers, versions=BOTH)
    assert {one.protocol for one in of_kind(name, seen, RouteTo)} <= {CLUSTER_PROTOCOL}
    chosen = backend(name)
    for peer in peers:
        assert chosen.of_peer(seen._replace(peers=(peer,)), peer) == chosen.of_peer(seen, peer)


@pytest.mark.parametrize("name", ["host-gw", "vxlan"])
def test_without_ipv6_in_the_kernel_none_of_its_switches_is_wanted(name: str) -> None:
    seen = view(versions=BOTH)._replace(ipv6=False)
    paths = [one.path for one in of_kind(name, seen, Sysctl)]
    assert paths
    assert all(path[0] == "ipv4" for path in paths)
