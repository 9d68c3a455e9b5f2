"""A fault at each system call that changes something, one call after the other, by strace.

First one run is traced, to learn how often each system call is made and which of them change
something. Then the verb is run once for each of them, with the fault injected at that call, and on
beyond the last one known until the verb ends unharmed. strace counts calls by name and thread, so
the walk goes name by name. A SIGKILL is delivered on entry: the call is not executed any more.
SIGTERM and SIGSTOP are noticed after it: the call is the last that was executed.
"""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import CALL_LIMIT_S, Answer, Call, Lab, Stage
from tests.faults.subject import Json
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
KILL, TERM, STOP = "signal=KILL", "signal=TERM", "signal=STOP"
SIGNALS = (KILL, TERM, STOP)
DEADLY = (KILL, STOP)  # the process is given no chance to undo anything
EACH = -1
SIXTH = -6  # each sixth call
POLL_S = 0.01
Points = dict[str, list[int]]  # numbers by name of system call, ascending
ALL_CALLS = (*FILE_CALLS, *NETLINK_CALLS, *OTHER_CALLS)
BEYOND = 3  # calls walked past the last known one, at most: parallel threads differ from run to run
_STOPPED = b"--- stopped by SIGSTOP ---"
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_CHANGES_FILE = re.compile(r"O_CREAT|O_TRUNC")
_ASKS = re.compile(r"RTM_GET|NFT_MSG_GET|IPSET_CMD_GET|CTRL_CMD_GET")


@dataclass(frozen=True)
class Walk:
    """Which part of the plugin is struck. delegate: the IPAM plugin that it executes, not itself:
    strace is put in its place in CNI_PATH. keys: added to the config, for GC."""

    stage: Stage
    verb: str
    pod: Pod
    delegate: bool = False
    keys: Json = field(default_factory=dict)

    def run(self, *options: str) -> Answer:
        """The verb under strace."""
        return self.stage.finish(self._start("-qq", *options), self.pod)

    def struck(self, name: str, number: int, fault: str) -> Answer:
        """The verb with the fault at that call. A stopped one is killed with its group, as a
        runtime does that waits no longer."""
        inject = f"inject={name}:{fault}:when={number}"
        if fault != STOP:
            return self.run("-o", "/dev/null", "-e", inject)
        log = self.stage.node.path(f"{WORK}/stopped")
        log.parent.mkdir(exist_ok=True)
        log.unlink(missing_ok=True)
        call = self._start("-o", f"{WORK}/stopped", "-e", f"trace={name}", "-e", inject)
        if _stops(call, lambda: log.exists() and _STOPPED in log.read_bytes()):
            call.kill(group=True)
        return self.stage.finish(call, self.pod)

    def _start(self, *options: str) -> Call:
        strace = ["strace", "-f", *options]
        if not self.delegate:
            return self.stage.start(self.verb, self.pod, wrap=strace, **self.keys)
        plugin = self.stage.plugin
        folder = self.stage.node.path(f"{WORK}/bin")
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / plugin.ipam
        line = " ".join(f"'{word}'" for word in (*strace, str(plugin.bin_dir / plugin.ipam)))
        script.write_text(f"#!/bin/sh\nexec {line}\n")
        script.chmod(0o755)
        return self.stage.start(self.verb, self.pod, path=f"{WORK}/bin", **self.keys)

    def points(self, names: tuple[str, ...], *, reply: bool) -> Points:
        """By name of system call: the numbers of those that change something, ascending. reply:
        the writing of the answer among them."""
        known = _known_calls(names)
        trace = self.stage.node.path(f"{WORK}/trace")
        trace.parent.mkdir(exist_ok=True)
        self.run("-o", f"{WORK}/trace", "-s", "256", "-e", f"trace={known}")
        return changing_calls(trace.read_text(errors="replace"), reply=reply)


def changing_calls(trace: str, *, reply: bool = True) -> Points:
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


def _stops(call: Call, stopped: Callable[[], bool]) -> bool:
    """Whether it hangs before it has ended."""
    end_s = time.monotonic() + CALL_LIMIT_S
    while not stopped() and time.monotonic() < end_s:
        if not call.lasts(POLL_S):
            return False
    return True


def _known_calls(names: tuple[str, ...]) -> str:
    """Names that strace does not know on this architecture are left out, by its own `?`."""
    return ",".join(f"?{name}" for name in names)


# --- walks


def walk_points(
    lab: Lab, walk: Walk, points: Points, fault: str, runs: int,
    strike: Callable[[Walk, str, int, str], tuple[Walk, bool]],
) -> None:  # fmt: skip
    """runs: that many points, picked by chance; EACH: all of them, and of signals beyond; below
    that every so many. strike: one point, see `_one_point`."""
    flat = [(name, number) for name, numbers in points.items() for number in numbers]
    if runs == EACH:
        _all_points(walk, points, fault, strike)
        return
    if runs > 0:
        chosen = [flat[int(lab.chance() * len(flat))] for _ in range(runs)]
    else:
        chosen = flat[int(lab.chance() * -runs) :: -runs]
    for name, number in chosen:
        walk, _ended = strike(walk, name, number, fault)


