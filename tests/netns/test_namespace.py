"""A thread that was in a pod's namespace is home again, whatever happens, or its process ends."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cni_plugin.cni.errors import Interrupted
from cni_plugin.kernel import namespace
from cni_plugin.kernel.namespace import inside, own_inode
from tests.netns.kit import MODES, conf, env, left
from tests.support.agent import running
from tests.support.node import Node, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
NOT_HOME = "cannot return to the node's network namespace: Operation not permitted"
CHANGES = "sendto,sendmsg,rename,unlink,mkdir"
CHANGE = re.compile(rf"\b({CHANGES.replace(',', '|')})\(")
# Each thread may enter a pod's namespace, and never leave it again.
REFUSED = ["-f", "-q", f"-etrace=setns,{CHANGES}", "--inject=setns:error=EPERM:when=2+"]


@pytest.fixture
def there(node: Node) -> Iterator[int]:
    with open(node.netns, "rb") as file:
        yield file.fileno()


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_cannot_leave_the_pods_namespace_ends_without_doing_anything_more(
    node: Node, snapshot: Snap, tmp_path: Path, mode: str
) -> None:
    before, pod, trace = snapshot(), node.pod(), tmp_path / "trace"
    done = node.plugin(_traced(node, tmp_path, trace), env("ADD", pod), conf(mode, (4, 6)))
    assert (done.returncode, done.stdout) == (1, b"")
    assert NOT_HOME in done.stderr
    lines = trace.read_text().splitlines()
    first = next(place for place, line in enumerate(lines) if "(INJECTED)" in line)
    assert [line for line in lines[first:] if CHANGE.search(line)] == []
    node.plugin("podwire", env("DEL", pod), conf(mode, (4, 6))).ok()
    assert left(before, snapshot()) == []


def _traced(node: Node, folder: Path, trace: Path) -> Path:
    script = folder / "traced"
    words = " ".join(f"'{word}'" for word in ["strace", *REFUSED, f"-o{trace}"])
    script.write_text(f"#!/bin/sh\nexec {words} {node.cni_bin / 'podwire'}\n")
    script.chmod(0o700)
    return script


def test_an_agent_one_of_whose_threads_cannot_leave_a_pods_namespace_ends(
    node: Node, launcher: Path, snapshot: Snap
) -> None:
    before, pod = snapshot(), node.pod()
    with running(node, prefix=("strace", "-o/dev/null", *REFUSED)) as agent:
        environ = {**env("ADD", pod), "PODWIRE_PYTHON": sys.executable}
        node.plugin(launcher, environ, conf()).ok()  # done by the launcher, which begins anew
        wait_until(lambda: agent.process.poll() is not None, "it has ended")
        assert agent.process.returncode == 1
    node.plugin("podwire", env("DEL", pod), conf()).ok()
    assert left(before, snapshot().without(r"/agent\.")) == []


class _Signal:
    """A signal as process.run has it, at one of the moments at which Python looks for signals in
    the functions that enter and leave: a function begins or has just ended."""

    def __init__(self, moment: int) -> None:
        self.left = moment

    def __call__(self, frame: object, event: str, _argument: object) -> None:
        code = getattr(frame, "f_code", None)
        here = code is not None and code.co_filename == namespace.__file__
        if not here or event not in ("call", "return") or code.co_name not in _WATCHED:
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            raise Interrupted("signal 15")


_WATCHED = ("_setns", "_libc", "_return_home")


def _interrupted(there: int, moment: int, home: int | None) -> tuple[bool, bool]:
    """Whether the moment came, and whether the thread was home afterwards. In a thread of its own,
    which ends."""
    found: list[bool] = []

    def run() -> None:
        before = own_inode()
        sys.setprofile(_Signal(moment))
        try:
            inside(there, own_inode, home)
            came = False
        except Interrupted:
            came = True
        finally:
            sys.setprofile(None)
        found.extend((came, own_inode() == before))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    came, at_home = found
    return came, at_home


@pytest.mark.parametrize("kept", [True, False])
def test_a_signal_at_any_moment_leaves_nobody_in_there(there: int, kept: bool) -> None:
    home = namespace.open_own_netns() if kept else None
    try:
        inside(there, own_inode)  # what is loaded once is
        moment = 0
        while True:
            came, at_home = _interrupted(there, moment, home)
            assert at_home, moment
            if not came:
                break
            moment += 1
        assert moment >= 4
    finally:
        if home is not None:
            os.close(home)
