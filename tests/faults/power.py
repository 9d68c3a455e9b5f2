"""Power cuts and reboots.

A cut is ext4's own shutdown of a file system on a loop device without flushing its log: what the
journal has not committed is lost, file contents that were never written back are lost, and the next
mount replays the journal. Other programs sync files of their own on a real disk, and each such sync
commits the journal with everybody's names in it; so at a random moment before the cut a foreign
file is synced in most runs.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import threading
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.faults.counts import Counts
from tests.faults.observer import torn_files
from tests.faults.stage import Call, Lab, Stage, scratch
from tests.faults.subject import DATA_DIR, FOLDER, counted_range
from tests.support.node import Node, Pod

EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32), linux/ext4.h
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH
IMAGE_BYTES = 16 << 20
ADDRESSES = 6  # of the range, the bystander's not counted
BEFORE = 4  # ADDs begun before a cut, at most
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SYNC_SHARE = 0.75  # of the cuts that have a foreign sync before them


def cut_and_reboot(lab: Lab, runs: int) -> Counts:
    """Power cut during or shortly after ADDs, then another boot: pods are dead, the runtime calls
    DEL for all it knew, and every address must be usable."""
    counts = Counts()
    for _ in range(runs):
        with scratch() as folder:
            image = _make_image(Path(folder))
            with lab.stage(Counts(), counted_range(ADDRESSES), bystander=False,
                           setup=partial(_mount_image, image=image)) as stage:  # fmt: skip
                known = _cut_during_adds(lab, stage)
                stage.node.run("umount", DATA_DIR)
            with lab.stage(counts, counted_range(ADDRESSES), bystander=False,
                           setup=partial(_boot, store=image)) as stage:  # fmt: skip
                _struck(stage)
                for pod in known:
                    stage.must("DEL", pod, "DEL after the reboot", netns="")
                fill(stage, ADDRESSES)
    return counts


def cut_without_reboot(lab: Lab, runs: int) -> Counts:
    """The store's file system is cut off and mounted again under live pods: no address twice, and
    every address usable."""
    counts = Counts()
    for _ in range(runs):
        with scratch() as folder:
            image = _make_image(Path(folder))
            with lab.stage(counts, counted_range(ADDRESSES + 1),
                           setup=partial(_mount_image, image=image)) as stage:  # fmt: skip
                known = _cut_during_adds(lab, stage)
                stage.node.run("umount", DATA_DIR)
                stage.node.run("mount", "-o", "loop", image, DATA_DIR)
                _struck(stage)
                live = [pod for pod in known if pod.container_id in stage.results]
                for pod in known:
                    if pod not in live:
                        stage.must("DEL", pod, "DEL of the ADD that was cut")
                new = fill(stage, ADDRESSES - len(live), live, delete=False)
                # The cut may have taken names of living pods' reservations: not promised to
                # survive, but to be found and mended.
                stage.repair_store()
                delete_all(stage, [*live, *new])
    return counts


def reboot(lab: Lab, runs: int) -> Counts:
    """Every address was held when the node went down; nobody calls DEL for the dead pods before
    new ones come, only afterwards. Each address must be given, and the late DELs harm nobody."""
    counts = Counts()
    for _ in range(runs):
        with scratch() as folder:
            store = Path(folder)
            with lab.stage(Counts(), counted_range(ADDRESSES), bystander=False,
                           setup=partial(_bind, store=store)) as stage:  # fmt: skip
                old = [stage.node.pod() for _ in range(ADDRESSES)]
                for pod in old:
                    stage.must("ADD", pod, "ADD before the reboot")
            with lab.stage(counts, counted_range(ADDRESSES), bystander=False,
                           setup=partial(_boot, store=store)) as stage:  # fmt: skip
                _struck(stage)
                new = fill(stage, ADDRESSES, delete=False)
                for pod in old:
                    stage.must("DEL", pod, "late DEL of a pod of the last boot", netns="")
                for pod in new:
                    stage.traffic(pod)
                delete_all(stage, new)
    return counts


def missing_ext4() -> str:
    """Why there can be no power cut here; empty when there can."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        return "no loop devices"
    script = (
        'truncate -s 4M "$1/i" && mkfs.ext4 -q "$1/i" && mount -o loop "$1/i" "$1" && umount "$1"'
    )
    with scratch() as folder:
        command = ["unshare", "--mount", "sh", "-c", script, "sh", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
    return done.stderr.strip() if done.returncode else ""


# --- the disk


def _make_image(folder: Path) -> str:
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True, capture_output=True)
    return str(image)


def _mount_image(node: Node, image: str) -> None:
    node.path(DATA_DIR).mkdir(parents=True, mode=0o700)
    node.run("mount", "-o", "loop", image, DATA_DIR)


