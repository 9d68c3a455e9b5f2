"""make test-node: podwire's DaemonSet on two nodes as kind has them, scene by scene.

Run as `make test-node ARGS='--rounds 10' SUITE=forky`, which is inside hack/sandbox.sh; SUITE is
the Debian that the nodes have, and so their containerd. A line tells of each scene as it ends, with
what was found in it. Status 1 when one failed or nothing could be played.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.kind.scenes import SCENES, World  # noqa: E402
from tests.support.kind.world import opened  # noqa: E402

ROUNDS = 5


def main() -> int:
    """The scenes that were asked for."""
    parser = argparse.ArgumentParser(prog="make test-node ARGS=...")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="upgrades, there and back")
    parser.add_argument("--only", default="", help="scenes whose name has this in it")
    parser.add_argument("--commit", default="", help="whose code is upgraded, else the same")
    arguments = parser.parse_args()
    if os.environ.get("PODWIRE_SANDBOX") in {None, str(Path("/proc/self/ns/net").readlink())}:
        sys.exit("podwire: run it as `make test-node`: it must not touch this machine")
    suite = os.environ.get("SUITE", "")
    chosen = [scene for scene in SCENES if arguments.only in scene.__name__]
    if not chosen:
        sys.exit(f"podwire: no scene is named like {arguments.only!r}")
    print(f"podwire: two nodes and {len(chosen)} scenes; the nodes take half a minute", flush=True)
    began = time.monotonic()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="podwire-node-") as folder,
            opened(Path(folder), arguments.rounds, arguments.commit, suite) as world,
        ):
            containerd = ".".join(map(str, world.cluster.nodes[0].generation))
            _tell(True, "install", time.monotonic() - began, f"by containerd {containerd}")
            failed = sum(not _play(scene, world) for scene in chosen)
    except pytest.skip.Exception as reason:
        sys.exit(f"podwire: nothing was tried: {reason}")
    print(
        f"{len(chosen) - failed} scenes passed, {failed} failed, {time.monotonic() - began:.0f} s"
    )
    return min(failed, 1)


def _play(scene: Callable[[World], str], world: World) -> bool:
    """Whether it went well."""
    began = time.monotonic()
    try:
        found, passed = scene(world), True
    except pytest.skip.Exception as reason:
        found, passed = f"skipped: {reason}", True
    except Exception:  # noqa: BLE001  the other scenes tell more
        found, passed = traceback.format_exc(limit=-3), False
    _tell(passed, scene.__name__, time.monotonic() - began, found)
    return passed


def _tell(passed: bool, name: str, took_s: float, found: str) -> None:
    print(f"  {'✓' if passed else '✗'} {name:20} {took_s:6.1f} s  {found}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
