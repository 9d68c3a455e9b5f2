"""A fault at each system call that changes something, one call after the other, by strace.

First one run is traced, to learn how often each system call is made and which of them change
something. Then the verb is run once for each of them, with the fault injected at that call, and on
beyond the last one known until the verb ends unharmed. strace counts calls by name and thread, so
the walk goes name by name. A SIGKILL is delivered on entry: the call is not executed any more.
"""

from __future__ import annotations

import re
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import Answer, Lab, Stage
from tests.support.node import Pod

WORK = "/run/faults"  # on the node; the observer leaves it out
FILE_CALLS = (
    "open", "openat", "creat", "write", "pwrite64", "writev", "link", "linkat", "unlink",
    "unlinkat", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "symlinkat",
    "fsync", "fdatasync", "sync_file_range", "truncate", "ftruncate", "fallocate", "chmod",
    "fchmod", "fchmodat", "fchown", "fchownat", "utimensat",
)  # fmt: skip
NETLINK_CALLS = ("sendto", "sendmsg", "sendmmsg")
ANSWER_CALLS = ("recvfrom",)  # of iptables and nft, recvmsg: not the plugin's own
OTHER_CALLS = ("ioctl", "setns", "mount", "umount2", "flock", "clone", "clone3", "vfork", "execve")
KILL = "signal=KILL"
BEYOND = 3  # calls walked past the last known one, at most: parallel threads differ from run to run
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_CHANGES_FILE = re.compile(r"O_CREAT|O_TRUNC")
_ASKS = re.compile(r"RTM_GET|NFT_MSG_GET|IPSET_CMD_GET|CTRL_CMD_GET")


@dataclass(frozen=True)
class Walk:
    """Which part of the plugin is struck. delegate: the IPAM plugin that it executes, not itself:
    strace is put in its place in CNI_PATH."""

    stage: Stage
    verb: str
    pod: Pod
    delegate: bool = False

    def run(self, *options: str) -> Answer:
        """The verb under strace."""
        strace = ["strace", "-f", "-qq", *options]
        if not self.delegate:
            return self.stage.call(self.verb, self.pod, wrap=strace)
        plugin = self.stage.plugin
        folder = self.stage.node.path(f"{WORK}/bin")
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / plugin.ipam
        line = " ".join(f"'{word}'" for word in (*strace, str(plugin.bin_dir / plugin.ipam)))
        script.write_text(f"#!/bin/sh\nexec {line}\n")
        script.chmod(0o755)
        return self.stage.call(self.verb, self.pod, path=f"{WORK}/bin")

    def points(self, names: tuple[str, ...], *, reply: bool) -> dict[str, list[int]]:
        """By name of system call: the numbers of those that change something, ascending. reply:
        the writing of the answer among them."""
        known = _known_calls(names)
        trace = self.stage.node.path(f"{WORK}/trace")
        trace.parent.mkdir(exist_ok=True)
        self.run("-o", f"{WORK}/trace", "-s", "256", "-e", f"trace={known}")
        return changing_calls(trace.read_text(errors="replace"), reply=reply)


