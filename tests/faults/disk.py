"""A disk that refuses: no space, no inodes, read-only. The data folder is a small tmpfs."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from tests.faults.counts import Counts
from tests.faults.observer import State
from tests.faults.stage import Answer, Lab, Stage
from tests.faults.subject import DATA_DIR
from tests.support.node import Node, Pod

IO_FAILURE = 5  # SPEC 1.1.0, well-known error codes
STEPS = 8  # free pages or inodes left for an ADD: 0 up to this; no ADD needs more
SIZE = "256k"
INODES = 128
PAGE = 4096  # bytes


def full_bytes(lab: Lab, runs: int) -> Counts:
    """ADD and DEL with 0, 1, 2, ... free pages."""
    return _full(lab, runs, _fill_bytes)


def full_inodes(lab: Lab, runs: int) -> Counts:
    """ADD and DEL with 0, 1, 2, ... free inodes."""
    return _full(lab, runs, _fill_inodes)


def read_only(lab: Lab, runs: int) -> Counts:
    """The file system becomes read-only under a live pod: ADD is refused and leaves nothing, DEL
    must not say success while it keeps the address, and works once it is writable again."""
    counts = Counts()
    with lab.stage(counts, setup=mount_small) as stage:
        for _ in range(runs):
            before = stage.state()
            live, other = stage.node.pod(), stage.node.pod()
            stage.must("ADD", live, "ADD before the fault")
            attached = stage.state()
            stage.node.run("mount", "-o", "remount,ro", DATA_DIR)
            _refused(stage, other, attached, stage.call("ADD", other))
            deleted = stage.call("DEL", live)
            if deleted.ok and any(live.container_id.encode() in x for x in stage.files().values()):
                counts.lose("wrong", "DEL says success and keeps the address")
            stage.node.run("mount", "-o", "remount,rw", DATA_DIR)
            counts.runs += 1
            counts.struck += 1
            stage.must("DEL", other, "DEL of the refused ADD")
            stage.recover(live, before)
    return counts


def mount_small(node: Node) -> None:
    """The data folder on a file system that is soon full."""
    node.path(DATA_DIR).mkdir(parents=True, mode=0o700)
    options = f"mode=700,size={SIZE},nr_inodes={INODES}"
    node.run("mount", "-t", "tmpfs", "-o", options, "faults", DATA_DIR)


def _full(lab: Lab, runs: int, fill: Callable[[Path, int], None]) -> Counts:
    counts = Counts()
    with lab.stage(counts, setup=mount_small) as stage:
        live = stage.node.pod()
        for free in (number % (STEPS + 1) for number in range(runs)):
            before = stage.state()
            stage.must("ADD", live, "ADD before the fault")
            fill(stage.node.path(DATA_DIR), free)
            attached, pod = stage.state(), stage.node.pod()
            answer = stage.call("ADD", pod)
            counts.runs += 1
            counts.struck += not answer.ok
            _refused(stage, pod, attached, answer)
            stage.must("DEL", pod, f"DEL with {free} free")
            stage.must("DEL", live, f"DEL of a live pod with {free} free")
            stage.nothing_left(pod, before, f"after DEL with {free} free")
            empty(stage.node.path(DATA_DIR))
            live = stage.recover(live, stage.state())
    return counts


def _refused(stage: Stage, pod: Pod, before: State, answer: Answer) -> None:
    """Invariant 7; podwire documents the code."""
    if answer.ok:
        stage.traffic(pod)
        return
    if stage.plugin.is_podwire and answer.code != IO_FAILURE:
        stage.counts.lose("wrong", f"code {IO_FAILURE} wanted: {answer}")
    stage.nothing_left(pod, before, f"after a refused ADD ({answer})")


def _fill_bytes(folder: Path, free: int) -> None:
    """A file that takes all but `free` pages."""
    status = os.statvfs(folder)
    pages = status.f_bavail * status.f_frsize // PAGE - free
    ballast_folder(folder).joinpath("ballast").write_bytes(bytes(PAGE * max(0, pages)))


def _fill_inodes(folder: Path, free: int) -> None:
    """Files until only `free` inodes are left."""
    within = ballast_folder(folder)
    for number in range(os.statvfs(folder).f_ffree - free):
        within.joinpath(f"{number}.ballast").touch()


def ballast_folder(folder: Path) -> Path:
    """Where the ballast lies; it belongs to no network."""
    made = folder / "ballast"
    try:
        made.mkdir(exist_ok=True)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    return made


def empty(folder: Path) -> None:
    """Take the ballast away."""
    for one in (folder / "ballast").glob("*"):
        one.unlink()
    (folder / "ballast").rmdir()
