"""Scenes of two nodes: their pods talk, the way between them is changed under way, and goes."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import leftovers
import scenes
from cast import Demo, Member, median
from nodes import CLUSTER_PROTOCOL, Cluster, ClusterNode, await_it
from probe import Mirror, Steady, echo
from service import log_of
from snapshot import Snapshot

PODS_EACH = 2
PROGRAM_LIMIT_S = 10.0
REPAIR_LIMIT_S = 2.0
SWITCH_LIMIT_S = 10.0
LINGER_LIMIT_S = 30.0
IN_FLIGHT = 2  # echoes of one flow that a change of the way may catch
PING_COLUMNS = (6, 2, -9, -10, -9, -13, 18)
TUNNEL = "podwire"


def play(demo: Demo, cluster: Cluster, podwire: Path) -> list[Snapshot]:
    """Until the pods are gone and the agents are told to take the ways away. What was on the nodes
    while there were pods."""
    _meet(demo, cluster, podwire)
    if all(len(one.addresses) == 2 for node in cluster.nodes for one in node.pods):
        _talk(demo, cluster)
    during = [node.snapshot() for node in cluster.nodes]
    _delete(demo, cluster)
    return during


def _talk(demo: Demo, cluster: Cluster) -> None:
    """By host-gw, by vxlan, and again after damage."""
    with _mirrors(cluster) as mirrors:
        _ping(demo, cluster, mirrors, "host-gw")
        if not cluster.nodes[0].has_vxlan():
            demo.show.line("  this kernel has no VXLAN: what is left out is the tunnel")
            return
        if _switch(demo, cluster):
            _ping(demo, cluster, mirrors, "vxlan")
            _repair(demo, cluster)


def _meet(demo: Demo, cluster: Cluster, podwire: Path) -> None:
    """Agents, and pods on both nodes."""
    demo.show.title("Two nodes, one peers file: backend host-gw")
    cluster.tell("host-gw")
    for node in cluster.nodes:
        node.start(podwire)
    took = await_it(lambda: cluster.use("eth0"), PROGRAM_LIMIT_S)
    demo.expect(took is not None, "each agent makes its node's ways to the other")
    for node, _other in cluster.pairs():
        demo.show.line(f"  node {node.name}: {', '.join(node.addresses.values())}")
        demo.show.line(
            f"    pods in mode {node.mode} of {', '.join(node.cidrs)}; ways to the other:"
        )
        for version in node.addresses:
            _quote(demo, node, "ip", f"-{version}", "route", "show", "proto", CLUSTER_PROTOCOL)
    demo.show.line()
    head = ("pod", "mode", "addresses", "MAC", "link on node", "ADD ms")
    demo.show.row(scenes.POD_COLUMNS, head, head=True)
    for node in cluster.nodes:
        for _ in range(PODS_EACH):
            scenes.add_one(demo, node.new_pod())


@contextmanager
def _mirrors(cluster: Cluster) -> Iterator[dict[str, Mirror]]:
    """One in the first pod of each node, by the node's name."""
    made = {
        node.name: Mirror(node.path_of(node.pods[0]), tuple(node.pods[0].addresses.values()))
        for node in cluster.nodes
    }
    try:
        yield made
    finally:
        for mirror in made.values():
            mirror.close()


def _ping(demo: Demo, cluster: Cluster, mirrors: dict[str, Mirror], backend: str) -> None:
    """Each pod to its neighbour, to a pod of the other node, to that node and back."""
    demo.show.title(f"ping between the nodes by {backend}: median of 5 echoes, in ms")
    head = ("pod", "IP", "same node", "other node", "node", "from the node", "seen there as")
    demo.show.row(PING_COLUMNS, head, head=True)
    for node, other in cluster.pairs():
        for place, member in enumerate(node.pods):
            for version in member.addresses:
                ends = _ends(node, other, place, version)
                times = {name: median(echo(*pair)) for name, pair in ends.items()}
                target = other.pods[0].addresses[version]
                seen = mirrors[other.name].sees(node.path_of(member), target)
                _ping_row(demo, member, version, times, seen, backend)


def _ends(
    node: ClusterNode, other: ClusterNode, place: int, version: int
) -> dict[str, tuple[str, str]]:
    """Namespace and target of each echo, by what it shows."""
    member = node.pods[place]
    path, near = node.path_of(member), node.pods[place - 1]
    return {
        "to its neighbour": (path, near.addresses[version]),
        "to a pod of the other node": (path, other.pods[place].addresses[version]),
        "to the other node": (path, other.addresses[version]),
        "from the other node": (other.place.netns, member.addresses[version]),
    }


def _ping_row(
    demo: Demo,
    member: Member,
    version: int,
    times: dict[str, float | None],
    seen: str,
    backend: str,
) -> None:
    name, own = member.pod.name, member.addresses[version]
    cells = [f"{ms:.3f}" if ms is not None else "lost" for ms in times.values()]
    label = name if version == min(member.addresses) else ""
    demo.show.row(PING_COLUMNS, (label, f"v{version}", *cells, seen or "nothing"))
    for what, ms in times.items():
        demo.expect(ms is not None, f"{name} IPv{version} by {backend}: echo {what}")
    demo.expect(seen == own, f"{name} IPv{version} by {backend}: the other pod sees its address")
    entry = {"pod": name, "version": version, "ms": times, "seen": seen}
    demo.facts.setdefault("between", {}).setdefault(backend, []).append(entry)


