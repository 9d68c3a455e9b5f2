"""GC: the dead go, the living stay, whatever happens at the same time."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from tests.faults.counts import Counts
from tests.faults.crowd import inside_process
from tests.faults.stage import Answer, Lab, Stage
from tests.faults.subject import DATA_DIR, NETWORK, ROOT, counted_range
from tests.support.node import Pod

DEAD_LIMIT_S = 1.0  # for 250 dead, start of the interpreter included
LIVE = 3
RACE_LIMIT_S = 300.0


def dead(lab: Lab, number: int) -> Counts:
    """number dead reservations and a few pods whose namespaces vanished, beside live pods: after
    one GC the store is exactly the live set, and it takes less than a second."""
    counts = Counts()
    with lab.stage(counts, counted_range(number + 2 * LIVE + 1)) as stage:
        live = added(stage, LIVE)
        before = stage.state()
        gone = added(stage, LIVE)
        for pod in gone:
            pod.remove()
        _reserve_for_nobody(stage, number)
        counts.runs += number + LIVE
        counts.struck += number + LIVE
        answer = _collect(stage, live)
        idle = os.getloadavg()[0] <= (os.cpu_count() or 1)  # otherwise the time tells nothing
        if idle and answer.seconds > DEAD_LIMIT_S:
            counts.lose("wrong", f"GC of {number} dead took {answer.seconds:.2f} s")
        left = sorted(stage.state() - before)
        if left:
            counts.lose("leaks", f"dead kept: {left[:4]}", len(left))
        all_alive(stage, live)
        stage.check_store()
    return counts


def race(lab: Lab, runs: int) -> Counts:
    """GC at the same time as an ADD that it lists, a DEL, and another GC."""
    counts = Counts()
    with lab.stage(counts) as stage:
        live = added(stage, LIVE)
        for _ in range(runs):
            before = stage.state()
            coming, going, unlisted = (stage.node.pod() for _ in range(3))
            for pod in (going, unlisted):
                stage.must("ADD", pod, "ADD before the race")
            keys = valid(stage, [*live, coming])
            calls = [
                (coming, stage.start("ADD", coming)),
                (going, stage.start("GC", going, **keys)),
                (going, stage.start("DEL", going)),
                (unlisted, stage.start("GC", unlisted, **keys)),
            ]
            for pod, call in calls:
                answer = stage.finish(call, pod)
                if not answer.ok:
                    kind = {"ADD": "failed_add", "DEL": "failed_del"}.get(call.verb, "wrong")
                    counts.lose(kind, f"in a race with GC: {answer}")
            counts.runs += 1
            counts.struck += 1
            all_alive(stage, [*live, coming])
            stage.must("DEL", coming, "DEL after the race")
            stage.nothing_left(unlisted, before, "after the race")
            stage.results.pop(unlisted.container_id, None)  # the runtime did not list it
            stage.check_store()
    return counts


def store_race(lab: Lab, runs: int) -> Counts:
    """The store's `retain` with an earlier snapshot, against ADDs and DELs by another process."""
    counts = Counts()
    with lab.stage(counts, bystander=False) as stage:
        stage.node.path(DATA_DIR).mkdir(parents=True, mode=0o700)
        words = (str(ROOT), DATA_DIR, NETWORK, str(runs))
        done = stage.node.run(sys.executable, "-I", "-c", _RACES, *words, limit_s=RACE_LIMIT_S)
        said: dict[str, Any] = json.loads(done.stdout)
        counts.runs += runs
        counts.struck += said["overtaken"]
        for kind, note in (("leaks", "dead_kept"), ("duplicates", "live_released")):
            if said[note]:
                counts.lose(kind, note.replace("_", " "), said[note])
        stage.check_store()
    return counts


def has_no_gc(lab: Lab) -> str:
    """Why GC cannot be tested with this plugin; empty when it can."""
    return "" if lab.plugin.is_podwire else "this release of the reference has no GC"


def not_its_store(lab: Lab) -> str:
    """Why a test of the store itself does not apply."""
    return "" if lab.plugin.is_podwire else "a test of podwire's store"


def added(stage: Stage, number: int) -> list[Pod]:
    """That many pods, attached."""
    pods = [stage.node.pod() for _ in range(number)]
    for pod in pods:
        stage.must("ADD", pod, "ADD before the fault")
    return pods


def _reserve_for_nobody(stage: Stage, number: int) -> None:
    owners = [f"dead{position}" for position in range(number)]
    process = inside_process(stage, "ADD", owners)
    said, errors = process.communicate(timeout=RACE_LIMIT_S)
    if len(json.loads(said or "{}")) != number:
        raise AssertionError(f"no dead reservations: {errors[-300:]}")


def valid(stage: Stage, live: Sequence[Pod]) -> dict[str, Any]:
    """The keys of a GC by a runtime that knows these pods and the bystander."""
    pods = [*live, *([stage.bystander] if stage.bystander else [])]
    listed = [{"containerID": pod.container_id, "ifname": "eth0"} for pod in pods]
    return {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}


def _collect(stage: Stage, live: Sequence[Pod]) -> Answer:
    return stage.must("GC", live[0], "GC", **valid(stage, live))


def all_alive(stage: Stage, live: Sequence[Pod]) -> None:
    """No address of a pod that lives was freed or given again."""
    for pod in live:
        if pod.container_id in stage.results:
            stage.traffic(pod)
    stage.count_duplicates(live)


# The truth about who lives is known before ADD and until after DEL, as in a runtime.
_RACES = """
import json, os, sys, random, multiprocessing
sys.path.insert(0, sys.argv[1])
from ipam.disk import DiskLeases
from ipam.ranges import canonical
from ipam.values import IpamConf, Owner
from ipaddress import ip_network
data_dir, network, runs = sys.argv[2], sys.argv[3], int(sys.argv[4])
conf = IpamConf("podwire-ipam", ((canonical(ip_network("10.244.0.0/24")),),), data_dir=data_dir)
store = DiskLeases(lambda _network, _address: False)
truth = "/run/faults"
os.mkdir(truth)

def come_and_go(stop, lost, turns):
    number, live = 0, []
    while not stop.is_set():
        turns.value += 1
        if len(live) < 20 or (len(live) < 40 and random.random() < 0.5):
            name, number = f"live{number}", number + 1
            open(os.path.join(truth, name), "w").close()
            store.reserve(conf, network, Owner(name, "eth0"), ())
            live.append(name)
        else:
            name = live.pop(random.randrange(len(live)))
            lost.value += not store.held(conf, network, Owner(name, "eth0"))
            store.release(conf, network, Owner(name, "eth0"))
            os.unlink(os.path.join(truth, name))

stop = multiprocessing.Event()
lost, turns = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
other = multiprocessing.Process(target=come_and_go, args=(stop, lost, turns))
other.start()
kept = overtaken = 0
for number in range(runs):
    dead = Owner(f"dead{number}", "eth0")
    store.reserve(conf, network, dead, ())
    snapshot, before = store.owners(conf, network), turns.value
    valid = {(name, "eth0") for name in os.listdir(truth)}
    while number % 2 and turns.value < before + 2 and other.is_alive():
        os.sched_yield()  # every other time somebody comes or goes in between
    overtaken += turns.value != before
    store.retain(conf, network, valid, snapshot)
    kept += bool(store.held(conf, network, dead))
stop.set()
other.join()
print(json.dumps({"dead_kept": kept, "live_released": lost.value, "overtaken": overtaken}))
"""
