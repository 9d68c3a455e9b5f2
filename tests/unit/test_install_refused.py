"""What is in an installer's way is found before anything is changed, and named as a person knows
it; what was changed before something failed is told."""

from __future__ import annotations

import errno
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cni_plugin.cli import install as command
from cni_plugin.install import files
from tests.install.kit import small


class Node:
    """A root to install below, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = folder / "root"
        self.root.mkdir()
        self.old, self.new = small(folder, "1.0"), small(folder, "2.0")
        self._capsys = capsys

    def install(self, tree: Path, *options: str) -> tuple[int, str, str]:
        parser = ArgumentParser()
        command.add_arguments(parser)
        words = ["--root", str(self.root), "--from", str(tree), *options]
        status = command.run(parser.parse_args(words))
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def paths(self) -> list[str]:
        return sorted(str(path) for path in self.root.rglob("*"))


@pytest.fixture
def node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Node:
    return Node(tmp_path, capsys)


@pytest.mark.parametrize(
    ("path", "make", "found"),
    [
        ("opt/cni/bin/podwire", Path.mkdir, "a folder, wanted a file"),
        ("opt/cni/bin/podwire-ipam", Path.mkdir, "a folder, wanted a file"),
        ("opt/podwire/current", Path.mkdir, "a folder, wanted a link"),
        ("opt/podwire/lock", Path.mkdir, "a folder, wanted a file"),
        ("opt/podwire/versions", Path.touch, "no folder, wanted a folder"),
        ("opt/podwire", Path.touch, "no folder, wanted a folder"),
        ("opt/cni", Path.touch, "no folder, wanted a folder"),
    ],
)
def test_what_is_in_the_way_is_found_first(
    node: Node, path: str, make: Callable[[Path], None], found: str
) -> None:
    there = node.root / path
    there.parent.mkdir(parents=True)
    make(there)
    before = node.paths()
    status, said, told = node.install(node.new)
    assert (status, said) == (1, "")
    assert told == (f"podwire: {there} is {found}\nmove {there} away; nothing was changed\n")
    assert node.paths() == before


def _full(path: str) -> Callable[..., Any]:
    """os.rename that has no room for this path."""
    rename = os.rename

    def fails(source: str, target: str) -> None:
        if target.endswith(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, target)
        rename(source, target)

    return fails


@pytest.mark.parametrize(
    ("path", "done"),
    [
        ("opt/podwire/current", ["copy"]),
        ("opt/cni/bin/podwire", ["copy", "switch"]),
        ("opt/cni/bin/podwire-ipam", ["copy", "switch", "launcher"]),
    ],
)
def test_what_was_done_before_it_failed_is_told(
    node: Node, monkeypatch: pytest.MonkeyPatch, path: str, done: list[str]
) -> None:
    node.install(node.old)
    for name in ("podwire", "podwire-ipam"):
        (node.root / "opt/cni/bin" / name).write_text("of another build")
    monkeypatch.setattr(files.os, "rename", _full(path))
    status, said, told = node.install(node.new, "-o", "json")
    assert status == 1
    assert f"{node.root}/{path}: No space left on device\nmake room" in told
    assert "what is listed was done before" in told
    told_of = json.loads(said)
    assert [one["verb"] for one in told_of["done"]] == done
    assert told_of["failure"]["msg"] in told
    monkeypatch.undo()
    assert node.install(node.new)[0] == 0, "the next run goes on from there"


def test_a_write_that_fails_names_what_was_to_be_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) and fsync(2) fail without a path."""

    def fails(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(files.os, "fsync", fails)
    (node.root / "opt/podwire").mkdir(parents=True)
    status, said, told = node.install(node.new)
    assert (status, said) == (1, "")
    assert f"{node.root}/opt/podwire/versions" in told
    assert told.endswith("Input/output error\nnothing was changed\n")


def test_what_a_killed_installer_left_goes_before_room_is_looked_for(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = node.root / "opt/podwire/versions/.1.0-x"
    left.mkdir(parents=True)
    room = os.statvfs(node.root)

    def statvfs(_path: str) -> Any:
        return SimpleNamespace(
            f_bavail=0 if left.exists() else room.f_bavail,
            f_frsize=room.f_frsize,
            f_files=0,
            f_favail=0,
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    status, said, told = node.install(node.old)
    assert (status, told) == (0, "")
    assert said.startswith("tidied   versions/.1.0-x\ncopied ")
