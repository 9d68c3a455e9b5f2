"""A damaged store: each kind of damage under live pods. Then everybody can be served, nobody gets
an address that is in use, and DEL frees all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.faults.counts import Counts
from tests.faults.power import fill
from tests.faults.stage import Lab, Stage
from tests.faults.subject import FOLDER, counted_range
from tests.support.node import Pod

ADDRESSES = 8  # of the range, the bystander's not counted
LIVE = 3
FREE = "10.244.0.9"  # an address of the range that nobody has


def _write(name: str, data: bytes) -> Callable[[Path, str], None]:
    def write(folder: Path, _live: str) -> None:
        (folder / name).write_bytes(data)

    return write


def _write_live(data: bytes) -> Callable[[Path, str], None]:
    def write(folder: Path, live: str) -> None:
        (folder / live).write_bytes(data)

    return write


def _foreign(folder: Path, _live: str) -> None:
    for name in ("README", "10.244.0.9.bak"):
        (folder / name).write_bytes(b"other\r\neth0")
        (folder / name).chmod(0o600)
    (folder / "subfolder").mkdir()
    (folder / "link").symlink_to("/run/nowhere")
    os.mkfifo(folder / "pipe")


def _lock_gone(folder: Path, _live: str) -> None:
    (folder / "lock").unlink()


def _wiped(folder: Path, _live: str) -> None:
    shutil.rmtree(folder)


def _only_reservations_gone(folder: Path, _live: str) -> None:
    for path in folder.glob("10.244.*"):
        path.unlink()


def _index_gone(folder: Path, _live: str) -> None:
    shutil.rmtree(folder / ".owners", ignore_errors=True)


def _records_gone(folder: Path, _live: str) -> None:
    root = folder.parents[len(Path(FOLDER).parts) - 2]
    shutil.rmtree(root / "run/podwire", ignore_errors=True)


DAMAGE: dict[str, Callable[[Path, str], None]] = {
    "a free address: empty file": _write(FREE, b""),
    "a free address: garbage": _write(FREE, bytes(range(128, 256))),
    "a free address: zeros": _write(FREE, bytes(64)),
    "a live reservation: emptied": _write_live(b""),
    "a live reservation: cut short": _write_live(b"bystan"),
    "a live reservation: garbage": _write_live(bytes(range(128, 256))),
    "foreign files": _foreign,
    "round robin: empty": _write("last_reserved_ip.0", b""),
    "round robin: garbage": _write("last_reserved_ip.0", b"\xff\x00no address"),
    "boot mark: empty": _write(".boot_id", b""),
    "boot mark: garbage": _write(".boot_id", b"\xff\x00"),
    "temp file of a killed process": _write(".tmp", b"half"),
    "lock file removed": _lock_gone,
    "index removed": _index_gone,
    "attachment records removed": _records_gone,
}
WIPED: dict[str, Callable[[Path, str], None]] = {
    "store wiped": _wiped,
    "reservations wiped": _only_reservations_gone,
}
# What `podwire ipam check` has to find in the end. podwire never touches files that are not its
# own; and what the bystander, who lives, has lost comes back only by a repair (its reservation) or
# when it is added anew (its record).
FINDINGS: dict[str, tuple[str, ...]] = {
    "foreign files": ("unknown-file",),
    "attachment records removed": ("link-without-record",),
    "store wiped": ("unreserved-interface",),
    "reservations wiped": ("unreserved-interface", "leftover"),
}


def damaged(lab: Lab, runs: int) -> Counts:
    """Each kind of damage in turn."""
    return _each(lab, runs, DAMAGE)


def wiped(lab: Lab, runs: int) -> Counts:
    """The store's reservations are gone, the pods live."""
    return _each(lab, runs, WIPED)


def _each(lab: Lab, runs: int, kinds: dict[str, Callable[[Path, str], None]]) -> Counts:
    counts = Counts()
    for number in range(runs):
        name = list(kinds)[number % len(kinds)]
        with lab.stage(counts, counted_range(ADDRESSES + 1)) as stage:
            _one(stage, name, kinds[name])
    return counts


def _one(stage: Stage, name: str, hurt: Callable[[Path, str], None]) -> None:
    live = [stage.node.pod() for _ in range(LIVE)]
    for pod in live:
        stage.must("ADD", pod, "ADD before the fault")
    before = stage.counts.losses
    hurt(stage.node.path(FOLDER), _address(stage, live[0]))
    stage.counts.runs += 1
    stage.counts.struck += 1
    fill(stage, ADDRESSES - LIVE, live, findings=FINDINGS.get(name, ()))
    if name in WIPED:
        stage.repair_store()
    if stage.counts.losses != before:
        stage.counts.notes.append(f"with the damage: {name}")


def _address(stage: Stage, pod: Pod) -> str:
    found: str = stage.results[pod.container_id]["ips"][0]["address"].partition("/")[0]
    return found
