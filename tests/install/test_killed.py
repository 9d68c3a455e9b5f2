"""`podwire install` killed before each system call that changes something: what is installed works,
and the next run ends where an undisturbed one does.

The releases are small and of shell scripts, so that there are few calls and each is walked through.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cni_plugin.install.node import install
from cni_plugin.install.place import Place
from cni_plugin.install.release import read_release
from tests.install.kit import small
from tests.support import need, syscalls

CHANGES = (
    "open", "openat", "write", "mkdir", "rmdir", "rename", "symlink", "unlink", "unlinkat", "chmod",
    "fchmod", "fsync", "flock", "vfork", "clone", "clone3",
)  # fmt: skip
CALL = re.compile(r"^(\w+)\((.*)$")
CREATES = re.compile(r"O_CREAT|O_DIRECTORY|O_TRUNC")


class Scene:
    """A node with the old release, and the new one to install."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.new = small(folder, "2.0")
        install(Place(str(self.root)), read_release(str(small(folder, "1.0"))))

    def command(self) -> list[str]:
        words = [sys.executable, "-I", "-B", "-m", "cni_plugin", "install"]
        return [*words, "--root", str(self.root), "--from", str(self.new)]

    def answer(self) -> str:
        launcher = self.root / "opt/cni/bin/podwire"
        done = subprocess.run([launcher], capture_output=True, text=True, check=False)
        return str(json.loads(done.stdout)["supportedVersions"]) if done.stdout else done.stderr

    def files(self) -> dict[str, object]:
        """Every path below the root: its kind and mode, and what it holds or leads to."""
        return {
            str(path.relative_to(self.root)): (
                path.lstat().st_mode,
                path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes(),
            )
            for path in sorted(self.root.rglob("*"))
        }


def changes(scene: Scene, log: Path) -> list[tuple[str, int]]:
    """The system calls of an undisturbed run that change something below the root, by name and
    number."""
    traced = syscalls.known(CHANGES)
    command = ["strace", "-qq", "-s", "4096", "-o", str(log), "-e", f"trace={traced}"]
    subprocess.run([*command, *scene.command()], check=True, capture_output=True)
    counts: Counter[str] = Counter()
    found = []
    begun = False
    for line in log.read_text().splitlines():
        call = CALL.match(line)
        if not call:
            continue
        name, rest = call.groups()
        counts[name] += 1
        begun = begun or "opt/podwire" in rest
        if begun and (not name.startswith("open") or CREATES.search(rest)):
            found.append((name, counts[name]))
    return found


@pytest.mark.timeout(240)  # 20 s on a machine that does nothing else
def test_killed_at_each_change(tmp_path: Path) -> None:
    need.tool("strace")
    whole = Scene(tmp_path / "whole")
    points = changes(whole, tmp_path / "log")
    wanted = whole.files()
    assert len(points) > 30
    struck = 0
    for number, (name, count) in enumerate(points):
        scene = Scene(tmp_path / str(number))
        fault = f"inject={name}:signal=KILL:when={count}"
        options = ["-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", fault]
        killed = subprocess.run(
            ["strace", *options, *scene.command()], capture_output=True, text=True, check=False
        )
        struck += killed.returncode != 0
        assert scene.answer() in ("1.0", "2.0"), (name, count)
        install(Place(str(scene.root)), read_release(str(scene.new)))
        assert scene.answer() == "2.0", (name, count)
        assert scene.files() == wanted, (name, count)
    assert struck == len(points)
