"""Many calls at once: executables, the IPAM executable alone, and the store inside a process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

from tests.faults.counts import Counts
from tests.faults.stage import Answer, Call, Lab, Stage
from tests.faults.subject import DATA_DIR, NETWORK, ROOT, counted_range
from tests.support.node import Pod

EXHAUSTED = 100  # podwire's documented code
LIMIT_S = 240.0  # for all together, on a busy machine

# In-process use of the store, as an agent uses it: a process that serves several requests at once.
_RESERVE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from ipam.disk import DiskLeases
from ipam.ranges import canonical
from ipam.values import IpamConf, Owner
from ipaddress import ip_network, ip_address
start, end, data_dir, network, verb = sys.argv[2:7]
subnet = ip_network("10.244.0.0/22")
made = canonical(subnet, start=ip_address(start), end=ip_address(end))
conf = IpamConf("podwire-ipam", ((made,),), data_dir=data_dir)
store = DiskLeases(lambda _network, _address: False)
children = []
for owner in sys.argv[7:]:
    reading, writing = os.pipe()
    if os.fork() == 0:
        if verb == "ADD":
            leases = store.reserve(conf, network, Owner(owner, "eth0"), ())
            found = [str(lease.address.ip) for lease in leases]
        else:
            found = [str(x) for x in store.release(conf, network, Owner(owner, "eth0"))]
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    children.append((owner, reading))
answers = {}
for owner, reading in children:
    answers[owner] = json.loads(os.read(reading, 4096) or "[]")
    os.wait()
print(json.dumps(answers))
"""


def crowd(lab: Lab, number: int) -> Counts:
    """number ADDs at once fill the range exactly; one more is refused and leaves nothing; then as
    many DELs at once. Of podwire's a quarter go through podwire-ipam alone and an eighth through
    the store in a process; of the reference's a quarter through host-local alone."""
    counts = Counts()
    with lab.stage(counts, counted_range(number + 1)) as stage:
        before = stage.state()
        pods = [stage.node.pod() for _ in range(number)]
        bare = pods[: number // 4]  # the IPAM executable
        inside = pods[number // 4 : number * 3 // 8] if lab.plugin.is_podwire else []
        whole = pods[len(bare) + len(inside) :]
        taken = _all_at_once(stage, "ADD", whole, bare, inside)
        counts.runs += number
        counts.struck += number
        _all_different(stage, taken, number)
        for pod in whole:
            if pod.container_id in stage.results:
                stage.traffic(pod)
        stage.count_duplicates(whole)
        _one_too_many(stage)
        _all_at_once(stage, "DEL", whole, bare, inside)
        stage.nothing_left(pods[-1], before, "after all DELs")
        stage.check_store()
    return counts


def _all_at_once(
    stage: Stage, verb: str, whole: Sequence[Pod], bare: Sequence[Pod], inside: Sequence[Pod]
) -> list[str]:
    """The addresses that ADD gave."""
    calls: list[tuple[Pod, Call]] = []
    process = inside_process(stage, verb, [x.container_id for x in inside]) if inside else None
    for position in range(len(whole)):  # mixed, not one kind after the other
        calls.append((whole[position], stage.start(verb, whole[position])))
        if position < len(bare):
            calls.append((bare[position], stage.start(verb, bare[position], ipam=True)))
    taken: list[str] = []
    for pod, call in calls:
        answer = stage.finish(call, pod, LIMIT_S)
        if not answer.ok:
            _failed(stage, verb, str(answer))
        taken += answer.addresses
    if process is not None:
        said, errors = process.communicate(timeout=LIMIT_S)
        answers = json.loads(said or "{}")
        for pod in inside:
            if not answers.get(pod.container_id):
                _failed(stage, verb, f"in-process {verb}: {errors[-300:]}")
            taken += answers.get(pod.container_id, [])
    return taken


def inside_process(stage: Stage, verb: str, owners: Sequence[str]) -> subprocess.Popen[str]:
    """A process that asks the store for all owners at once; prints their addresses as JSON."""
    one = stage.conf["ipam"]["ranges"][0][0]
    words = (one["rangeStart"], one["rangeEnd"], DATA_DIR, NETWORK, verb)
    command = (sys.executable, "-I", "-c", _RESERVE, str(ROOT), *words, *owners)
    return stage.node.spawn(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _failed(stage: Stage, verb: str, note: str) -> None:
    stage.counts.lose("failed_add" if verb == "ADD" else "failed_del", note)


def _all_different(stage: Stage, taken: list[str], number: int) -> None:
    twice = len(taken) - len(set(taken))
    if twice:
        stage.counts.lose("duplicates", f"{twice} of {len(taken)} given twice", twice)
    if len(stage.files()) != number + 1:  # the bystander has one
        stage.counts.lose("leaks", f"{len(stage.files())} reservations for {number + 1} pods")


def _one_too_many(stage: Stage) -> None:
    """The range is full: refused, with podwire's documented code, and nothing is left."""
    pod, before = stage.node.pod(), stage.state()
    answer: Answer = stage.call("ADD", pod)
    if answer.ok:
        stage.counts.lose("duplicates", f"an address from a full range: {answer}")
    elif stage.plugin.is_podwire and answer.code != EXHAUSTED:
        stage.counts.lose("wrong", f"code {EXHAUSTED} wanted: {answer}")
    stage.nothing_left(pod, before, "after an ADD to a full range")
    stage.must("DEL", pod, "DEL of an ADD to a full range")
