"""The cluster's part of the table, with packets, and as `nft` reads it back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from threading import Event, Thread

import pytest

from cni_plugin.filter import cluster
from cni_plugin.filter.cluster import Options
from tests.netns.cluster_nodes import (
    ADDRESSES,
    PODS,
    PORT,
    Filter,
    World,
    elements,
    filter_of,
    hearing,
    pod_link,
    say,
)
from tests.netns.frames import IPV4, ethernet, send, udp4
from tests.netns.kit import MODES, listening, seen_as
from tests.support import need
from tests.support.node import Node

VERSIONS = pytest.mark.parametrize("version", [4, 6])
TUNNEL = Options(vxlan_port=PORT)


@pytest.fixture
def world(make_node: Callable[[str], Node]) -> World:
    return World(make_node)


@pytest.fixture
def on_a(world: World) -> Iterator[Filter]:
    """The filter of node a."""
    with filter_of(world.a) as made:
        yield made


@VERSIONS
def test_pods_of_two_nodes_see_each_others_addresses_and_the_outside_the_nodes(
    world: World, on_a: Filter, version: int
) -> None:
    pod, target = world.pods["a"], world.addresses["b"][version]
    with listening(world.pods["b"]), listening(world.outside):
        # Without the cluster's part the network's own ipMasq knows of no other node.
        assert seen_as(pod, target) == ADDRESSES["a"][version]
        on_a.bring_to(Options(), elements("a"))
        assert seen_as(pod, target) == world.addresses["a"][version]
        outside = ADDRESSES["outside"][version]
        assert seen_as(pod, outside) == ADDRESSES["a outside"][version]
        kept = [str(ip_network(f"{ADDRESSES['outside'][version]}/{32 if version == 4 else 128}"))]
        on_a.bring_to(Options(), elements("a", kept=kept))
        assert seen_as(pod, outside) == world.addresses["a"][version]
    assert pod.ping(target)


@VERSIONS
def test_pods_without_ip_masq_are_masqueraded_by_their_nodes_range(
    world: World, on_a: Filter, version: int
) -> None:
    for name in ("masq4", "masq6"):
        world.a.run("nft", "flush", "map", "inet", "podwire", name)
    with listening(world.outside):
        outside = ADDRESSES["outside"][version]
        on_a.bring_to(Options(), elements("a"))
        assert seen_as(world.pods["a"], outside) == ADDRESSES["a outside"][version]
        on_a.bring_to(Options(), elements("a", kept=["0.0.0.0/0", "::/0"]))
        assert seen_as(world.pods["a"], outside) == world.addresses["a"][version]


@VERSIONS
def test_only_nodes_are_heard_on_the_tunnels_port(world: World, on_a: Filter, version: int) -> None:
    """A joins and a leave of a node are one transaction each, and take effect at once."""
    strangers = ADDRESSES["a outside"][version], ADDRESSES["a"][version]
    assert on_a.bring_to(TUNNEL, elements("a", ["a"])) == 1
    with hearing(world.a) as ear:
        say(world.outside, strangers[0], "stranger")
        say(world.pods["a"], strangers[1], "pod")
        say(world.b, strangers[1], "too early")
        assert on_a.bring_to(TUNNEL, elements("a", ["a", "b"])) == 1
        say(world.b, strangers[1], "node", "end")
        assert [text for _, _, text in ear.until("end")] == ["node"]
        assert on_a.bring_to(TUNNEL, elements("a", ["a", "outside"])) == 1
        say(world.b, strangers[1], "has left")
        say(world.outside, strangers[0], "has come", "end")
        assert [text for _, _, text in ear.until("end")] == ["has come"]


@VERSIONS
@pytest.mark.parametrize("mode", MODES)
def test_a_pod_does_not_reach_the_tunnel_of_another_node(
    make_node: Callable[[str], Node], mode: str, version: int
) -> None:
    """Masqueraded it would look like its node, which is heard."""
    world = World(make_node, mode)
    target = ADDRESSES["b"][version]
    with (
        hearing(world.b) as ear,
        hearing(world.b, PORT + 1) as beside,
        hearing(world.pods["b"]) as inside,
        filter_of(world.a) as on_a,
    ):
        on_a.bring_to(Options(), elements("a"))
        say(world.pods["a"], target, "before", "end")
        before = [(ADDRESSES["a"][version], "before")]
        assert [(peer, text) for peer, _, text in ear.until("end")] == before
        on_a.bring_to(TUNNEL, elements("a"))
        say(world.pods["a"], target, "after")
        say(world.pods["a"], target, "another port", "end", port=PORT + 1)
        assert len(beside.until("end")) == 1
        say(world.a, target, "node", "end")
        assert [text for _, _, text in ear.until("end")] == ["node"]
        say(world.pods["a"], world.addresses["b"][version], "pod to pod", "end")
        assert len(inside.until("end")) == 1


def test_a_pod_that_forges_a_nodes_address_does_not_reach_a_tunnel_either(
    make_node: Callable[[str], Node],
) -> None:
    """Nobody looks at its sources, and it sends to b as if it were a node."""
    world = World(make_node, antiSpoofing=False)
    pod, forged = world.pods["a"], ADDRESSES["outside"][4]
    mac = (pod.link("eth0") or {})["address"]
    via = (world.a.link(pod_link(world.a)) or {})["address"]
    packets = [udp4(forged, ADDRESSES["b"][4], text, PORT) for text in ("forged", "again")]
    frames = [ethernet(via, mac, IPV4, packet) for packet in packets]
    world.a.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    with hearing(world.b) as ear, filter_of(world.a) as on_a:
        send(pod, "eth0", frames[:1])
        say(world.a, ADDRESSES["b"][4], "end")
        assert [(peer, text) for peer, _, text in ear.until("end")] == [(forged, "forged")]
        on_a.bring_to(TUNNEL, elements("a", ["a", "b", "outside"]))
        send(pod, "eth0", frames[1:])
        say(world.a, ADDRESSES["b"][4], "end")
        assert ear.until("end") == []


@VERSIONS
def test_a_tunnel_works_through_the_guard_and_only_between_nodes_that_know_each_other(
    world: World, version: int
) -> None:
    need.link_kind("vxlan")
    for node, me, peer in ((world.a, "a", "b"), (world.b, "b", "a")):
        ends = f"local {ADDRESSES[me][version]} remote {ADDRESSES[peer][version]}"
        node.configure(f"link add vx type vxlan id 7 dstport {PORT} dev to-{peer} {ends}")
        node.configure("link set vx up")
        node.configure(f"addr add 203.0.113.{1 + (me == 'b')}/24 dev vx")
    with filter_of(world.a) as on_a, filter_of(world.b) as on_b:
        on_a.bring_to(TUNNEL, elements("a"))
        on_b.bring_to(TUNNEL, elements("b"))
        assert world.a.ping("203.0.113.2")
        on_b.bring_to(TUNNEL, elements("b", ["b"]))  # a has left
        assert not world.a.ping("203.0.113.2", limit_s=1)


@VERSIONS
def test_the_ttl_is_that_of_the_config_outside_and_as_ever_inside(
    world: World, on_a: Filter, version: int
) -> None:
    on_a.bring_to(Options(egress_ttl=77), elements("a"))
    with hearing(world.outside) as ear:
        say(world.pods["a"], ADDRESSES["outside"][version], "pod", "end")
        assert ear.until("end") == [(ADDRESSES["a outside"][version], 77, "pod")]
        say(world.a, ADDRESSES["outside"][version], "node", "end")
        assert ear.until("end") == [(ADDRESSES["a outside"][version], 64, "node")]
    with hearing(world.pods["b"]) as ear:
        say(world.pods["a"], world.addresses["b"][version], "pod", "end")
        assert ear.until("end") == [(world.addresses["a"][version], 62, "pod")]


# Which segment size the two ends of a connection agreed on: printed by the server's side.
_MSS = """
import socket, sys
listener = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    caller, _ = listener.accept()
    caller.sendall(str(caller.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)).encode())
    caller.close()