def _bind(node: Node, store: Path) -> None:
    node.path(DATA_DIR).mkdir(parents=True, mode=0o700)
    node.run("mount", "--bind", store, DATA_DIR)


def _boot(node: Node, store: str | Path) -> None:
    """The node's next boot: its store, and another boot id."""
    if Path(store).is_dir():
        _bind(node, Path(store))
    else:
        _mount_image(node, str(store))
    other = node.path("/run/faults")
    other.mkdir()
    (other / "boot_id").write_text(f"{uuid.uuid4()}\n")
    node.run("mount", "--bind", "/run/faults/boot_id", BOOT_ID)


def _cut(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def _sync_foreign_file(folder: Path) -> None:
    descriptor = os.open(folder / "foreign", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, b"x")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the runs


def _cut_during_adds(lab: Lab, stage: Stage) -> list[Pod]:
    """Cuts the power at a random moment of a row of ADDs or after it; the pods that the runtime
    knows. The ADD under way is killed, as the power cut does."""
    folder = stage.node.path(DATA_DIR)
    pods = [stage.node.pod() for _ in range(BEFORE)]
    first = stage.must("ADD", pods[0], "ADD before the cut")
    length_s = first.seconds * BEFORE * 1.2
    cut_s = length_s * lab.chance()
    sync_s = cut_s * lab.chance() if lab.chance() < SYNC_SHARE else None
    adds = _Row(stage, pods[1:])
    adds.start()
    if sync_s is not None:
        adds.join(sync_s)
        _sync_foreign_file(folder)
    adds.join(cut_s - (sync_s or 0.0))
    _cut(folder)
    adds.stop()
    return pods[: 1 + adds.begun]


class _Row(threading.Thread):
    """ADD after ADD, until stopped."""

    def __init__(self, stage: Stage, pods: Sequence[Pod]) -> None:
        super().__init__()
        self._stage = stage
        self._pods = pods
        self._stopped = threading.Event()
        self._call: Call | None = None
        self.begun = 0

    def run(self) -> None:
        for pod in self._pods:
            if self._stopped.is_set():
                return
            self.begun += 1
            self._call = self._stage.start("ADD", pod)
            self._call.process.wait()
            answer = self._call.answer()  # closes its files, too
            if self._stopped.is_set():  # cut: whatever it says reaches nobody
                return
            if answer.ok:
                self._stage.results[pod.container_id] = answer.document
            else:
                self._stage.counts.lose("failed_add", f"ADD before the cut: {answer}")

    def stop(self) -> None:
        self._stopped.set()
        if self._call is not None:
            self._call.kill(group=True)
        self.join()
        if self._call is not None:
            assert not self._call.has_orphans(), "the group of a killed ADD lives on"


def _struck(stage: Stage) -> None:
    """Invariant 5, as the next boot finds the disk."""
    stage.counts.runs += 1
    stage.counts.struck += 1
    torn = torn_files(stage.node, FOLDER)
    if torn:
        stage.counts.lose("torn", f"after the cut: {torn}", len(torn))


def fill(
    stage: Stage,
    number: int,
    live: Sequence[Pod] = (),
    *,
    delete: bool = True,
    findings: Sequence[str] = (),
) -> list[Pod]:
    """ADD for new pods: exactly that many addresses must be there, and one ADD more is refused.
    Invariants 1, 5 and 6. delete, findings: see `delete_all`."""
    pods = [stage.node.pod() for _ in range(number)]
    given = [pod for pod in pods if stage.call("ADD", pod).ok]
    if len(given) < number:
        note = f"{len(given)} of {number} addresses given; torn: {torn_files(stage.node, FOLDER)}"
        stage.counts.lose("unusable", note, number - len(given))
    extra = stage.node.pod()
    if stage.call("ADD", extra).ok:
        given.append(extra)
    stage.count_duplicates([*live, *given, *([stage.bystander] if stage.bystander else [])])
    if delete:
        delete_all(stage, [*live, *given], findings)
    return given


def delete_all(stage: Stage, pods: Sequence[Pod], findings: Sequence[str] = ()) -> None:
    """DEL for each; no reservation but the bystander's may be left. Only then the store is
    checked, because torn files are healed by the ADDs before. findings: what it has to find."""
    for pod in pods:
        stage.must("DEL", pod, "DEL at the end")
    mine = stage.bystander.container_id.encode() if stage.bystander else b"\0"
    left = sorted(name for name, data in stage.files().items() if mine not in data)
    if left:
        stage.counts.lose("leaks", f"reserved for nobody: {left}", len(left))
    stage.check_store(*findings)
