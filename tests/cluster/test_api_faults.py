"""The Kubernetes API fails in every way, and pods go on talking; what is lost is counted.

Real agents ask it; what they know of it is seen by the routes to nodes that exist in the API only.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import need
from tests.support.cluster import ClusterPod, Member, steady
from tests.support.kube_fabric import STATE, KubeFabric
from tests.support.node import Node, wait_until

RECOVERY_S = 15.0  # waits of up to 0.5, 1, 2 and 4 s, and a busy machine


@pytest.fixture
def fabric(make_node: Callable[[str], Node], tmp_path: Path) -> Iterator[KubeFabric]:
    """Two networks, a router, and an API."""
    need.link_kind("vxlan")
    with KubeFabric(make_node, tmp_path) as made:
        yield made


def says(member: Member, words: str) -> None:
    """Waits until /readyz does."""
    wait_until(lambda: words in member.page("/readyz")[1], f"/readyz says {words!r}", RECOVERY_S)


def told(member: Member, words: str) -> int:
    """How often the log does."""
    return sum(words in line["message"] for line in member.log())


def routes(member: Member, *cidrs: str) -> None:
    """Waits until there are ways to these ranges and no others."""
    wait_until(lambda: set(member.routes()) == set(cidrs), f"the routes are {cidrs}", RECOVERY_S)


def restart(member: Member, number: int = signal.SIGTERM) -> None:
    member.end(number)
    member.start()


class Faults:
    """What an API does. Each answers the range of a ghost whose news must get through all the same;
    what is to be told meanwhile was, and what does not heal by itself is healed."""

    def __init__(self, fabric: KubeFabric, watcher: Member) -> None:
        self.fabric = fabric
        self.watcher = watcher
        self._number = 20

    def ghost(self) -> str:
        self._number += 1
        return self.fabric.ghost(self._number)

    def down(self) -> str:
        self.fabric.api.do("down")
        says(self.watcher, "source: the Kubernetes API is not heard")
        new = self.ghost()
        self.fabric.api.do("up")
        return new

    def unknown_token(self) -> str:
        self.fabric.rotate("second", server_only=True)
        self.fabric.api.do("end_watches")
        says(self.watcher, "does not know who asks (401)")
        new = self.ghost()
        self.fabric.rotate("second")
        return new

    def forbidden(self) -> str:
        self.fabric.api.do("set", "forbidden", ["watch", "list"])
        self.fabric.api.do("end_watches")
        says(self.watcher, "forbids to watch nodes (403)")
        new = self.ghost()
        self.fabric.api.do("set", "forbidden", [])
        return new

    def gone(self) -> str:
        """An event never comes, and only the next list can make up for that."""
        self.fabric.api.do("set", "drop", 1)
        new = self.ghost()
        self.fabric.api.do("expire")
        return new

    def gone_by_status(self) -> str:
        self.fabric.api.do("set", "gone_by_status", True)
        return self.gone()

    def cut_off(self) -> str:
        self.fabric.api.do("hang_up")
        return self.ghost()

    def half_closed(self) -> str:
        self.fabric.api.do("half_close")
        return self.ghost()

    def duplicate(self) -> str:
        self.fabric.api.do("set", "duplicate", 1)
        return self.ghost()

    def reordered(self) -> str:
        self.fabric.api.do("set", "holding", True)
        self.fabric.ghost(self._number + 1, pod_cidrs=["10.244.99.0/24"])
        new = self.ghost()
        self.fabric.api.do("release")  # the last first
        return new

    def slow(self) -> str:
        self.fabric.api.do("set", "slow_s", 1.0)
        self.fabric.api.do("end_watches")
        new = self.ghost()
        wait_until(lambda: new in self.watcher.routes(), "its news arrive", RECOVERY_S)
        self.fabric.api.do("set", "slow_s", 0.0)
        return new


Life = tuple[Callable[[Faults], str], ...]


# By agent's life: what breaks a watch makes the next try later.
@pytest.mark.parametrize(
    "lives",
    [
        ((Faults.reordered, Faults.duplicate, Faults.down), (Faults.slow, Faults.unknown_token)),
        (
            (Faults.forbidden, Faults.gone),
            (Faults.half_closed, Faults.gone_by_status),
            (Faults.cut_off,),
        ),
    ],
    ids=lambda lives: " ".join(fault.__name__ for life in lives for fault in life),
)
def test_no_packet_is_lost_by_what_the_api_does(
    fabric: KubeFabric, lives: tuple[Life, ...]
) -> None:
    a, b = fabric.join("a"), fabric.join("b")
    fabric.put(a)
    fabric.put(b)
    fabric.start(backend="host-gw")
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    faults, known = Faults(fabric, a), ["10.244.2.0/24"]
    with steady(one, other) as traffic:
        for number, life in enumerate(lives):
            if number:
                restart(a, signal.SIGKILL if number % 2 else signal.SIGTERM)
            for fault in life:
                wait_until(a.ready, f"the agent is ready before {fault.__name__}", RECOVERY_S)
                known.append(fault(faults))
                routes(a, *known)
        for number in range(21, 20 + len(known)):
            fabric.api.do("delete", f"ghost{number}")
        routes(a, "10.244.2.0/24")
    assert (traffic.lost, traffic.whole) == (0, True)
    by_list = sum("gone" in fault.__name__ for life in lives for fault in life)
    wait_until(lambda: told(a, "all nodes are listed anew") == by_list, "lists are told")


def test_a_start_without_a_range_after_changes_and_without_an_api(
    fabric: KubeFabric, launcher: Path
) -> None:
    """The config list comes last; then what was last known is gone by, and nothing is lost."""
    a, b = fabric.join("a"), fabric.join("b")
    fabric.put(a, pod_cidrs=[])
    fabric.put(b)
    for member in (a, b):
        member.start(backend="host-gw", conflist={})
    says(a, "cluster: node a has no podCIDR yet")
    says(a, "conflist: /etc/cni/net.d/10-podwire.conflist is written when")
    wait_until(b.ready, "the other one is ready", RECOVERY_S)
    assert (a.conflist(), b.ranges) == (None, b.cidrs)
    fabric.put(a)
    wait_until(a.ready, "it is ready when it has its range", RECOVERY_S)
    assert a.ranges == a.cidrs
    for member in (a, b):
        member.take_conflist(launcher)
    one, other = a.pod(), b.pod()
    foreign = "10.244.77.0/24 via 192.0.2.99 dev eth0 proto static"
    with steady(one, other) as traffic:
        wait_until(lambda: one.reaches(other), "the pods reach each other")
        _a_node_goes_while_the_agent_is_down(fabric, a, foreign)
        _the_api_is_down_at_the_start(fabric, a)
        new = a.pod()
        wait_until(lambda: new.reaches(other), "pods are started without the API")
        fabric.api.do("delete", "ghost22")
        fabric.api.do("up")
        routes(a, "10.244.2.0/24")
        _the_api_is_slow_at_the_start(fabric, a)
    assert (traffic.lost, traffic.whole) == (0, True)
    assert foreign in a.node.routes()


def _a_node_goes_while_the_agent_is_down(fabric: KubeFabric, a: Member, foreign: str) -> None:
    gone, stays = fabric.ghost(21), fabric.ghost(22)
    routes(a, "10.244.2.0/24", gone, stays)
    a.end()
    fabric.api.do("delete", "ghost21")
    a.node.configure(f"route add {foreign}")
    assert gone in a.routes()
    a.start()
    routes(a, "10.244.2.0/24", stays)


def _the_api_is_down_at_the_start(fabric: KubeFabric, a: Member) -> None:
    wait_until(a.ready, "it is ready", RECOVERY_S)
    fabric.api.do("down")
    restart(a, signal.SIGKILL)
    says(a, "source: the Kubernetes API is not heard")
    wait_until(lambda: told(a, "going by the 3 nodes last known"), "it says by what it goes")
    wait_until(lambda: "conflist" not in a.page("/readyz")[1], "the config list is there")
    wait_until(lambda: "\ncluster:" not in f"\n{a.page('/readyz')[1]}", "the node is")
    assert set(a.routes()) == {"10.244.2.0/24", "10.244.22.0/24"}


def _the_api_is_slow_at_the_start(fabric: KubeFabric, a: Member) -> None:
    """And nothing is known of before."""
    wait_until(a.ready, "it is ready", RECOVERY_S)
    fabric.api.do("set", "slow_s", 1.5)
    a.end()
    a.node.path(STATE).unlink()
    a.start()
    says(a, "cluster: its nodes are not known yet")
    assert set(a.routes()) == {"10.244.2.0/24"}
    wait_until(a.ready, "it is heard in the end", RECOVERY_S)
    fabric.api.do("set", "slow_s", 0.0)


def test_nodes_change_while_others_talk(fabric: KubeFabric, launcher: Path) -> None:
    a, b, c = fabric.join("a"), fabric.join("b", subnet=2), fabric.join("c")
    for member in (a, b, c):
        fabric.put(member)
    fabric.start(backend="vxlan", conflist={})
    for member in (a, b, c):
        member.take_conflist(launcher)
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    announced = fabric.api.do("annotations", "b")
    assert announced.pop("podwire.io/backend") == "vxlan"
    assert announced.pop("podwire.io/vtep-mac-ipv4") == b.node.link(b.tunnels()[0])["address"]
    assert announced.keys() == {"podwire.io/vtep-mac-ipv6"}
    with steady(one, other) as traffic:
        _a_tunnels_mac_changes(fabric, a)
        _a_range_moves(fabric, a)
        _addresses_change_their_order(fabric, a, b)
        old = c.pod()
        _a_nodes_range_changes(fabric, a, c)
        c.take_conflist(launcher)
        third = c.pod()
        wait_until(lambda: one.reaches(third), "a new pod of the new range is reached")
        assert third.addresses[0].startswith("10.244.9.")
        _the_range_before_goes_to_another_node(fabric, c, old)
        assert reservations(c) == set(third.addresses)
    assert (traffic.lost, traffic.whole) == (0, True)


def _the_range_before_goes_to_another_node(fabric: KubeFabric, c: Member, old: ClusterPod) -> None:
    """Its gateway stays as long as a pod needs it, and then makes way."""
    fabric.ghost(40, pod_cidrs=["10.244.3.0/24", "2001:db8:244:3::/64"])
    wait_until(lambda: told(c, "ip route add 10.244.3.0/24"), "the route has no place yet")
    assert "10.244.3.1/24" in c.node.addresses("cni0")
    c.runtime.delete(old.pod)  # by the new list
    wait_until(lambda: "10.244.3.0/24" in c.routes(), "there is a way", RECOVERY_S)
    assert c.node.addresses("cni0") == ["10.244.9.1/24", "2001:db8:244:9::1/64"]
    wait_until(lambda: told(c, "ip address delete 10.244.3.1/24 dev cni0"), "it is told")


def reservations(member: Member) -> set[str]:
    """Addresses that are taken, by the store's files."""
    folder = member.node.path("/var/lib/cni/networks/podwire")
    return {one.name for one in folder.iterdir() if re.fullmatch(r"[0-9a-f.:]+", one.name)}


