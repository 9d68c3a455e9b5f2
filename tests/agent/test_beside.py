"""Calls beside each other, and beside what the agent does by itself: nobody waits in vain, and
nobody puts back what another takes away."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.agent.conftest import Call, outcomes
from tests.netns.kit import address, conf, env, ipam, left
from tests.support import syscalls
from tests.support.agent import Agent, running
from tests.support.node import Node, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
REPAIR_S = 2.0  # within which the agent repairs what it repairs


def test_a_removal_that_was_cut_off_is_finished_and_never_undone(
    node: Node, snapshot: Snap, tmp_path: Path
) -> None:
    """The link is gone, the address is not yet free: no repair makes the pod again."""
    warm = node.pod()  # so that the config is known, and DEL's first rename is its mark
    for verb in ("ADD", "DEL"):
        node.plugin("podwire", env(verb, warm), conf()).ok()
    before, pod = snapshot(), node.pod()
    call = syscalls.here("unlink")
    words = f"strace -f -q -o/dev/null -etrace={call} --inject={call}:signal=KILL:when=1"
    traced = tmp_path / "traced"
    traced.write_text(f"#!/bin/sh\nexec {words} {node.cni_bin / 'podwire'}\n")
    traced.chmod(0o700)
    with running(node) as agent:
        agent.run("ADD", pod, conf())
        assert node.plugin(traced, env("DEL", pod), conf()).returncode != 0
        assert pod.links() == set()
        time.sleep(REPAIR_S)
        assert pod.links() == set()
        agent.stop()
    with running(node) as agent:
        wait_until(lambda: agent.rounds("recovery"), "the agent has finished the removal")
    assert left(before, snapshot().without(r"/agent\.")) == []


@pytest.mark.timeout(60)
def test_a_launcher_that_was_stopped_prints_what_is_true(
    node: Node, agent: Agent, launcher: Path
) -> None:
    pod = node.pod()
    started = subprocess.Popen(
        [*node._enter(), str(launcher)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**env("ADD", pod), "PODWIRE_PYTHON": sys.executable},
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(conf()).encode())
    started.stdin.close()
    time.sleep(0.002)
    started.send_signal(signal.SIGSTOP)
    time.sleep(6.5)  # longer than an answer waits whose caller did not say how long it will
    started.send_signal(signal.SIGCONT)
    assert started.stdout is not None
    result = json.loads(started.stdout.read())
    started.stdout.close()
    assert started.wait() == 0
    assert result["ips"][0]["address"] in pod.addresses("eth0")


@pytest.mark.timeout(60)
def test_a_launcher_that_was_stopped_beyond_its_limit_does_not_print_what_was_undone(
    node: Node, agent: Agent, launcher: Path
) -> None:
    pod = node.pod()
    limit = {"PODWIRE_PYTHON": sys.executable, "PODWIRE_DEADLINE_MS": "3000"}
    agent.process.send_signal(signal.SIGSTOP)
    started = subprocess.Popen(
        [*node._enter(), str(launcher)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**env("ADD", pod), **limit},
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(conf()).encode())
    started.stdin.close()
    state = Path(f"/proc/{started.pid}/stat")
    wait_until(lambda: "(podwire) S" in state.read_text(), "it waits for the answer")
    started.send_signal(signal.SIGSTOP)
    agent.process.send_signal(signal.SIGCONT)
    wait_until(lambda: "undone" in [each for _, each in outcomes(agent)], "it is undone")
    started.send_signal(signal.SIGCONT)
    assert started.stdout is not None
    result = json.loads(started.stdout.read())
    started.stdout.close()
    assert started.wait() == 0
    assert result["ips"][0]["address"] in pod.addresses("eth0")


def test_what_a_killed_launcher_asked_for_is_not_begun(
    node: Node, agent: Agent, launcher: Path
) -> None:
    """Or it would come after a DEL that another way was quicker."""
    agent.run("ADD", node.pod(), conf())  # the next one is a quick one
    agent.process.send_signal(signal.SIGSTOP)
    started = subprocess.Popen(
        [*node._enter(), str(launcher)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**env("ADD", node.pod()), "PODWIRE_PYTHON": sys.executable},
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(conf()).encode())
    started.stdin.close()
    state = Path(f"/proc/{started.pid}/stat")
    wait_until(lambda: "(podwire) S" in state.read_text(), "it waits for the answer")
    started.kill()
    started.wait()
    agent.process.send_signal(signal.SIGCONT)
    wait_until(lambda: len(outcomes(agent)) == 2, "it is told")
    assert outcomes(agent)[-1][1] == "dropped"


def test_what_nobody_took_is_undone_before_the_agent_ends(
    node: Node, snapshot: Snap, launcher: Path
) -> None:
    node.plugin("podwire", env("ADD", node.pod()), conf()).ok()
    before = snapshot()
    with running(node) as agent:
        started = [
            subprocess.Popen(
                [*node._enter(), str(launcher)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env={**env("ADD", node.pod()), "PODWIRE_PYTHON": "/bin/false"},
            )
            for _ in range(6)
        ]
        for one in started:
            assert one.stdin is not None
            one.stdin.write(json.dumps(conf()).encode())
            one.stdin.close()
            one.send_signal(signal.SIGSTOP)
        time.sleep(0.2)
        agent.process.terminate()
        time.sleep(0.05)
        for one in started:
            one.kill()
            one.wait()
        assert agent.process.wait(30) == 0
    assert left(before, snapshot().without(r"/agent\.")) == []


def test_a_store_that_is_kept_locked_holds_up_only_its_own_network(
    node: Node, agent: Agent, call: Call
) -> None:
    one, other, third = node.pod(), node.pod(), node.pod()
    call("ADD", third, conf()).ok()
    free = conf(name="free", bridge="br-free", ipam=ipam("10.245.0.0/24"))
    lock = node.path("/var/lib/cni/networks/net/lock")
    with lock.open("r+") as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits = pool.submit(call, "ADD", one, conf())
        time.sleep(0.3)
        call("ADD", other, free).ok()
        assert not waits.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        waits.result().ok()


def test_an_add_that_waits_for_its_addresses_holds_nobody_up(
    node: Node, agent: Agent, call: Call
) -> None:
    slow, quick = node.pod(), node.pod()
    document = conf(versions=(4, 6), enabledad=True)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(call, "ADD", slow, document)
        time.sleep(0.3)
        call("ADD", quick, conf()).ok()
        assert not waits.done()
        waits.result().ok()


@pytest.mark.timeout(120)
def test_gc_leaves_the_addresses_of_adds_under_way(node: Node, agent: Agent, call: Call) -> None:
    pods = [node.pod() for _ in range(24)]
    oldest = node.pod()
    call("ADD", oldest, conf()).ok()
    valid = [{"containerID": oldest.container_id, "ifname": "eth0"}]
    collecting = {**conf(), "cni.dev/valid-attachments": valid}
    with ThreadPoolExecutor(8) as pool:
        adds = [pool.submit(call, "ADD", pod, conf()) for pod in pods]
        while not all(one.done() for one in adds):
            call("GC", None, collecting, CNI_PATH="/opt/cni/bin").ok()
    results = [one.result().ok().json for one in adds]
    for pod, result in zip(pods, results, strict=True):
        reserved = node.path(f"/var/lib/cni/networks/net/{address(result)}").exists()
        assert reserved == ("eth0" in pod.links()), pod  # GC may take a pod, never only its address
