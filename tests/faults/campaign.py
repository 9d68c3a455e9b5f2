"""The campaign: which scenarios there are, how often each runs in its short and its whole form."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults import (
    collect,
    collect_calls,
    crowd,
    damage,
    disk,
    kill,
    power,
    syscalls,
    waiting,
)
from tests.faults.counts import Counts
from tests.faults.stage import Lab, scratch
from tests.faults.subject import MODES, missing, open_plugin
from tests.faults.syscalls import EACH, SIXTH

PLUGINS = ("podwire", "reference")


def _nothing_missing() -> str:
    return ""


@dataclass(frozen=True)
class Scenario:
    """short, full: how often the fault is tried; 0: not in that form. EACH, SIXTH: at each
    system call, at each sixth.

    piece: runs that go in one piece on one node, so that the pieces can be shared out to cores and
    modes; 0: a walk, one piece a mode. modes: those it alternates between. needs: what the machine
    lacks for it; applies: why it makes no sense with a plugin."""

    name: str
    run: Callable[[Lab, int], Counts]
    short: int
    full: int
    piece: int = 0
    modes: Sequence[str] = ("bridge",)
    needs: Callable[[], str] = _nothing_missing
    applies: Callable[[Lab], str] = lambda _lab: ""


SCENARIOS = (
    Scenario("ADD killed, process, random", kill.kill_add_process, 4, 250, 25, MODES),
    Scenario("ADD killed, group, random", kill.kill_add_group, 4, 250, 25, MODES),
    Scenario("DEL killed, process, random", kill.kill_del_process, 4, 250, 25, MODES),
    Scenario("DEL killed, group, random", kill.kill_del_group, 4, 250, 25, MODES),
    Scenario("ADD killed before each call", syscalls.kill_add_calls, 6, EACH, 0, MODES,
             syscalls.missing_strace),
    Scenario("DEL killed before each call", syscalls.kill_del_calls, 6, EACH, 0, MODES,
             syscalls.missing_strace),
    Scenario("ADD, SIGTERM at each call", syscalls.term_add_calls, SIXTH, EACH, 0, MODES,
             syscalls.missing_strace, syscalls.same_as_killed),
    Scenario("DEL, SIGTERM at each call", syscalls.term_del_calls, SIXTH, EACH, 0, MODES,
             syscalls.missing_strace, syscalls.same_as_killed),
    Scenario("ADD, SIGSTOP at each call", syscalls.stop_add_calls, SIXTH, EACH, 0, MODES,
             syscalls.missing_strace, syscalls.same_as_killed),
    Scenario("DEL, SIGSTOP at each call", syscalls.stop_del_calls, SIXTH, EACH, 0, MODES,
             syscalls.missing_strace, syscalls.same_as_killed),
    Scenario("ADD, ENOSPC from each file call", syscalls.no_space_calls, 4, EACH, 0, MODES,
             syscalls.missing_strace),
    Scenario("ADD, ENOBUFS from each message", syscalls.no_buffers_calls, 4, EACH, 0, MODES,
             syscalls.missing_strace),
    Scenario("ADD, EIO from each sync", syscalls.sync_error, EACH, EACH, 0, MODES,
             syscalls.missing_strace),
    Scenario("disk full, bytes", disk.full_bytes, 2, 18, 9, MODES),
    Scenario("disk full, inodes", disk.full_inodes, 4, 18, 9, MODES),
    Scenario("disk read-only", disk.read_only, 1, 10, 5, MODES),
    Scenario("power cut, then boot", power.cut_and_reboot, 2, 50, 5, MODES, power.missing_ext4),
    Scenario("store's disk cut, pods live", power.cut_without_reboot, 1, 20, 5, MODES,
             power.missing_ext4),
    Scenario("reboot, runtime cache empty", power.reboot, 1, 10, 5, MODES),
    Scenario("store damaged under live pods", damage.damaged, 3, 30, 15, MODES),
    Scenario("store wiped under live pods", damage.wiped, 2, 20, 10, MODES),
    Scenario("wall clock moved", waiting.clock, 1, 8, 4, MODES, waiting.missing_gcc),
    Scenario("lock held, holder dies", waiting.lock_holder_dies, 1, 20, 10, MODES),
    Scenario("lock never free", waiting.lock_never_free, 0, 1, 1),
    Scenario("64 at once", crowd.crowd, 64, 64, 64),
    Scenario("253 at once", crowd.crowd, 0, 253, 253),
    Scenario("GC of 250 dead", collect.dead, 250, 250, 250, applies=collect.has_no_gc),
    Scenario("GC killed before each call", collect_calls.kill_gc_calls, 6, EACH, 0,
             needs=syscalls.missing_strace, applies=collect.has_no_gc),
    Scenario("GC races, executables", collect.race, 2, 100, 50, applies=collect.has_no_gc),
    Scenario("GC races, store", collect.store_race, 100, 500, 500, applies=collect.not_its_store),
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A part of a scenario that runs on one node."""

    scenario: Scenario
    plugin: str
    mode: str
    runs: int
    seed: int


def pieces(scenario: Scenario, plugin: str, runs: int, seed: int) -> Iterator[Piece]:
    """The scenario's parts, its modes taking turns; a walk is one part a mode."""
    if not scenario.piece and runs:
        for number, mode in enumerate(scenario.modes):
            yield Piece(scenario, plugin, mode, runs, seed + number)
        return
    for number, begin in enumerate(range(0, runs, scenario.piece or 1)):
        mode = scenario.modes[number % len(scenario.modes)]
        yield Piece(scenario, plugin, mode, min(scenario.piece, runs - begin), seed + number)


def why_not(scenario: Scenario, plugin: str) -> str:
    """Why the scenario cannot run here with this plugin; empty when it can."""
    with scratch() as folder:
        lab = Lab(open_plugin(plugin, Path(folder)), scenario.modes[0], random.random)
        return missing(plugin) or scenario.applies(lab) or scenario.needs()


def run(piece: Piece) -> Counts:
    """One piece, timed. An assertion that fails in it is a finding, not the campaign's end."""
    started = time.monotonic()
    chance = random.Random(piece.seed).random  # moments, no secrets
    with scratch() as folder:
        lab = Lab(open_plugin(piece.plugin, Path(folder)), piece.mode, chance)
        try:
            counts = piece.scenario.run(lab, piece.runs)
        except AssertionError as failed:
            counts = Counts()
            counts.lose("wrong", f"the scenario could not go on: {failed}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    counts.seconds = time.monotonic() - started
    return counts
