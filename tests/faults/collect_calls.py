"""A GC killed before each system call that changes something; the next one finishes its work."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.collect import added, all_alive, valid
from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import Lab, Stage
from tests.faults.syscalls import ALL_CALLS, KILL, Walk, walk_points
from tests.support.node import Pod

LIVE = 2


def kill_gc_calls(lab: Lab, runs: int) -> Counts:
    """Before each run three die in as many ways. After the GC that was killed and a second one
    the node is as it was before they came, and nothing of the living was freed."""
    counts = Counts()
    with lab.stage(counts) as stage:
        live = added(stage, LIVE)
        before = stage.state()
        walk = Walk(stage, "GC", live[0], keys=valid(stage, live))
        _make_dead(stage)
        points = walk.points(ALL_CALLS, reply=True)

        def strike(walk: Walk, name: str, number: int, fault: str) -> tuple[Walk, bool]:
            losses = counts.losses
            ended = _one_point(walk, name, number, live, before)
            if counts.losses != losses:
                counts.notes.append(f"with {fault} at {name} number {number}")
            return walk, ended

        walk_points(lab, walk, points, KILL, runs, strike)
    return counts


def _one_point(walk: Walk, name: str, number: int, live: Sequence[Pod], before: State) -> bool:
    """Whether the GC ended unharmed."""
    stage, counts = walk.stage, walk.stage.counts
    unlisted = _make_dead(stage)
    full = stage.state()
    killed = walk.struck(name, number, KILL)
    counts.runs += 1
    counts.struck += not killed.ok and stage.state() != full
    stage.must("GC", live[0], "the second GC", **walk.keys)
    stage.nothing_left(unlisted, before, "after the second GC")
    all_alive(stage, live)
    stage.check_store()
    unlisted.remove()
    return killed.ok


def _make_dead(stage: Stage) -> Pod:
    """A pod whose namespace is gone, a reservation without record and link, and a pod that the
    runtime has forgotten, whose namespace is there still: that one is returned."""
    gone, forgotten = added(stage, 2)
    gone.remove()
    bare = stage.node.pod()
    stage.must("ADD", bare, "a reservation alone", ipam=True)
    bare.remove()
    for pod in (gone, forgotten, bare):
        stage.results.pop(pod.container_id, None)
    return forgotten