def fdb(member: Member) -> list[str]:
    """MAC and node of each entry of its tunnel over IPv4."""
    (name,) = [name for name in member.tunnels() if name.startswith("podwire4")]
    lines = member.node.run("bridge", "fdb", "show", "dev", name).stdout.splitlines()
    return [f"{words[0]} {words[2]}" for words in map(str.split, lines)]


def _a_tunnels_mac_changes(fabric: KubeFabric, a: Member) -> None:
    for mac in ("02:00:00:00:00:01", "02:00:00:00:00:02"):
        fabric.ghost(30, annotations={"podwire.io/vtep-mac-ipv4": mac})
        wait_until(
            lambda m=mac: [one for one in fdb(a) if "192.0.2.130" in one] == [f"{m} 192.0.2.130"],
            f"the ghost is behind {mac}",
            RECOVERY_S,
        )


def _a_range_moves(fabric: KubeFabric, a: Member) -> None:
    """To a node whose add arrives before the other's delete."""
    range_ = fabric.ghost(31)
    wait_until(lambda: range_ in a.routes(), "there is a way", RECOVERY_S)
    fabric.ghost(32, pod_cidrs=[range_, "2001:db8:244:31::/64"])
    wait_until(lambda: told(a, "overlaps 10.244.31.0/24 of node ghost31"), "it is refused")
    assert 'podwire_cluster_refused{reason="overlaps-node"} 2.0' in a.page("/metrics")[1]
    assert [one for one in fdb(a) if one.endswith(" 192.0.2.131")]
    fabric.api.do("delete", "ghost31")
    wait_until(
        lambda: not [one for one in fdb(a) if one.endswith(" 192.0.2.131")],
        "nothing leads to the old one",
        RECOVERY_S,
    )
    assert range_ in a.routes()
    (way,) = [one for one in fdb(a) if one.endswith(" 192.0.2.132")]
    neighbours = a.node.run("ip", "neigh", "show", "10.244.31.0").stdout
    assert way.split()[0] in neighbours


