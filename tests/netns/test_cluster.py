"""The cluster's reconciler on a real kernel: what it brings about, takes away and leaves alone."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from cni_plugin.backend.view import Settings
from cni_plugin.cluster import steps
from cni_plugin.cluster.admission import Rules
from cni_plugin.cluster.filtering import Policy
from cni_plugin.cluster.judge import Judge
from cni_plugin.cluster.reconciler import Plan, Reconciler, Report
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.kernel import cluster as kernel
from cni_plugin.kernel.drift import Drift
from cni_plugin.kernel.filter_drift import FilterDrift
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.nft import generation
from tests.support import need
from tests.support.node import Node as Place

RULES = Rules((ip_network("10.244.0.0/16"), ip_network("2001:db8:244::/48")))
BACKENDS = pytest.mark.parametrize("backend", ["host-gw", "vxlan"])


def peer(number: int, **changes: Any) -> Node:
    return Node(
        f"node-{number}",
        (ip_network(f"10.244.{number}.0/24"), ip_network(f"2001:db8:244:{number:x}::/64")),
        (ip_address(f"192.0.2.{number}"), ip_address(f"2001:db8:1::{number:x}")),
    )._replace(**changes)


def cluster(*numbers: int, **more: Any) -> Cluster:
    return Cluster(tuple(map(peer, (1, *numbers))), **more)


class Clock:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Subject:
    """A reconciler of node-1, and its ears, in a real namespace."""

    def __init__(self, place: Place, netns: int, backend: str) -> None:
        self.place = place
        self.netns = netns
        self.clock = Clock()
        self.host = Host()
        settings = Settings(tx_checksum=False)
        self.plan = Plan("node-1", backend, RULES, settings, Policy(RULES.cluster))
        self.reconciler = Reconciler(self.plan, self.host, self.clock)
        self.drift = inside(netns, Drift)
        self.filter_drift = inside(netns, FilterDrift)
        self.judge = Judge()

    def run(self, told: Cluster, *, whole: bool = True) -> Report:
        report = inside(self.netns, lambda: self.reconciler.run(told, whole=whole))
        assert report.failures == ()
        return report

    def whole(self) -> bool:
        """Whether there is all that is wanted and nothing else."""
        with_settings = self.reconciler.desired.objects
        found = {
            **{kernel.key(one): one for one in inside(self.netns, self._look)},
            **inside(self.netns, lambda: kernel.settings(with_settings.values())),
            **inside(self.netns, lambda: kernel.chains(self.host, with_settings.values())),
        }
        return found == with_settings

    @staticmethod
    def _look() -> tuple[Any, ...]:
        host = Host()
        try:
            return kernel.look(host).objects
        finally:
            host.close()

    def hears_drift(self, *, limit_s: float = 0.0) -> bool:
        """Whether an event has come that is a reason to look."""
        found = False
        both = [self.filter_drift.descriptor, self.drift.descriptor]
        while ready := select.select(both, [], [], limit_s)[0]:
            if self.filter_drift.descriptor in ready:
                found |= self.filter_drift.drain(self.host.filter_port)
            events = self.drift.drain(self.reconciler.indices)
            assert events is not None
            wanted = self.reconciler.desired.objects
            own = peer(1).addresses
            for event in events:
                found |= self.judge.is_drift(event, wanted, own)
        return found

    def close(self) -> None:
        self.drift.close()
        self.filter_drift.close()
        self.host.close()


@pytest.fixture
def subject(node: Place) -> Iterator[Callable[[str], Subject]]:
    need.link_kind("vxlan")
    node.configure("link add eth0 type veth peer name other")
    for line in ("set eth0 up", "set other up"):
        node.configure(f"link {line}")
    node.configure("addr add 192.0.2.1/24 dev eth0")
    node.run("ip", "addr", "add", "2001:db8:1::1/64", "dev", "eth0", "nodad")
    made: list[Subject] = []
    with open(node.netns, "rb") as netns:

        def make(backend: str) -> Subject:
            made.append(Subject(node, netns.fileno(), backend))
            return made[-1]

        yield make
        for one in made:
            one.close()


@BACKENDS
def test_all_is_there_after_one_pass_and_the_second_does_nothing(
    subject: Callable[[str], Subject], backend: str
) -> None:
    one = subject(backend)
    assert one.run(cluster(2, 3)).reasons == ()
    assert one.whole()
    assert sum(one.run(cluster(2, 3)).counts.values()) == 0


@BACKENDS
def test_who_joins_or_leaves_costs_only_its_own_objects(
    subject: Callable[[str], Subject], backend: str
) -> None:
    one = subject(backend)
    one.run(cluster(2, 3))
    each = (2 if backend == "host-gw" else 6) + 2  # and the addresses at which it is heard
    before = generation(one.host.filter)
    joined = one.run(cluster(2, 3, 4), whole=False)
    left = one.run(cluster(2, 4), whole=False)
    assert (joined.counts, left.counts) == ({"add": each, "fail": 0}, {"remove": each, "fail": 0})
    assert generation(one.host.filter) == before + 2, "a transaction each"
    assert one.whole()


@BACKENDS
def test_what_a_departed_node_left_goes_after_a_restart_but_not_before_the_source_was_heard(
    subject: Callable[[str], Subject], backend: str
) -> None:
    subject(backend).run(cluster(2, 3))
    restarted = subject(backend)
    restarted.run(cluster(2, synced=False))
    assert not restarted.whole()
    restarted.run(cluster(2))
    assert restarted.whole()


@BACKENDS
def test_a_newcomer_within_a_used_range_does_not_take_it_down_also_after_a_restart(
    subject: Callable[[str], Subject], backend: str, node: Place
) -> None:
    newcomers = [
        peer(number, addresses=(ip_address(inner),))
        for number, inner in ((3, "10.244.2.9"), (4, "2001:db8:244:2::9"), (5, "10.244.1.9"))
    ]
    told = Cluster((*newcomers, peer(1), peer(2)))
    first = subject(backend)
    first.run(cluster(2))
    before = node.routes(), node.routes(6)
    for one in (first, subject(backend)):
        report = one.run(told)
        refused = {(one.node, one.reason) for one in report.refused if one.reason != "unreachable"}
        assert refused == {(f"node-{number}", "inside-node-range") for number in (3, 4, 5)}
        assert report.reasons == ()
        assert (node.routes(), node.routes(6)) == before


@BACKENDS
def test_routes_of_others_stay_as_they_are(
    subject: Callable[[str], Subject], backend: str, node: Place
) -> None:
    node.configure("route add 10.244.9.0/24 via 192.0.2.9 proto static")
    node.configure("route add 203.0.113.0/24 via 192.0.2.9 proto 112")
    before = node.routes()
    one = subject(backend)
    one.run(cluster(2))
    one.run(cluster())
    assert node.routes() == before


def test_a_source_that_does_not_know_the_node_changes_nothing(
    subject: Callable[[str], Subject],
) -> None:
    one = subject("vxlan")
    one.run(cluster(2))
    report = one.run(Cluster())
    assert "knows no node node-1" in report.reasons[0]
    assert one.whole()


def test_without_a_range_of_its_own_the_node_says_so_and_goes_on(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("host-gw")
    told = Cluster((peer(1, pod_cidrs=()), peer(2)))
    assert one.run(told).reasons == ("node node-1 has no podCIDR yet",)
    assert node.routes() == ["10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"]
    assert one.run(cluster(2), whole=False).reasons == ()


def test_an_address_that_is_away_takes_nothing_along(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("vxlan")
    one.run(cluster(2))
    node.configure("addr del 192.0.2.1/24 dev eth0")
    assert one.hears_drift(limit_s=0.1)
    report = one.run(cluster(2))
    assert "192.0.2.1" in report.reasons[0]
    assert one.whole()


def test_a_range_that_moves_to_a_new_node_is_replaced_in_place(
    subject: Callable[[str], Subject], node: Place
) -> None:
    """The new node's add comes before the old one's delete; no moment is without a route."""
    one = subject("host-gw")
    one.run(cluster(2))
    moved = peer(3, pod_cidrs=peer(2).pod_cidrs)
    between = one.run(Cluster((peer(1), moved, peer(2))), whole=False)
    assert {refused.reason for refused in between.refused} == {"overlaps-node"}
    assert node.routes() == ["10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"]
    after = one.run(Cluster((peer(1), moved)), whole=False)
    assert after.counts == {"change": 2, "remove": 2, "fail": 0}
    assert node.routes() == ["10.244.2.0/24 via 192.0.2.3 dev eth0 proto 113"]


@BACKENDS
def test_a_new_address_or_mac_of_a_peer_is_followed_in_place(
    subject: Callable[[str], Subject], backend: str
) -> None:
    one = subject(backend)
    one.run(cluster(2))
    there = peer(2, addresses=peer(7).addresses, vtep_macs=((4, "02:00:5e:00:00:09"),))
    report = one.run(Cluster((peer(1), there)), whole=False)
    assert report.counts["change"] >= 1
    assert one.whole()


def test_a_new_mtu_of_the_underlay_is_followed(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("vxlan")
    one.run(cluster(2))
    one.hears_drift()
    node.configure("link set eth0 mtu 1400")
    assert one.hears_drift(limit_s=0.1)
    one.run(cluster(2))
    assert {node.link(name)["mtu"] for name in node.links() if name.startswith("podwire")} == {
        1350, 1330,
    }  # fmt: skip


@BACKENDS
def test_backend_local_takes_all_away(
    subject: Callable[[str], Subject], backend: str, node: Place
) -> None:
    subject(backend).run(cluster(2))
    one = subject("local")
    one.run(cluster(2))
    one.clock.now_s += steps.LINGER_S
    one.run(cluster(2))
    assert one.whole()
    assert (node.routes(), node.links()) == ([], {"eth0", "other"})


def test_a_node_whose_address_is_on_lo_gets_the_mtu_of_the_way_out(
    subject: Callable[[str], Subject], node: Place
) -> None:
    for line in ("addr add 203.0.113.1/32 dev lo", "route add default via 192.0.2.254"):
        node.configure(line)
    node.configure("link set eth0 mtu 1400")
    me = peer(1, addresses=(ip_address("203.0.113.1"),))
    one = subject("vxlan")
    one.run(Cluster((me, peer(2))))
    assert [node.link(name)["mtu"] for name in node.links() if "podwire4" in name] == [1350]


# switching ---------------------------------------------------------------------------------------


def test_the_way_goes_over_to_a_new_tunnel_when_all_had_time_to_make_theirs(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("host-gw")
    one.run(cluster(2))
    first = one.run(cluster(2, backend="vxlan"), whole=False)
    assert first.again_s is not None
    assert [line.split()[4] for line in node.routes()] == ["eth0"]
    assert sum(name.startswith("podwire") for name in node.links()) == 2
    one.clock.now_s += steps.LISTEN_S
    one.run(cluster(2, backend="vxlan"))
    assert one.whole()


def test_the_way_goes_over_to_an_old_tunnel_when_the_peer_had_time_to_make_its_end(
    subject: Callable[[str], Subject], node: Place
) -> None:
    """Node by node: this one is first, and goes over when the peer does."""
    one = subject("vxlan")
    without = Cluster((peer(1), peer(2, backend="host-gw")))
    one.run(without)
    assert one.run(cluster(2), whole=False).again_s == steps.LISTEN_S
    one.clock.now_s += steps.LISTEN_S / 2
    joined = one.run(cluster(2, 3), whole=False)
    assert joined.counts["add"] == 6 + 2
    one.run(cluster(2, 3))
    assert node.routes()[0] == "10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"
    one.clock.now_s += steps.LISTEN_S / 2
    one.run(cluster(2, 3))
    assert one.whole()


def test_a_peer_that_moves_beyond_a_router_is_followed_at_once(
    subject: Callable[[str], Subject],
) -> None:
    one = subject("auto")
    one.run(cluster(2))
    far = peer(2, addresses=(ip_address("198.51.100.2"), ip_address("2001:db8:2::2")))
    one.run(Cluster((peer(1), far)), whole=False)
    assert one.whole()


def test_a_tunnel_that_is_not_wanted_stays_while_peers_may_still_send_by_it(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("vxlan")
    one.run(cluster(2))
    first = one.run(cluster(2, backend="host-gw"), whole=False)
    assert first.again_s == steps.LINGER_S
    assert node.routes() == ["10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"]
    assert sum(name.startswith("podwire") for name in node.links()) == 2
    one.clock.now_s += steps.LINGER_S
    one.run(cluster(2, backend="host-gw"))
    assert one.whole()
    one.run(cluster(2), whole=False)
    one.clock.now_s += steps.LISTEN_S
    one.run(cluster(2))
    assert one.whole(), "back again, from what is remembered"


# drift -------------------------------------------------------------------------------------------

T4 = "$(ip -o link show type vxlan | grep -o 'podwire4-[a-z0-9]*')"
DAMAGES = {
    "route deleted": "ip route del 10.244.2.0/24",
    "route of IPv6 deleted": "ip -6 route del 2001:db8:244:2::/64",
    "route changed": "ip route replace 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 113",
    "route added": "ip route add 10.244.99.0/24 via 192.0.2.77 dev eth0 proto 113",
    "neighbour deleted": f"ip neigh del 10.244.2.0 dev {T4}",
    "neighbour changed": f"ip neigh replace 10.244.2.0 lladdr 02:00:00:00:00:01 dev {T4}",
    "neighbour added": f"ip neigh add 10.244.99.0 lladdr 02:00:00:00:00:01 dev {T4}",
    "entry deleted": f"bridge fdb del $(bridge fdb show dev {T4} | head -1 | cut -c-17) dev {T4}",
    "entry added": f"bridge fdb add 02:00:00:00:00:01 dev {T4} dst 192.0.2.9",
    "tunnel deleted": f"ip link del {T4}",
    "tunnel down": f"ip link set {T4} down",
    "tunnel's MAC": f"ip link set {T4} address 02:00:00:00:00:01",
    "tunnel's MTU": f"ip link set {T4} mtu 1300",
    "tunnel's address": f"ip addr flush dev {T4}",
    "nftables flushed": "nft flush ruleset",
    "chain flushed": "nft flush chain inet podwire postrouting",
    "rule added": "nft insert rule inet podwire postrouting accept",
    "set flushed": "nft flush set inet podwire nodes4",
    "element deleted": "nft delete element inet podwire local4 { 10.244.1.0/24 }",
    "element added": "nft add element inet podwire kept4 { 203.0.113.0/24 }",
    "table dormant": "nft 'add table inet podwire { flags dormant; }'",
    "underlay down and up": "ip link set eth0 down; ip link set eth0 up;"
    " ip addr replace 2001:db8:1::1/64 dev eth0 nodad",
}


@pytest.mark.parametrize(
    ("backend", "damage"),
    [
        (backend, damage)
        for backend in ("host-gw", "vxlan")
        for damage in DAMAGES
        if not damage.startswith("tunnel" if backend == "host-gw" else "underlay")
        if not (backend == "host-gw" and damage.startswith(("neighbour", "entry")))
    ],
)
def test_damage_is_heard_and_mended(
    subject: Callable[[str], Subject], backend: str, damage: str, node: Place
) -> None:
    one = subject(backend)
    one.run(cluster(2, 3))
    one.run(cluster(2, 3))  # knows the new links by number
    one.hears_drift()
    node.run("sh", "-ec", DAMAGES[damage])
    assert not one.whole()
    assert one.hears_drift(limit_s=0.1)
    report = one.run(cluster(2, 3))
    assert one.whole()
    assert report.repaired


@BACKENDS
def test_our_own_changes_are_no_drift(subject: Callable[[str], Subject], backend: str) -> None:
    one = subject(backend)
    one.run(cluster(2))
    one.run(cluster(2))
    one.hears_drift()
    there = peer(3, addresses=peer(7).addresses)
    for told in (cluster(2, 3), cluster(3), Cluster((peer(1), there))):
        one.run(told, whole=False)
        assert not one.hears_drift(limit_s=0.1)


def test_a_pods_part_of_the_table_wakes_nobody(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("vxlan")
    one.run(cluster(2))
    one.hears_drift()
    for line in (
        "add element inet podwire pods4 { net . 10.244.1.2 }",
        "delete element inet podwire pods4 { net . 10.244.1.2 }",
        "add chain inet podwire masq-of-a-network",
        "delete chain inet podwire masq-of-a-network",
        "add table inet other",
        "flush ruleset bridge",
    ):
        node.run("nft", *line.split())
    assert not one.hears_drift(limit_s=0.1)


@BACKENDS
def test_another_nodes_tunnel_is_guarded_where_somebody_may_have_one(
    subject: Callable[[str], Subject], backend: str, node: Place
) -> None:
    one = subject("host-gw")

    def guarded() -> bool:
        return "udp dport 8472" in node.run("nft", "list", "ruleset").stdout

    one.run(Cluster((peer(1), peer(2, backend=backend))))
    assert guarded() == (backend == "vxlan")
    one.run(cluster(2), whole=False)
    assert not guarded()


def test_a_range_takes_the_place_of_one_that_overlaps_it_in_one_transaction(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("host-gw")
    one.reconciler = Reconciler(one.plan._replace(policy=Policy()), one.host, one.clock)
    one.run(cluster(2))
    before = generation(one.host.filter)
    wider = peer(2, pod_cidrs=(ip_network("10.244.2.0/23"),))
    one.run(Cluster((peer(1), wider)), whole=False)
    assert generation(one.host.filter) == before + 1
    shown = node.run("nft", "list", "set", "inet", "podwire", "cluster4").stdout
    assert "10.244.2.0/23" in shown
    assert one.whole()


def test_routes_and_neighbours_of_others_wake_nobody(
    subject: Callable[[str], Subject], node: Place
) -> None:
    one = subject("vxlan")
    node.configure("link add pwpod type veth peer name peer")
    node.configure("link set pwpod up")
    node.configure("addr add 10.244.1.1/32 dev pwpod")
    one.run(cluster(2))
    one.run(cluster(2))
    one.hears_drift()
    for line in (
        "link set pwpod mtu 1400",
        "link set pwpod down",
        "link del pwpod",
        "route add 203.0.113.0/24 via 192.0.2.9",
        "route del 203.0.113.0/24",
        "neigh add 192.0.2.9 lladdr 02:00:00:00:00:01 dev eth0",
        "link add pod0 type veth peer name pod1",
        "link set pod0 up",
        "addr add 10.244.1.1/24 dev pod0",
        "link del pod0",
    ):
        node.configure(line)
    assert not one.hears_drift(limit_s=0.1)


def test_a_thousand_peers(subject: Callable[[str], Subject]) -> None:
    one = subject("vxlan")
    nodes = [peer(1)]
    nodes += [
        Node(
            f"far-{number}",
            (ip_network(f"10.244.{number // 4}.{number % 4 * 64}/26"),),
            (ip_address(f"198.51.{100 + number // 250}.{number % 250 + 1}"),),
        )
        for number in range(8, 1008)
    ]
    report = one.run(Cluster(tuple(nodes)))
    assert report.counts["add"] >= 3000
    assert one.whole()
    left = one.run(Cluster(tuple(nodes[:-1])), whole=False)
    assert left.counts == {"remove": 3 + 1, "fail": 0}
    assert one.whole()