def changing_calls(trace: str, *, reply: bool = True) -> dict[str, list[int]]:
    """From strace's output, each thread counted by itself, as strace's injection does."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[str, set[int]] = {}
    for line in trace.splitlines():
        made = _LINE.match(line)
        if made is None:
            continue
        thread, name, arguments = made.groups()
        seen[thread, name] += 1
        answers = name == "write" and arguments.startswith(("1,", "2,"))
        if _changes(name, arguments) and (reply or not answers):
            found.setdefault(name, set()).add(seen[thread, name])
    return {name: sorted(numbers) for name, numbers in found.items()}


def _changes(name: str, arguments: str) -> bool:
    if name in {"open", "openat"}:
        return bool(_CHANGES_FILE.search(arguments))
    if name in NETLINK_CALLS:
        return not _ASKS.search(arguments)
    return name not in {"ioctl", "flock"} or "SIOCS" in arguments or "LOCK_EX" in arguments


def _known_calls(names: tuple[str, ...]) -> str:
    """Names that strace does not know on this architecture are left out, by its own `?`."""
    return ",".join(f"?{name}" for name in names)


# --- scenarios


def kill_add_calls(lab: Lab, runs: int) -> Counts:
    """SIGKILL before each system call of ADD that changes something."""
    return _walks(lab, runs, "ADD", KILL, (*FILE_CALLS, *NETLINK_CALLS, *OTHER_CALLS))


def kill_del_calls(lab: Lab, runs: int) -> Counts:
    """SIGKILL before each system call of DEL that changes something."""
    return _walks(lab, runs, "DEL", KILL, (*FILE_CALLS, *NETLINK_CALLS, *OTHER_CALLS))


def no_space_calls(lab: Lab, runs: int) -> Counts:
    """ENOSPC from each file call of ADD: refused and undone, or as good as without the fault."""
    return _walks(lab, runs, "ADD", "error=ENOSPC", FILE_CALLS)


def no_buffers_calls(lab: Lab, runs: int) -> Counts:
    """ENOBUFS from each netlink message of ADD that changes something, and from the receipt of
    each answer: then it is not known what was done."""
    return _walks(lab, runs, "ADD", "error=ENOBUFS", (*NETLINK_CALLS, *ANSWER_CALLS))


def sync_error(lab: Lab, runs: int) -> Counts:
    """EIO from each fsync and fdatasync of ADD."""
    return _walks(lab, runs, "ADD", "error=EIO", ("fsync", "fdatasync"))


def missing_strace() -> str:
    """Why no call can be struck here; empty when it can."""
    return "" if shutil.which("strace") else "strace is missing; apt-get install strace"


def _walks(lab: Lab, runs: int, verb: str, fault: str, names: tuple[str, ...]) -> Counts:
    """runs below 0: every point and beyond; otherwise that many, picked by chance."""
    counts = Counts()
    with lab.stage(counts) as stage:
        # podwire's allocator is no process of its own.
        for delegate in (False,) if lab.plugin.is_podwire else (False, True):
            pod = stage.node.pod()
            for each in ("ADD", "DEL"):  # the first of a node makes more than a later one
                stage.must(each, pod, "undisturbed")
            walk = Walk(stage, verb, pod, delegate)
            # An answer that cannot be written is no error that the plugin could tell.
            points = _learn(walk, names, reply=fault == KILL)
            if runs > 0:
                _sample(lab, walk, points, fault, runs)
            else:
                _all_points(walk, points, fault)
    return counts


def _sample(lab: Lab, walk: Walk, points: dict[str, list[int]], fault: str, runs: int) -> None:
    flat = [(name, number) for name, numbers in points.items() for number in numbers]
    for _ in range(runs):
        name, number = flat[int(lab.chance() * len(flat))]
        walk, _ended = _one_point(walk, name, number, fault)


def _all_points(walk: Walk, points: dict[str, list[int]], fault: str) -> None:
    for name, numbers in points.items():
        # The error walks name their points exactly: beyond them come calls that were left out.
        for number in _and_beyond(numbers) if fault == KILL else numbers:
            walk, ended = _one_point(walk, name, number, fault)
            if ended and number > numbers[-1]:
                break


def _one_point(walk: Walk, name: str, number: int, fault: str) -> tuple[Walk, bool]:
    """The walk to go on with, and whether the call ended unharmed."""
    stage, pod, counts = walk.stage, walk.pod, walk.stage.counts
    before = was = stage.state()
    if walk.verb == "DEL":
        stage.must("ADD", pod, "ADD before the fault")
        was = stage.state()
    answer = walk.run("-o", "/dev/null", "-e", f"inject={name}:{fault}:when={number}")
    counts.runs += 1
    losses = counts.losses
    if fault == KILL:
        counts.struck += not answer.ok and stage.state() != was
    else:
        counts.struck += not answer.ok
        _refused_or_done(stage, pod, answer, before)
    pod = stage.recover(pod, before, thorough=True)
    if counts.losses != losses:
        counts.notes.append(f"with {fault} at {name} number {number}")
    return replace(walk, pod=pod), answer.ok


def _learn(walk: Walk, names: tuple[str, ...], *, reply: bool) -> dict[str, list[int]]:
    stage, pod = walk.stage, walk.pod
    if walk.verb == "DEL":
        stage.must("ADD", pod, "ADD before the trace")
        return walk.points(names, reply=reply)
    points = walk.points(names, reply=reply)
    stage.must("DEL", pod, "DEL after the trace")
    return points


def _and_beyond(numbers: list[int]) -> Iterator[int]:
    yield from numbers
    yield from range(numbers[-1] + 1, numbers[-1] + 1 + BEYOND)


def _refused_or_done(stage: Stage, pod: Pod, answer: Answer, before: State) -> None:
    """After an error in the middle of ADD. Invariants 7 and 12."""
    if answer.ok:
        stage.traffic(pod)
    elif answer.status is not None and answer.status != -signal.SIGKILL:
        stage.nothing_left(pod, before, f"after a refused ADD ({answer})")
