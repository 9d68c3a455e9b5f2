"""SIGKILL at a random moment of ADD or DEL, to the process alone or to its whole group.

The moment is aimed: most of a call is the start of its interpreter, and a kill there proves
nothing. So the clock starts when the call's first change can be seen from outside, and the moment
is uniform over the typical time from there to the call's end. `struck` counts the runs in which
the process was killed and something had changed by then; the others ended before their moment.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable

from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import Call, Lab, Stage
from tests.faults.subject import FOLDER, NETWORK
from tests.support.node import Pod

WINDOW_SAMPLES = 5
POLL_S = 0.0005
# Their times of change tell of a new or a removed file.
FOLDERS = (FOLDER, f"{FOLDER}/.owners", f"/run/podwire/attachments/{NETWORK}")
Signs = tuple[object, ...]


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
        window_s = _typical_window_s(stage, pod, verb)
        for _ in range(runs):
            before = stage.state()
            attached = _attach(stage, pod) if verb == "DEL" else before
            _killed(stage, pod, verb, lab.chance() * window_s, attached, group=group)
            pod = stage.recover(pod, before)
    return counts


def _attach(stage: Stage, pod: Pod) -> State:
    stage.must("ADD", pod, "ADD before the fault")
    return stage.state()


def _killed(stage: Stage, pod: Pod, verb: str, after_s: float, was: State, *, group: bool) -> None:
    call = begun(stage, pod, verb)
    if call.lasts(after_s):
        call.kill(group=group)
    answer = stage.finish(call, pod)
    stage.counts.runs += 1
    stage.counts.struck += answer.status == -signal.SIGKILL and stage.state() != was


def _typical_window_s(stage: Stage, pod: Pod, verb: str) -> float:
    """From the first change to the end: the median of a few calls that nobody disturbs."""
    taken = []
    for _ in range(WINDOW_SAMPLES):
        if verb == "DEL":
            stage.must("ADD", pod, "undisturbed")
        call = begun(stage, pod, verb)
        began_s = time.monotonic()
        _poll(lambda: False, call)
        taken.append(time.monotonic() - began_s)
        stage.finish(call, pod)
        if verb == "ADD":
            stage.must("DEL", pod, "undisturbed")
    return statistics.median(taken)


def begun(stage: Stage, pod: Pod, verb: str) -> Call:
    """A call that has made its first change, or has ended."""
    before = _signs(stage)
    call = stage.start(verb, pod)
    _poll(lambda: _signs(stage) != before, call)
    return call


def _poll(condition: Callable[[], bool], call: Call) -> None:
    while call.process.poll() is None and not condition():
        time.sleep(POLL_S)


def _signs(stage: Stage) -> Signs:
    """What is quick to look at and different after a first change: files of the store, records,
    links of the node."""
    devices = stage.node.path(f"/proc/{stage.node.pid}/net/dev").read_text().splitlines()[2:]
    links = frozenset(line.partition(":")[0].strip() for line in devices)
    return (*(_changed_ns(stage, folder) for folder in FOLDERS), links)


def _changed_ns(stage: Stage, folder: str) -> int:
    try:
        return os.stat(stage.node.path(folder)).st_mtime_ns
    except FileNotFoundError:
        return 0
