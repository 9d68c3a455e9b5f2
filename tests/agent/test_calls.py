"""A call through launcher and agent does what a direct run does, and is served by the agent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent.conftest import Call, outcomes
from tests.netns.kit import GATEWAY4, MODES, POD4, conf, env, ipam, left
from tests.support import syscalls
from tests.support.agent import LIMIT_S, SOCKET, Agent, running
from tests.support.node import Node, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
OFF = {"PODWIRE_AGENT": "off"}


@pytest.mark.parametrize("mode", MODES)
def test_a_pod_lives_through_the_agent(
    node: Node, agent: Agent, call: Call, snapshot: Snap, mode: str
) -> None:
    before, pod = snapshot(), node.pod()
    document = conf(mode, (4, 6), ipMasq=True)
    result = call("ADD", pod, document).ok().json
    assert pod.ping(GATEWAY4)
    with_result = {**document, "prevResult": result}
    call("CHECK", pod, with_result).ok()
    call("CHECK", pod, with_result, **OFF).ok()
    call("DEL", pod, with_result).ok()
    call("DEL", pod, with_result, CNI_NETNS="").ok()
    assert left(before, snapshot()) == []
    verbs = ["ADD", "CHECK", "DEL", "DEL"]
    told = [(verb, "done") for verb in verbs]
    wait_until(lambda: outcomes(agent) == told, "each call is told")


@pytest.mark.parametrize("mode", MODES)
def test_what_one_path_makes_the_other_takes_away(
    node: Node, agent: Agent, call: Call, snapshot: Snap, mode: str
) -> None:
    before = snapshot()
    one, other = node.pod(), node.pod()
    document = conf(mode, (4, 6), ipMasq=True)
    by_agent = call("ADD", one, document).ok().json
    directly = call("ADD", other, document, **OFF).ok().json
    assert {address["address"] for address in by_agent["ips"]}.isdisjoint(
        address["address"] for address in directly["ips"]
    )
    assert [*by_agent] == [*directly]
    assert one.ping(directly["ips"][0]["address"].partition("/")[0])
    call("DEL", one, document, **OFF).ok()
    call("DEL", other, document).ok()
    assert left(before, snapshot()) == []


def test_the_agents_errors_are_those_of_a_direct_run(node: Node, agent: Agent, call: Call) -> None:
    pod = node.pod()
    call("ADD", pod, conf()).ok()
    for verb, changes in (
        ("ADD", {}),
        ("ADD", {"bridge": 7}),
        ("ADD", {"cniVersion": "9.9.9"}),
        ("CHECK", {}),
        ("NONE", {}),
    ):
        document = conf(**changes)
        one, other = call(verb, pod, document), call(verb, pod, document, **OFF)
        assert (one.returncode, one.json) == (other.returncode, other.json), (verb, changes)
        assert one.returncode == 1
    gone = call("ADD", pod, conf(), CNI_NETNS="/run/netns/none")
    assert gone.json == call("ADD", pod, conf(), CNI_NETNS="/run/netns/none", **OFF).json


def test_addresses_from_a_program_of_the_node_are_left_to_the_direct_run(
    node: Node, agent: Agent, call: Call, snapshot: Snap
) -> None:
    """The agent may live in a container that has no such program."""
    before, pod = snapshot(), node.pod()
    addresses = [{"address": "10.244.0.9/24"}]
    document = conf(cniVersion="1.0.0", ipam={"type": "static", "addresses": addresses})
    result = call("ADD", pod, document).ok().json
    assert result["ips"][0]["address"] == "10.244.0.9/24"
    call("DEL", pod, {**document, "prevResult": result}).ok()
    assert left(before, snapshot()) == []
    # The line of a call is written after its answer.
    wait_until(lambda: len(outcomes(agent)) == 2, "both calls are told")
    assert {outcome for _verb, outcome in outcomes(agent)} == {"declined"}


def test_status_is_answered_from_memory_until_something_changes(
    node: Node, agent: Agent, call: Call
) -> None:
    document = conf(isGateway=None, ipam=ipam("10.244.0.0/30"))
    call("STATUS", None, document).ok()
    call("STATUS", None, document).ok()
    told = [("STATUS", "done"), ("STATUS", "remembered")]
    wait_until(lambda: outcomes(agent) == told, "the second is answered from memory")
    pods = [node.pod() for _ in range(2)]
    added = [pod for pod in pods if call("ADD", pod, document).returncode == 0]
    full = call("STATUS", None, document)
    assert full.code == 50
    assert call("STATUS", None, document).json == full.json
    for pod in added:
        call("DEL", pod, document).ok()
    call("STATUS", None, document).ok()


def test_an_add_whose_caller_is_killed_is_undone(
    node: Node, agent: Agent, launcher: Path, snapshot: Snap
) -> None:
    """However far the call has come: the runtime saw it fail, and may never ask for a DEL."""
    document, before = conf("bridge", (4, 6), ipMasq=True), snapshot()
    for delay_s in [step / 2000 for step in range(16)]:
        pod = node.pod()
        started = subprocess.Popen(
            [*node._enter(), str(launcher)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**env("ADD", pod), "PODWIRE_PYTHON": "/bin/false"},
        )
        assert started.stdin is not None
        started.stdin.write(json.dumps(document).encode())
        started.stdin.close()
        time.sleep(delay_s)
        started.send_signal(signal.SIGKILL)
        ended = started.wait()
        started.stdout.close() if started.stdout else None
        if ended == 0:  # it was quicker
            agent.run("DEL", pod, document)
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")


def test_an_answer_that_cannot_be_printed_is_undone(
    node: Node, agent: Agent, launcher: Path, snapshot: Snap, tmp_path: Path
) -> None:
    before, pod = snapshot(), node.pod()
    script = tmp_path / "script"
    script.write_text(f'#!/bin/sh\nexec "{launcher}" >/dev/full\n')
    script.chmod(0o700)
    done = node.plugin(script, {**env("ADD", pod), "PODWIRE_PYTHON": "/bin/false"}, conf())
    assert done.returncode == 1
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")
    wait_until(lambda: ("DEL", "undone") in outcomes(agent), "DEL is told")


def test_what_was_cut_off_before_is_rolled_back_at_the_start(
    node: Node, snapshot: Snap, tmp_path: Path
) -> None:
    known = node.pod()  # so that its config is known: the second rename is then the record's end
    for verb in ("ADD", "DEL"):
        node.plugin("podwire", env(verb, known), conf()).ok()
    before, pod = snapshot(), node.pod()
    call = syscalls.here("rename")
    words = f"strace -f -q -o/dev/null -etrace={call} --inject={call}:signal=KILL:when=2"
    traced = tmp_path / "traced"
    traced.write_text(f"#!/bin/sh\nexec {words} {node.cni_bin / 'podwire'}\n")
    traced.chmod(0o700)
    assert node.plugin(traced, env("ADD", pod), conf()).returncode != 0
    assert pod.links() != set()
    with running(node) as agent:
        wait_until(lambda: agent.rounds("recovery"), "the agent has rolled back")
        assert pod.links() == set()
    assert left(before, snapshot().without(r"/agent\.")) == []


def test_a_record_that_is_broken_keeps_no_other_from_being_rolled_back(node: Node) -> None:
    """One that is no file at all, and one that tells of an address that is none, come first."""
    broken, good = sorted((node.pod(), node.pod()), key=lambda pod: pod.container_id)
    folder = node.path("/run/podwire/attachments/net")
    for pod, changes in ((broken, {"addresses": ["10.244.0.x"]}), (good, {})):
        node.plugin("podwire", env("ADD", pod), conf()).ok()
        file = folder / f"{pod.container_id}:eth0"
        file.write_text(json.dumps({**json.loads(file.read_text()), "phase": "pending", **changes}))
    (folder / "0:eth0").mkdir()
    with running(node) as agent:
        wait_until(lambda: len(agent.rounds("recovery")) == 3, "the agent has gone through all")
        assert good.links() == set()
        done, torn, wrong = agent.rounds("recovery")
        assert torn.startswith("the record net/0:eth0: the attachment's record cannot be read")
        assert wrong.startswith(f"the record net/{broken.container_id}:eth0: ValueError: ")
        assert done.startswith(f"eth0 of {good.container_id}: ")


def test_a_stop_finishes_what_is_under_way(node: Node, call: Call, launcher: Path) -> None:
    pods = [node.pod() for _ in range(12)]
    with running(node) as agent:
        calls = [
            subprocess.Popen(
                [*node._enter(), str(launcher)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**env("ADD", pod), "PODWIRE_PYTHON": sys.executable},
            )
            for pod in pods
        ]
        for one in calls:
            assert one.stdin is not None
            one.stdin.write(json.dumps(conf(ipam=ipam(POD4))).encode())
            one.stdin.close()
        agent.stop()
        assert not node.path(SOCKET).exists()
        assert [one.wait() for one in calls] == [0] * len(pods)
        for one in calls:
            one.stdout.close() if one.stdout else None
    for pod in pods:
        call("DEL", pod, conf()).ok()


def test_a_second_agent_is_refused(node: Node, agent: Agent) -> None:
    done = node.run(str(node.cni_bin / "podwire"), "agent", check=False)
    assert done.returncode == 1
    assert "another agent" in done.stderr
    assert f"pid {agent.process.pid}" in done.stderr


def test_an_agent_whose_lock_is_taken_away_ends_and_leaves_the_next_ones_files(
    node: Node, agent: Agent
) -> None:
    node.run("rm", "-r", str(Path(SOCKET).parent))
    with running(node) as following:  # it has the lock before the first looks for it
        assert agent.process.wait(LIMIT_S) == 1
        assert any("another agent" in line["message"] for line in agent.log())
        following.call({"CNI_COMMAND": "VERSION"}, conf())


@pytest.mark.parametrize(("mode", "holds"), [(0o755, "agent.sock"), (0o775, ""), (0o777, "")])
def test_a_folder_that_others_may_use_is_refused(node: Node, mode: int, holds: str) -> None:
    folder = node.path("/run/podwire")
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    if holds:
        (folder / holds).touch()
    done = node.run(str(node.cni_bin / "podwire"), "agent", check=False)
    assert done.returncode == 1
    assert f"{mode:04o}" in done.stderr


def test_an_empty_folder_that_others_may_only_read_is_closed_to_them(node: Node) -> None:
    folder = node.path("/run/podwire")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    with running(node):
        assert folder.stat().st_mode & 0o777 == 0o700
