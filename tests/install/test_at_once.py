"""`podwire install` and `podwire uninstall` at the same moment: one waits for the other, and a node
has all of podwire afterwards or nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from cni_plugin.cni.errors import TryAgainLater
from cni_plugin.install.lock import locked
from cni_plugin.install.node import install
from cni_plugin.install.place import Place
from cni_plugin.install.release import read_release
from tests.install.kit import small
from tests.support.node import Node, wait_until

SLOW = """
while ! [ -e {gate} ]; do sleep 0.02; done
"""


class Scene:
    """A node with release 1.0, and 2.0, whose trial does not end before the gate is opened."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.root = folder / "root"
        self.root.mkdir()
        self.place = Place(str(self.root))
        self.gate = folder / "gate"
        install(self.place, read_release(str(small(folder, "1.0"))))
        self.new = small(folder, "2.0", SLOW.format(gate=self.gate))
        self._started = contextlib.ExitStack()

    def command(self, verb: str, *options: str) -> list[str]:
        words = [sys.executable, "-I", "-B", "-m", "cni_plugin", verb, "--root", str(self.root)]
        return [*words, *options]

    def start(self, *words: str) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self._started.enter_context(self.node.spawn(*words, **pipes))

    def install(self, *before: str) -> subprocess.Popen[str]:
        return self.start(*before, *self.command("install", "--from", str(self.new)))

    def end(self) -> None:
        """All that was started."""
        self.gate.touch()
        self._started.close()

    def answer(self) -> str:
        launcher = self.root / "opt/cni/bin/podwire"
        if not launcher.exists():
            return ""
        return subprocess.run([launcher], capture_output=True, text=True, check=False).stdout

    @property
    def nothing_left(self) -> bool:
        return self.node.run(*self.command("uninstall", "--verify"), check=False).returncode == 0

    @contextlib.contextmanager
    def held(self) -> Iterator[IO[str]]:
        """The lock, as another process holds it."""
        with Path(self.place.lock).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock


@pytest.fixture
def scene(node: Node, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(node, tmp_path)
    yield made
    made.end()


def _ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, told = process.communicate(timeout=30)
    return process.returncode, said, told


def test_an_uninstallation_waits_for_the_installer_and_takes_what_it_has_put_there(
    scene: Scene,
) -> None:
    """It had looked before: the new version was none of what it was to remove."""
    installer = scene.install()
    wait_until(lambda: any(scene.root.glob("opt/podwire/versions/.2.0-*")), "2.0 is on its way")
    remover = scene.start(*scene.command("uninstall"))
    assert remover.stderr is not None
    line = remover.stderr.readline()
    assert f"waiting for {scene.place.lock}, held by pid {installer.pid} (" in line
    scene.gate.touch()
    assert _ended(installer)[0] == 0
    status, said, told = _ended(remover)
    assert (status, told) == (0, ""), said
    assert "removed  " in said
    assert "versions/2.0-" in said
    assert scene.nothing_left


def test_an_installer_waits_for_the_uninstallation_and_begins_anew(scene: Scene) -> None:
    """The lock that it waits for is removed with the rest: it makes another."""
    scene.gate.touch()
    with scene.held():
        installer = scene.install()
        assert installer.stderr is not None
        assert f"held by pid {os.getpid()} (" in installer.stderr.readline()
        gone = (scene.place.versions, scene.place.current, *scene.root.glob("opt/cni/bin/*"))
        scene.node.run("rm", "-r", *gone)
        Path(scene.place.lock).unlink()
        with contextlib.suppress(OSError):  # the installer may have it already
            Path(scene.place.tree_dir).rmdir()
    assert _ended(installer)[0] == 0
    assert "2.0" in scene.answer()
    assert Path(scene.place.lock).exists()


def test_whoever_is_second_leaves_all_or_nothing(scene: Scene) -> None:
    scene.gate.touch()
    for _turn in range(5):
        both = [scene.install(), scene.start(*scene.command("uninstall"))]
        statuses = [_ended(one)[0] for one in both]
        assert statuses[0] == 0
        assert "2.0" in scene.answer() or scene.nothing_left


def test_a_lock_that_is_kept_is_given_up_and_nothing_has_changed(scene: Scene) -> None:
    with (
        scene.held(),
        pytest.raises(TryAgainLater) as given_up,
        locked(scene.place, wait_s=0.1),
    ):
        pytest.fail("somebody else has it")
    assert f"not free within 0.1 s: held by pid {os.getpid()} (" in given_up.value.msg
    assert "`podwire install` or `podwire uninstall` is at work" in given_up.value.details


def test_a_container_waits_for_one_that_it_cannot_see(scene: Scene) -> None:
    scene.gate.touch()
    with scene.held():
        installer = scene.install("unshare", "--pid", "--fork", "--mount-proc")
        assert installer.stderr is not None
        assert "held by a process that cannot be seen from here" in installer.stderr.readline()
    assert _ended(installer)[0] == 0


@pytest.mark.timeout(30)
def test_a_folder_that_was_removed_under_its_mount_is_told(scene: Scene) -> None:
    """An uninstallation on the node itself took it away: a container that has it mounted can make
    no file there. It was tried for ever."""
    source, target = scene.node.path("/run/tree"), scene.node.path("/run/root/opt/podwire")
    source.mkdir()
    target.mkdir(parents=True)
    scene.node.run("mount", "--bind", "/run/tree", "/run/root/opt/podwire")
    source.rmdir()
    words = [word.replace(str(scene.root), "/run/root") for word in scene.command("install")]
    done = scene.node.run(*words, "--from", str(scene.new), check=False)
    assert done.returncode == 1
    assert "/run/root/opt/podwire was removed from the node while it was mounted" in done.stderr
    assert "start this container again" in done.stderr
