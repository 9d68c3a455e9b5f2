"""An ADD that dies at any moment: one DEL leaves nothing, or another ADD works as if it were the
first. Nothing needs a second try."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns.kit import GATEWAY4, MODES, Json, conf, env, left
from tests.support import need, syscalls
from tests.support.node import PLUGIN_PATH, Node, Pod
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]

# The calls by which podwire changes something that outlives it.
CHANGING = tuple(
    map(
        syscalls.here,
        ("sendto", "rename", "link", "linkat", "unlink", "unlinkat", "mkdir", "fdatasync"),
    )
)
UNLINK = syscalls.here("unlink")
MOMENTS = 20
SEED = 20260801


def _conf(mode: str) -> Json:
    return conf(mode, (4, 6), ipMasq=True)


def _add_killed_after(node: Node, pod: Pod, document: Json, delay_s: float) -> None:
    """ADD, killed with all its processes when the delay is over."""
    full = {"PATH": PLUGIN_PATH, "CNI_PATH": str(node.cni_bin), **env("ADD", pod)}
    process = subprocess.Popen(
        [*node._enter(), str(node.cni_bin / "podwire")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=full,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(document).encode())
    process.stdin.close()
    try:
        process.wait(timeout=delay_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def took_s(node: Node) -> float:
    """How long an ADD takes here and now, and so which delays are worth trying."""
    network, pod = Runtime(node, conf(name="warm-up", bridge="br-warm")), node.pod()
    reply = node.plugin("podwire", env("ADD", pod), network.conflist["plugins"][0])
    network.delete(pod)
    node.configure("link del br-warm")
    return reply.ok().seconds


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", MODES)
def test_after_a_kill_at_any_moment_one_delete_leaves_nothing(
    node: Node, snapshot: Snap, took_s: float, mode: str
) -> None:
    chance = random.Random(SEED)
    before = snapshot()
    network = Runtime(node, _conf(mode))
    for moment in range(MOMENTS):
        pod = node.pod()
        _add_killed_after(node, pod, _conf(mode), chance.uniform(0.3, 1.1) * took_s)
        network.delete(pod, netns="" if moment % 2 else None)
        assert pod.links() == set()
    assert left(before, snapshot()) == []


@pytest.mark.timeout(120)
def test_after_a_kill_at_any_moment_another_add_works(
    node: Node, snapshot: Snap, took_s: float
) -> None:
    chance = random.Random(SEED)
    before = snapshot()
    network = Runtime(node, _conf("bridge"))
    for _ in range(MOMENTS // 2):
        pod = node.pod()
        _add_killed_after(node, pod, _conf("bridge"), chance.uniform(0.3, 1.0) * took_s)
        if pod.link("eth0") and _is_done(node, pod):
            continue  # it was over before the kill: a live attachment, not a half one
        network.add(pod)
        network.check(pod)
        assert pod.ping(GATEWAY4)
    for pod in node.pods:
        network.delete(pod, forget=True)
    assert left(before, snapshot()) == []


def _is_done(node: Node, pod: Pod) -> bool:
    record = node.path(f"/run/podwire/attachments/net/{pod.container_id}:eth0")
    return record.exists() and json.loads(record.read_text())["phase"] == "done"


# before every changing system call ---------------------------------------------------------------


def _under_strace(folder: Path, node: Node, *options: str) -> Path:
    """podwire as a program that runs under strace."""
    script = folder / "traced"
    words = " ".join(["strace", "-f", "-q", *options, str(node.cni_bin / "podwire")])
    script.write_text(f"#!/bin/sh\nexec {words}\n")
    script.chmod(0o755)
    return script


def _counted(node: Node, folder: Path, document: Json) -> Counter[str]:
    """How often one ADD makes each changing call. The attachment is taken away again."""
    log, pod = folder / "strace.log", node.pod()
    traced = _under_strace(folder, node, f"-o{log}", f"-etrace={','.join(CHANGING)}")
    node.plugin(traced, env("ADD", pod), document).ok()
    node.plugin("podwire", env("DEL", pod), document).ok()
    calls = (line.split(None, 1)[1].partition("(")[0] for line in log.read_text().splitlines())
    return Counter(call for call in calls if call in CHANGING)


@pytest.fixture
def strace(node: Node, tmp_path: Path) -> Path:
    """A folder for traced runs, where there is a strace that may trace."""
    need.tool("strace")
    probe = node.run("strace", "-o/dev/null", "true", check=False)
    if probe.returncode:
        pytest.skip(f"strace may not trace here: {probe.stderr.strip()}")
    return tmp_path


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", MODES)
def test_a_kill_before_any_changing_call_leaves_nothing_after_one_delete(
    node: Node, snapshot: Snap, strace: Path, mode: str
) -> None:
    document = _conf(mode)
    _counted(node, strace, document)  # the first one fills the cache of configs
    calls = _counted(node, strace, document)
    assert calls["sendto"] > 5
    points = [(call, n) for call, count in calls.items() for n in range(1, count + 1)]
    # Rare calls are the store's: all of them. Of the many, each mode takes others.
    rare = [point for point in points if calls[point[0]] <= 3]
    often = [point for point in points if calls[point[0]] > 3][MODES.index(mode) :: 3]
    before = snapshot()
    network = Runtime(node, document)
    for call, n in [*rare, *often]:
        pod = node.pod()
        inject = f"--inject={call}:signal=KILL:when={n}"
        traced = _under_strace(strace, node, "-o/dev/null", f"-etrace={call}", inject)
        died = node.plugin(traced, env("ADD", pod), document)
        assert died.returncode != 0, f"not killed before {call} {n}"
        assert died.stdout == b""
        if n % 2 and not _is_done(node, pod):  # a done one that nobody heard of needs its DEL first
            network.add(pod)
            network.check(pod)
        network.delete(pod)
        assert left(before, snapshot()) == [], f"after a kill before {call} {n}"


def test_a_kill_in_delete_is_made_good_by_another(node: Node, snapshot: Snap, strace: Path) -> None:
    document, before = _conf("bridge"), snapshot()
    network, first = Runtime(node, document), True
    for call, n in [("sendto", 1), ("sendto", 2), ("sendto", 3), (UNLINK, 1), (UNLINK, 3)]:
        pod = node.pod()
        network.add(pod)
        inject = f"--inject={call}:signal=KILL:when={n}"
        traced = _under_strace(strace, node, "-o/dev/null", f"-etrace={call}", inject)
        died = node.plugin(traced, env("DEL", pod), document)
        first = first and died.returncode != 0
        network.delete(pod)
        assert left(before, snapshot()) == [], f"after a kill before {call} {n}"
    assert first, "no kill hit"
