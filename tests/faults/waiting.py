"""A lock that somebody else holds, and a clock that jumps."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.counts import Counts
from tests.faults.power import fill
from tests.faults.stage import Call, Lab, Stage, scratch
from tests.faults.subject import FOLDER, ROOT, counted_range
from tests.support.node import wait_until

TRY_AGAIN = 11  # SPEC 1.1.0, well-known error codes
BOUND_S = 30.0  # podwire's promise
START_UP_S = 5.0  # for the interpreter on a busy machine
YEAR_S = 365 * 24 * 3600
JUMPS_S = (3600, -3600, 10 * YEAR_S, -10 * YEAR_S)
ADDRESSES = 6
LIVE = 3


def lock_holder_dies(lab: Lab, runs: int) -> Counts:
    """ADD waits for the lock; its holder is killed; ADD goes on at once."""
    counts = Counts()
    with lab.stage(counts) as stage:
        for _ in range(runs):
            before, pod = stage.state(), stage.node.pod()
            with _held_lock(stage) as holder:
                call = stage.start("ADD", pod)
                wait_until(lambda: _has_opened_lock(call), "ADD waits for the lock", 20.0)  # noqa: B023
                counts.struck += call.lasts(0)
                holder.kill()
                answer = stage.finish(call, pod, START_UP_S)
            counts.runs += 1
            if not answer.ok:
                counts.lose("failed_add", f"after the holder's death: {answer}")
            stage.recover(pod, before)
    return counts


def lock_never_free(lab: Lab, runs: int) -> Counts:
    """The holder stays: ADD and DEL give up in time, with code 11 that names the holder; nothing
    is left of that ADD, and DEL works once the lock is free."""
    counts = Counts()
    with lab.stage(counts) as stage:
        for _ in range(runs):
            before, live, pod = stage.state(), stage.node.pod(), stage.node.pod()
            stage.must("ADD", live, "ADD before the fault")
            attached = stage.state()
            with _held_lock(stage) as holder:
                for verb, which in (("ADD", pod), ("DEL", live)):
                    answer = stage.call(verb, which, BOUND_S + START_UP_S)
                    counts.runs += 1
                    counts.struck += not answer.ok
                    named = f"pid {holder.pid}".encode() in answer.stdout
                    if answer.status is not None and (answer.code != TRY_AGAIN or not named):
                        counts.lose("wrong", f"code 11 naming {holder.pid} wanted: {answer}")
                    if verb == "ADD":
                        stage.nothing_left(pod, attached, "after the ADD that gave up")
            stage.must("DEL", pod, "DEL of the ADD that gave up")
            stage.recover(live, before)
    return counts


def clock(lab: Lab, runs: int) -> Counts:
    """The wall clock jumps by an hour and by ten years, to and fro: for the plugin's process by a
    preloaded library, and for the files by their times."""
    counts = Counts()
    with scratch() as folder:
        library = _compile(Path(folder))
        for number in range(runs):
            jump_s = JUMPS_S[number % len(JUMPS_S)]
            with lab.stage(counts, counted_range(ADDRESSES + 1)) as stage:
                env = {"LD_PRELOAD": str(library), "FAULTS_CLOCK": str(jump_s)}
                _jump(stage, env, jump_s)
    return counts


def missing_gcc() -> str:
    """Why the clock cannot be moved here; empty when it can."""
    return "" if shutil.which("gcc") else "gcc is missing; apt-get install gcc libc6-dev"


def _jump(stage: Stage, env: dict[str, str], jump_s: int) -> None:
    live = [stage.node.pod() for _ in range(LIVE)]
    for pod in live:
        stage.must("ADD", pod, "ADD before the jump")
    freed = stage.results[live[0].container_id]["ips"][0]["address"]
    moved = time.time() + jump_s
    for path in stage.node.path(FOLDER).rglob("*"):
        os.utime(path, (moved, moved))
    stage.counts.runs += 1
    stage.counts.struck += 1
    for pod in live:
        stage.must("CHECK", pod, "CHECK after the jump", env=env)
    stage.must("DEL", live[0], "DEL after the jump", env=env)
    new = stage.node.pod()
    if stage.must("ADD", new, "ADD after the jump", env=env).ok:
        stage.traffic(new)
        if stage.results[new.container_id]["ips"][0]["address"] == freed:
            stage.counts.lose("wrong", f"{freed} given again at once")
    fill(stage, ADDRESSES - LIVE, [*live[1:], new])


@contextlib.contextmanager
def _held_lock(stage: Stage) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the store's lock as host-local does, by flock(2)."""
    holder = stage.node.spawn(
        "flock", "--no-fork", f"{FOLDER}/lock", "cat",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("held\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def _has_opened_lock(call: Call) -> bool:
    """Whether a process of the call's group has the lock file open."""
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if os.getpgid(int(descriptors.parent.name)) != call.process.pid:
                continue
            if any(str(one.readlink()).endswith("/lock") for one in descriptors.iterdir()):
                return True
    return False


def _compile(folder: Path) -> Path:
    library = folder / "clock.so"
    source = ROOT / "tests" / "faults" / "clock.c"
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Werror",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run(command, check=True)
    return library
