"""SIGKILL at a random moment of ADD or DEL, to the process alone or to its whole group.

The moment is uniform over the typical length of the call, from before the program is loaded to
shortly after its end. `struck` counts the runs in which something had changed by then.
"""

from __future__ import annotations

import signal
import statistics

from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import Lab, Stage
from tests.support.node import Pod

LENGTH_SAMPLES = 3
BEYOND = 1.1  # of the typical length: some kills come too late, as they do


def kill_add_process(lab: Lab, runs: int) -> Counts:
    """The runtime's time-out: only the plugin process is killed, children go on."""
    return _campaign(lab, runs, "ADD", group=False)


def kill_add_group(lab: Lab, runs: int) -> Counts:
    """The runtime's service is stopped: everything is killed at once."""
    return _campaign(lab, runs, "ADD", group=True)


def kill_del_process(lab: Lab, runs: int) -> Counts:
    """As kill_add_process, in DEL."""
    return _campaign(lab, runs, "DEL", group=False)


def kill_del_group(lab: Lab, runs: int) -> Counts:
    """As kill_add_group, in DEL."""
    return _campaign(lab, runs, "DEL", group=True)


def _campaign(lab: Lab, runs: int, verb: str, *, group: bool) -> Counts:
    counts = Counts()
    with lab.stage(counts) as stage:
        pod = stage.node.pod()
        length_s = _typical_length_s(stage, pod, verb)
        for _ in range(runs):
            before = stage.state()
            attached = _attach(stage, pod) if verb == "DEL" else before
            _killed(stage, pod, verb, lab.chance() * BEYOND * length_s, attached, group=group)
            pod = stage.recover(pod, before)
    return counts


def _attach(stage: Stage, pod: Pod) -> State:
    stage.must("ADD", pod, "ADD before the fault")
    return stage.state()


def _killed(stage: Stage, pod: Pod, verb: str, after_s: float, was: State, *, group: bool) -> None:
    call = stage.start(verb, pod)
    if call.lasts(after_s):
        call.kill(group=group)
    answer = stage.finish(call, pod)
    stage.counts.runs += 1
    stage.counts.struck += answer.status == -signal.SIGKILL and stage.state() != was


def _typical_length_s(stage: Stage, pod: Pod, verb: str) -> float:
    """The median of a few calls that nobody disturbs."""
    times: dict[str, list[float]] = {"ADD": [], "DEL": []}
    for _ in range(LENGTH_SAMPLES):
        for each, taken in times.items():
            taken.append(stage.must(each, pod, "undisturbed").seconds)
    return statistics.median(times[verb])