def _all_points(
    walk: Walk, points: Points, fault: str,
    strike: Callable[[Walk, str, int, str], tuple[Walk, bool]],
) -> None:  # fmt: skip
    for name, numbers in points.items():
        # The error walks name their points exactly: beyond them come calls that were left out.
        for number in _and_beyond(numbers) if fault in SIGNALS else numbers:
            walk, ended = strike(walk, name, number, fault)
            if ended and number > numbers[-1]:
                break


def _and_beyond(numbers: list[int]) -> Iterator[int]:
    yield from numbers
    yield from range(numbers[-1] + 1, numbers[-1] + 1 + BEYOND)


# --- scenarios


def kill_add_calls(lab: Lab, runs: int) -> Counts:
    """SIGKILL before each system call of ADD that changes something."""
    return _walks(lab, runs, "ADD", KILL, ALL_CALLS)


def kill_del_calls(lab: Lab, runs: int) -> Counts:
    """SIGKILL before each system call of DEL that changes something."""
    return _walks(lab, runs, "DEL", KILL, ALL_CALLS)


def term_add_calls(lab: Lab, runs: int) -> Counts:
    """SIGTERM at each of them: podwire undoes what it began, before any DEL."""
    return _walks(lab, runs, "ADD", TERM, ALL_CALLS)


def term_del_calls(lab: Lab, runs: int) -> Counts:
    """SIGTERM at each system call of DEL that changes something."""
    return _walks(lab, runs, "DEL", TERM, ALL_CALLS)


def stop_add_calls(lab: Lab, runs: int) -> Counts:
    """SIGSTOP at each of them: ADD hangs, until the runtime gives up and kills it."""
    return _walks(lab, runs, "ADD", STOP, ALL_CALLS)


def stop_del_calls(lab: Lab, runs: int) -> Counts:
    """As stop_add_calls, in DEL."""
    return _walks(lab, runs, "DEL", STOP, ALL_CALLS)


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


def same_as_killed(lab: Lab) -> str:
    """Why SIGTERM and SIGSTOP say nothing new of a plugin; empty when they do."""
    return "" if lab.plugin.is_podwire else "catches no signal: the walk with SIGKILL tells all"


def missing_strace() -> str:
    """Why no call can be struck here; empty when it can."""
    return "" if shutil.which("strace") else "strace is missing; apt-get install strace"


def _walks(lab: Lab, runs: int, verb: str, fault: str, names: tuple[str, ...]) -> Counts:
    counts = Counts()
    with lab.stage(counts) as stage:
        # podwire's allocator is no process of its own.
        for delegate in (False,) if lab.plugin.is_podwire else (False, True):
            pod = stage.node.pod()
            for each in ("ADD", "DEL"):  # the first of a node makes more than a later one
                stage.must(each, pod, "undisturbed")
            walk = Walk(stage, verb, pod, delegate)
            # An answer that cannot be written is no error that the plugin could tell.
            points = _learn(walk, names, reply=fault in SIGNALS)
            walk_points(lab, walk, points, fault, runs, _one_point)
    return counts


def _one_point(walk: Walk, name: str, number: int, fault: str) -> tuple[Walk, bool]:
    """The walk to go on with, and whether the call ended unharmed."""
    stage, pod, counts = walk.stage, walk.pod, walk.stage.counts
    before = was = stage.state()
    if walk.verb == "DEL":
        stage.must("ADD", pod, "ADD before the fault")
        was = stage.state()
    answer = walk.struck(name, number, fault)
    counts.runs += 1
    losses = counts.losses
    if fault in DEADLY:
        counts.struck += not answer.ok and stage.state() != was
    else:
        counts.struck += not answer.ok
        if walk.verb == "ADD":
            refused_or_done(stage, pod, answer, before)
    pod = stage.recover(pod, before, thorough=True)
    if counts.losses != losses:
        counts.notes.append(f"with {fault} at {name} number {number}")
    return replace(walk, pod=pod), answer.ok


def _learn(walk: Walk, names: tuple[str, ...], *, reply: bool) -> Points:
    stage, pod = walk.stage, walk.pod
    if walk.verb == "DEL":
        stage.must("ADD", pod, "ADD before the trace")
        return walk.points(names, reply=reply)
    points = walk.points(names, reply=reply)
    stage.must("DEL", pod, "DEL after the trace")
    return points


def refused_or_done(stage: Stage, pod: Pod, answer: Answer, before: State) -> None:
    """After an error or a SIGTERM in the middle of ADD. Invariants 7 and 12. That a plugin which
    is asked to end undoes what it began is podwire's promise; the reference makes none."""
    if answer.ok:
        stage.traffic(pod)
    elif answer.status == -signal.SIGTERM and not stage.plugin.is_podwire:
        return
    elif answer.status is not None and answer.status != -signal.SIGKILL:
        stage.nothing_left(pod, before, f"after a refused ADD ({answer})")