"""


@VERSIONS
def test_segments_fit_the_smallest_mtu_of_the_route_both_ways(
    world: World, on_a: Filter, version: int
) -> None:
    route = {4: "198.51.100.0/24", 6: "2001:db8:ee::/64 metric 256"}[version]
    world.a.configure(f"route replace {route} dev to-outside mtu 1300")
    room = 1300 - {4: 20, 6: 40}[version] - 20

    def agreed(server: Node, client: Node, to: str) -> int:
        with_server = server.spawn(sys.executable, "-I", "-c", _MSS, stdout=-1)
        try:
            assert with_server.stdout is not None
            assert with_server.stdout.readline() == "ready\n"
            return int(seen_as(client, to))
        finally:
            with_server.kill()
            with_server.communicate()

    pod, outside = world.pods["a"], ADDRESSES["outside"][version]
    on_a.bring_to(Options(), elements("a"))
    assert agreed(world.outside, pod, outside) > room
    on_a.bring_to(Options(clamp_mss=True), elements("a"))
    # 12 bytes of each segment are time stamps.
    assert agreed(world.outside, pod, outside) == room - 12
    assert agreed(pod, world.outside, world.addresses["a"][version]) == room - 12
    assert agreed(world.b, world.a, ADDRESSES["b"][version]) > room


def test_rules_are_written_again_without_a_moment_in_which_they_are_not_there(
    world: World, on_a: Filter
) -> None:
    to = ADDRESSES["a"][4], ADDRESSES["a outside"][4]
    one, two = TUNNEL, TUNNEL._replace(egress_ttl=64, clamp_mss=True)
    on_a.bring_to(one, elements("a"))
    ending = Event()
    sent = {"node": 0, "stranger": 0}

    def speak(place: Node, target: str, text: str) -> None:
        while not ending.is_set():
            say(place, target, *[text] * 50)
            sent[text] += 50

    with hearing(world.a) as ear:
        threads = [
            Thread(target=speak, args=(world.b, to[0], "node")),
            Thread(target=speak, args=(world.outside, to[1], "stranger")),
        ]
        for thread in threads:
            thread.start()
        try:
            changes = [on_a.bring_to(two if n % 2 else one, elements("a")) for n in range(1, 100)]
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        say(world.b, to[0], "end")
        heard = [text for _, _, text in ear.until("end")]
    assert set(changes) == {1}
    assert min(sent.values()) > 0
    assert heard == ["node"] * sent["node"]


def test_what_is_as_wanted_is_left_alone_and_damage_is_seen(world: World, on_a: Filter) -> None:
    options = Options(PORT, clamp_mss=True, egress_ttl=64)
    assert on_a.bring_to(options, elements("a")) == 1
    assert on_a.steps(options, elements("a")) == ()
    for damage in (
        "flush chain inet podwire cluster-input",
        "flush set inet podwire cluster4",
        "add element inet podwire nodes4 { 203.0.113.9 }",
        "add element inet podwire kept4 { 203.0.113.0/24 }",
        "add element inet podwire kept6 { 2001:db8:9:: - 2001:db8:9::5 }",
        "delete element inet podwire underlays { to-b }",
        "delete table inet podwire",
    ):
        world.a.run("nft", *damage.split())
        assert on_a.bring_to(options, elements("a")) == 1, damage
        assert on_a.steps(options, elements("a")) == ()
    on_a.bring_to(Options(), elements("a"))
    chains = world.a.run("nft", "list", "chains", "inet").stdout
    assert "postrouting" in chains
    assert "cluster-" not in chains


def test_nft_reads_back_what_was_meant(world: World, on_a: Filter) -> None:
    on_a.bring_to(Options(PORT, clamp_mss=True, egress_ttl=64), elements("a"))

    def rules(chain: str) -> list[str]:
        lines = world.a.run("nft", "list", "chain", "inet", "podwire", chain).stdout.splitlines()
        return [line.strip().partition(" comment ")[0] for line in lines[2:-2]]

    def words(name: str) -> str:
        return " ".join(world.a.run("nft", "list", "set", "inet", "podwire", name).stdout.split())

    assert rules("cluster-input") == [
        "type filter hook input priority filter; policy accept;",
        "udp dport 8472 ip saddr != @nodes4 drop",
        "udp dport 8472 ip6 saddr != @nodes6 drop",
    ]
    assert rules("cluster-forward") == [
        "type filter hook forward priority mangle; policy accept;",
        "udp dport 8472 ip daddr @nodes4 iifname != @underlays drop",
        "tcp flags syn ip saddr @local4 tcp option maxseg size set rt mtu",
        "tcp flags syn ip daddr @local4 tcp option maxseg size set rt mtu",
        "ip saddr @local4 ip daddr != @cluster4 ip ttl set 64",
        "udp dport 8472 ip6 daddr @nodes6 iifname != @underlays drop",
        "tcp flags syn ip6 saddr @local6 tcp option maxseg size set rt mtu",
        "tcp flags syn ip6 daddr @local6 tcp option maxseg size set rt mtu",
        "ip6 saddr @local6 ip6 daddr != @cluster6 ip6 hoplimit set 64",
    ]
    assert rules("postrouting") == [
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip daddr @cluster4 return",
        "ip daddr @kept4 return",
        "ip saddr vmap @masq4",
        "ip saddr @local4 masquerade fully-random",
        "ip6 daddr @cluster6 return",
        "ip6 daddr @kept6 return",
        "ip6 saddr vmap @masq6",
        "ip6 saddr @local6 masquerade fully-random",
    ]
    assert "elements = { 192.0.2.2 }" in words("nodes4")
    assert 'elements = { "to-b" }' in words("underlays")
    assert f"elements = {{ {PODS['a'][0]}, {PODS['b'][0]} }}" in words("cluster4")
    assert "elements = { 224.0.0.0/4 }" in words("kept4")


def test_every_shape_of_range_is_read_back_as_it_was_written(node: Node) -> None:
    ranges = ["0.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.1/32", "255.255.255.0/24"]
    ranges += ["::/16", "2001:db8::/64", "2001:db8:0:1::/64", "ffff::/16"]
    with filter_of(node) as made:
        for kept in (ranges, ranges[1:], [*ranges[:2], "10.0.0.0/8"], ["0.0.0.0/0", "::/0"], []):
            wanted = cluster.desired_elements((), (), map(ip_network, kept))
            assert made.bring_to(Options(), wanted) == 1
            assert made.steps(Options(), wanted) == ()
            for name in ("kept4", "kept6"):
                shown = node.run("nft", "list", "set", "inet", "podwire", name).stdout
                told = [one.key[0].removesuffix("/32") for one in wanted if one.set == name]
                assert [text for text in told if text not in shown] == [], shown
