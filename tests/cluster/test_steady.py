"""Pods go on talking while everything around them changes: what is lost is counted."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.support.cluster import Fabric, Member, steady
from tests.support.node import wait_until

RESTARTS = 10  # of each of two agents
IN_FLIGHT = 2  # packets that one change of the way may catch
CUT_MAX_S = 4.0  # 2 s are promised; the machine may be busy


def _restart(member: Member, number: int) -> None:
    member.end(number)
    member.start()


def _all_ready(fabric: Fabric) -> None:
    wait_until(lambda: all(one.ready() for one in fabric.members), "all are ready", 30)


def test_two_agents_restart_twenty_times(fabric: Fabric) -> None:
    a, b = fabric.join("a"), fabric.join("b", subnet=2)
    fabric.write()
    fabric.start(backend="vxlan")
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    with steady(one, other) as traffic:
        for turn in range(RESTARTS):
            for member in (a, b):
                _restart(member, signal.SIGKILL if turn % 2 else signal.SIGTERM)
            _all_ready(fabric)
    assert (traffic.lost, traffic.whole) == (0, True)
    assert not [line for line in (*a.log(), *b.log()) if line["level"] == "error"]
    programmed = [line for line in (*a.log(), *b.log()) if "programmed" in line["message"]]
    assert len(programmed) == 2, "only the first agents had anything to do"


def test_nodes_join_leave_and_change_their_address(fabric: Fabric) -> None:
    """Five nodes on two networks; those that talk lose nothing by what others do."""
    a, b = fabric.join("a"), fabric.join("b", subnet=2)
    c, _d = fabric.join("c"), fabric.join("d", subnet=2)
    fabric.write()
    fabric.start(backend="vxlan")
    one, other, third = a.pod(), b.pod(), c.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    with steady(one, other) as traffic:
        e = fabric.join("e", subnet=2)
        e.start(backend="vxlan")
        fabric.write()
        fifth = e.pod()
        wait_until(lambda: one.reaches(fifth) and fifth.reaches(third), "the new node is reached")
        fabric.write(a, b, c, e)
        wait_until(lambda: "10.244.4.0/24" not in a.routes(), "the one that left is forgotten")
        c.readdress(77)
        fabric.write(a, b, c, e)
        wait_until(lambda: one.reaches(third), "the one that moved is reached")
    assert (traffic.lost, traffic.whole) == (0, True)


def test_the_backend_is_switched_under_way(fabric: Fabric) -> None:
    """There and back, by the peers file: all nodes hear of it at about the same time."""
    a, b = fabric.join("a"), fabric.join("b")
    fabric.write(backend="host-gw")
    fabric.start()
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")

    def uses(link: str) -> Callable[[], bool]:
        ways = [a.routes, b.routes]
        return lambda: all(
            dev.startswith(link)
            for way in ways
            for version in (4, 6)
            for dev in way(version).values()
        )

    with steady(one, other) as traffic:
        fabric.write(backend="vxlan")
        wait_until(uses("podwire"), "the tunnel is used")
        fabric.write(backend="host-gw")
        wait_until(uses("eth0"), "plain routes are used")
    assert traffic.lost <= 2 * IN_FLIGHT
    assert traffic.whole
    assert a.tunnels(), "for those that still send by it"


def test_the_backend_is_switched_node_by_node(fabric: Fabric) -> None:
    """Nothing is sent by the tunnel to whom has none yet, however long that takes."""
    a, b = fabric.join("a"), fabric.join("b")
    fabric.write(backend="host-gw")
    fabric.start()
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    with steady(one, other) as traffic:
        a.says = {"backend": "vxlan"}
        fabric.write(backend="host-gw")
        wait_until(lambda: len(a.tunnels()) == 2, "the first has its tunnel")
        assert (set(a.routes().values()), b.tunnels()) == ({"eth0"}, [])
        fabric.write(backend="vxlan")
        for member in (a, b):
            wait_until(lambda m=member: "eth0" not in m.routes().values(), "the tunnel is used")
    assert traffic.lost <= IN_FLIGHT
    assert traffic.whole


def test_damage_is_mended_within_two_seconds(fabric: Fabric) -> None:
    a, b = fabric.join("a"), fabric.join("b")
    fabric.write()
    fabric.start(backend="vxlan")
    one, other = a.pod(), b.pod()
    wait_until(lambda: one.reaches(other), "the pods reach each other")
    for damage in (
        f"link del {a.tunnels()[0]}",
        "route flush proto 113",
        "link del cni0",
    ):
        with steady(one, other) as traffic:
            a.node.configure(damage)
            wait_until(lambda: one.reaches(other), f"the pods talk again after {damage}", 5)
        assert traffic.cut_s <= CUT_MAX_S, damage
        assert traffic.whole, damage
    repaired = [line for line in a.log() if line.get("round") == "cluster"]
    assert any("podwire4" in line["message"] for line in repaired)