def _flows(cluster: Cluster) -> dict[str, Steady]:
    """A steady flow each way and IP version, by its name."""
    flows: dict[str, Steady] = {}
    for place, (node, other) in enumerate(cluster.pairs()):
        one, target = node.pods[place], other.pods[place]
        for version, address in target.addresses.items():
            name = f"{one.pod.name} to {target.pod.name} IPv{version}"
            flows[name] = Steady(node.path_of(one), address, len(flows) + 1)
    return flows


def _switch(demo: Demo, cluster: Cluster) -> bool:
    """The peers file names another backend while echoes run; whether both nodes follow."""
    demo.show.title("Under way from host-gw to vxlan: one line of the peers file")
    flows = _flows(cluster)
    cluster.tell("vxlan")
    took = await_it(lambda: cluster.use(TUNNEL), SWITCH_LIMIT_S)
    _end(flows)
    _tell_flows(demo, "switch", flows, IN_FLIGHT)
    if not demo.expect(took is not None, "both nodes send by the tunnel"):
        return False
    text = f"both nodes send by the tunnel {took:.1f} s after the file said so"
    demo.show.outcome(True, f"{text}; nothing was restarted")
    node = cluster.nodes[0]
    demo.show.line(f"  on node {node.name}, to the other's pods:")
    for version in node.addresses:
        _quote(demo, node, "ip", f"-{version}", "route", "show", "proto", CLUSTER_PROTOCOL)
    for link in node.tunnels():
        _quote(demo, node, "ip", "neighbour", "show", "dev", link, "nud", "permanent")
        _quote(demo, node, "bridge", "fdb", "show", "dev", link)
    return True


def _end(flows: dict[str, Steady]) -> None:
    """All at once, and then each is counted."""
    for flow in flows.values():
        flow.end()
    for flow in flows.values():
        flow.count()


def _tell_flows(demo: Demo, what: str, flows: dict[str, Steady], lost_most: int | None) -> None:
    """lost_most: None when losses are expected, and only counted."""
    for name, flow in flows.items():
        text = f"{name}: {flow.sent} echoes, {flow.lost} lost"
        good = flow.sent > flow.lost and (lost_most is None or flow.lost <= lost_most)
        if demo.expect(good, text):
            demo.show.outcome(good, f"{text}, {flow.silence_ms:.0f} ms at most between answers")
        entry = {"flow": name, "sent": flow.sent, "lost": flow.lost}
        entry["silence_ms"] = round(flow.silence_ms, 1)
        demo.facts.setdefault(what, []).append(entry)


def _repair(demo: Demo, cluster: Cluster) -> None:
    """Somebody deletes a tunnel."""
    node = cluster.nodes[0]
    link = node.tunnels()[0]
    demo.show.title(f"Somebody deletes {link} on node {node.name}")
    flows = _flows(cluster)
    node.place.configure(f"link delete {link}")
    took = await_it(lambda: cluster.use(TUNNEL), PROGRAM_LIMIT_S)
    _end(flows)
    _tell_flows(demo, "repair", flows, None)
    if demo.expect(took is not None and took <= REPAIR_LIMIT_S, f"repaired after {took} s"):
        demo.show.outcome(True, f"its agent has made it again, with all on it, after {took:.1f} s")


def _delete(demo: Demo, cluster: Cluster) -> None:
    """DEL each pod; then the ways are not wanted any more."""
    demo.show.title("DEL, and backend local: the ways between the nodes go")
    members = [member for node in cluster.nodes for member in node.pods]
    took = [
        demo.attempt(f"DEL {one.pod.name}", partial(one.runtime.delete, one.pod)) for one in members
    ]
    good = [ms for ms in took if ms is not None]
    if good:
        text = f"DEL: {len(good)} of {len(members)} pods, {statistics.median(good):.1f} ms each"
        demo.show.outcome(len(good) == len(members), text)
    for node in cluster.nodes:
        node.remove_namespaces()
    cluster.tell("local")
    gone = await_it(lambda: not any(node.ways() for node in cluster.nodes), PROGRAM_LIMIT_S)
    if demo.expect(gone is not None, "backend local: no way is left"):
        demo.show.outcome(True, f"no route between the nodes is left after {gone:.1f} s; the")
        demo.show.line("    tunnels stay for another 10 s, for those that still send by them")


def clean(demo: Demo, cluster: Cluster, during: list[Snapshot]) -> None:
    """The tunnels stay a while for those that still send by them; then nothing is left."""
    gone = await_it(lambda: not any(node.tunnels() for node in cluster.nodes), LINGER_LIMIT_S)
    demo.expect(gone is not None, "backend local: the tunnels are taken away")
    for node in cluster.nodes:
        assert node.agent is not None
        demo.expect(node.agent.stop(), f"the agent of node {node.name} ended well")
        errors = [line["message"] for line in log_of(node.root) if line["level"] == "error"]
        demo.expect(not errors, f"the agent of node {node.name} has no errors to tell: {errors}")
    states = {
        f"node {node.name}": (node.before, seen, node.snapshot())
        for node, seen in zip(cluster.nodes, during, strict=True)
    }
    leftovers.compare_nodes(demo, states)


def _quote(demo: Demo, node: ClusterNode, *command: str) -> None:
    """What a program says there, line by line."""
    for line in node.place.run(*command).stdout.splitlines():
        demo.show.quote(" ".join(line.split()))
