"""The demo's scenes, in order; each shows something and notes what was not as it should be."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import service
from cast import Demo, Member, median
from probe import echo
from service import Agent
from world import NODE, SERVER, new_pod, remove_namespace

PER_MODE = ("a", "b", "c")  # DEL normally, DEL after the namespace went, DEL twice
POD_COLUMNS = (9, 6, 18, 17, 15, -6)
SERVED_COLUMNS = (7, 9, -5, -7, -7)
PING_COLUMNS = (8, 2, -9, -10, -5, -9, -7, 14)


def add_pods(demo: Demo) -> None:
    """ADD, a row of the table a pod."""
    demo.show.title("ADD: pods in both modes, as a runtime starts them")
    for mode, runtime in demo.runtimes.items():
        demo.attempt(f"STATUS {mode}", runtime.status)
    demo.show.row(
        POD_COLUMNS, ("pod", "mode", "addresses", "MAC", "link on node", "ADD ms"), head=True
    )
    for mode, runtime in demo.runtimes.items():
        for letter in PER_MODE:
            member = Member(new_pod(f"{mode}-{letter}"), mode, runtime)
            if add_one(demo, member):
                demo.members.append(member)
    notes = dict.fromkeys(note for runtime in demo.runtimes.values() for note in runtime.notes)
    for note in notes:
        demo.show.line("  log:")
        demo.show.quote(note)
    demo.facts["log"] = list(notes)


def add_one(demo: Demo, member: Member) -> bool:
    """ADD one pod and show its row; whether it was wired."""
    pod = member.pod
    took = demo.attempt(f"ADD {pod.name}", partial(member.runtime.add, pod))
    if took is None:
        return False
    demo.expect(len(member.addresses) == 2, f"{pod.name} has an address of each IP version")
    addresses = list(member.addresses.values())
    mac = member.interface(in_pod=True).get("mac", "")
    host_link = member.interface(in_pod=False).get("name", "")
    entry = {"pod": pod.name, "mode": member.mode, "addresses": addresses}
    entry |= {"mac": mac, "host_link": host_link, "add_ms": round(took, 1)}
    demo.facts.setdefault("pods", []).append(entry)
    first, *rest = addresses or [""]
    demo.show.row(POD_COLUMNS, (pod.name, member.mode, first, mac, host_link, f"{took:.1f}"))
    for address in rest:
        demo.show.row(POD_COLUMNS, ("", "", address, "", "", ""))
    return True


def ping_all(demo: Demo, *, title: str) -> None:
    """Every pod to a neighbour, to the other mode, to the node and back, and outside."""
    demo.show.title(title)
    head = ("pod", "IP", "same mode", "other mode", "node", "from node", "outside", "seen there as")
    demo.show.row(PING_COLUMNS, head, head=True)
    for member in demo.members:
        for version in member.addresses:
            _ping_row(demo, member, version)


def _ping_row(demo: Demo, member: Member, version: int) -> None:
    name, path, own = member.pod.name, member.pod.netns, member.addresses[version]
    near, far = _neighbour(demo, member, same=True), _neighbour(demo, member, same=False)
    paths = {
        "same_network": (path, near.addresses[version] if near else ""),
        "other_mode": (path, far.addresses[version] if far else ""),
        "to_node": (path, NODE[version]),
        "from_node": ("", own),
        "to_outside": (path, SERVER[version]),
    }
    times = {key: median(echo(*ends)) if ends[1] else None for key, ends in paths.items()}
    seen = demo.world.mirror.sees(path, SERVER[version])
    cells = [f"{ms:.3f}" if ms is not None else "lost" for ms in times.values()]
    label = name if version == min(member.addresses) else ""
    demo.show.row(PING_COLUMNS, (label, f"v{version}", *cells, seen or "nothing"))
    for key, ms in times.items():
        demo.expect(ms is not None, f"{name} IPv{version}: echo {key.replace('_', ' ')}")
    masqueraded = seen == NODE[version]
    demo.expect(masqueraded, f"{name} IPv{version}: outside sees the node's address")
    entry = {"pod": name, "version": version, "ms": times, "seen_outside": seen}
    demo.facts.setdefault("pings", []).append(entry)


def _neighbour(demo: Demo, member: Member, *, same: bool) -> Member | None:
    """The next pod of the same mode, or the first of another."""
    others = [one for one in demo.members if (one.mode == member.mode) == same and one != member]
    if not same:
        return others[0] if others else None
    after = demo.members.index(member)
    return next(
        (one for one in others if demo.members.index(one) > after), next(iter(others), None)
    )


def check_all(demo: Demo) -> None:
    """CHECK each pod."""
    demo.show.title("CHECK: the wanted state against the kernel")
    times = {
        one.pod.name: demo.attempt(f"CHECK {one.pod.name}", partial(one.runtime.check, one.pod))
        for one in demo.members
    }
    good = [ms for ms in times.values() if ms is not None]
    if good:
        text = f"{len(good)} of {len(times)} pods as ADD left them"
        text += f", {statistics.median(good):.1f} ms each"
        demo.show.outcome(len(good) == len(times), text)
    demo.facts["check_ms"] = times


def lose_agent(demo: Demo, agent: Agent) -> None:
    """A pod comes while there is no agent: the launcher runs the same Python directly."""
    demo.show.title("The agent is killed: a pod comes all the same")
    agent.kill()
    for mode, runtime in demo.runtimes.items():
        member = Member(new_pod(f"{mode}-d"), mode, runtime)
        took = demo.attempt(
            f"ADD {member.pod.name} without an agent", partial(runtime.add, member.pod)
        )
        if took is not None:
            demo.members.append(member)
            demo.show.outcome(True, f"{member.pod.name:<9} by a Python of its own {took:9.0f} ms")
        demo.facts.setdefault("without_agent_ms", {})[mode] = took


def served(demo: Demo) -> None:
    """What the agent's log says of its calls."""
    calls = service.calls()
    demo.show.title("The agent's own account: calls, and ms from their arrival to the answer")
    demo.show.row(SERVED_COLUMNS, ("verb", "outcome", "calls", "median", "most"), head=True)
    kinds = dict.fromkeys((call["verb"], call["outcome"]) for call in calls)
    for kind in kinds:
        times = [call["ms"] for call in calls if (call["verb"], call["outcome"]) == kind]
        figures = (f"{statistics.median(times):.1f}", f"{max(times):.1f}")
        demo.show.row(SERVED_COLUMNS, (*kind, str(len(times)), *figures))
    adds = [call for call in calls if call["verb"] == "ADD" and call["outcome"] == "done"]
    demo.expect(len(adds) >= len(demo.members) - len(demo.runtimes), "each ADD by the agent")
    demo.facts["served"] = [
        {key: call.get(key) for key in ("verb", "outcome", "ms")} for call in calls
    ]


def delete_all(demo: Demo) -> None:
    """DEL: the first normally, the second without its namespace, the third twice."""
    demo.show.title("DEL: normally, with the namespace gone, and twice")
    ways = {"a": _normally, "b": _without_namespace, "c": _twice, "d": _normally}
    for member in demo.members:
        what, call = ways[member.pod.name[-1]](member)
        took = demo.attempt(f"DEL {member.pod.name} ({what})", call)
        if took is not None:
            demo.show.outcome(True, f"{member.pod.name:<9} {what:<27} {took:6.1f} ms")
        remove_namespace(member.pod)
        entry = {"pod": member.pod.name, "how": what, "ms": took}
        demo.facts.setdefault("del", []).append(entry)


def _normally(member: Member) -> tuple[str, Callable[[], float]]:
    return "normally", lambda: member.runtime.delete(member.pod)


def _without_namespace(member: Member) -> tuple[str, Callable[[], float]]:
    remove_namespace(member.pod)
    return "its namespace gone before", lambda: member.runtime.delete(member.pod, netns="")


def _twice(member: Member) -> tuple[str, Callable[[], float]]:
    def call() -> float:
        return member.runtime.delete(member.pod) + member.runtime.delete(member.pod)

    return "twice", call