def _addresses_change_their_order(fabric: KubeFabric, a: Member, b: Member) -> None:
    before = told(a, "cluster: programmed")
    entry = b.entry()
    fabric.put(b, pod_cidrs=entry["podCIDRs"][::-1], addresses=entry["addresses"][::-1])
    mark = fabric.ghost(33)  # comes after it
    wait_until(lambda: mark in a.routes(), "that was heard", RECOVERY_S)
    wait_until(lambda: told(a, "cluster: programmed") > before, "that is told")
    assert told(a, "cluster: programmed") == before + 1, "the order alone changes nothing"


def _a_nodes_range_changes(fabric: KubeFabric, a: Member, c: Member) -> None:
    """As in a cluster, by a Node that is made anew; on a disk that is not ready for it."""
    c.node.run("mount", "-o", "remount,ro", "/etc/cni")
    fabric.api.do("delete", "c")
    says(c, "cluster: the source knows no node c")
    assert c.ranges == ["10.244.3.0/24", "2001:db8:244:3::/64"], "it stays as it was"
    c.number = 9
    fabric.put(c)
    says(c, "conflist: /etc/cni/net.d/10-podwire.conflist cannot be written: Read-only file system")
    c.node.run("mount", "-o", "remount,rw", "/etc/cni")
    wait_until(lambda: c.ranges == c.cidrs, "the config list has the new ranges", RECOVERY_S)
    wait_until(c.ready, "it is ready", RECOVERY_S)
    wait_until(lambda: {"10.244.9.0/24"} <= set(a.routes()), "others know", RECOVERY_S)
    assert "10.244.3.0/24" not in a.routes()
