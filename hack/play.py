"""Scenes on a world, one after another, with a line for each as it ends."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import pytest

World = TypeVar("World")


def play(
    name: str,
    opened: AbstractContextManager[World],
    scenes: Sequence[Callable[[World], str]],
    about: Callable[[World], str] = lambda _world: "",
) -> int:
    """1 when a scene failed. SystemExit where nothing can be played. name: the make target; about:
    what is to be said of a world that is open."""
    if os.environ.get("PODWIRE_SANDBOX") in {None, str(Path("/proc/self/ns/net").readlink())}:
        sys.exit(f"podwire: run it as `make {name}`: it must not touch this machine")
    print(f"podwire: two nodes and {len(scenes)} scenes; the nodes take a while", flush=True)
    began = time.monotonic()
    try:
        with opened as world:
            _tell(True, "nodes", time.monotonic() - began, about(world))
            failed = sum(not _play(scene, world) for scene in scenes)
    except pytest.skip.Exception as reason:
        sys.exit(f"podwire: nothing was tried: {reason}")
    took_s = time.monotonic() - began
    print(f"{len(scenes) - failed} scenes passed, {failed} failed, {took_s:.0f} s")
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
