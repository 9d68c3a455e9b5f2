"""The campaign's own checks: that each sees what it is there for."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.campaign import EACH, SCENARIOS, Scenario, pieces
from tests.faults.counts import LOSSES, Counts
from tests.faults.kill import begun
from tests.faults.observer import look, misplaced, torn_files
from tests.faults.stage import Answer, Lab, Stage, scratch
from tests.faults.subject import DATA_DIR, FOLDER, open_plugin, subnets
from tests.faults.syscalls import (
    KILL,
    SIXTH,
    STOP,
    Walk,
    changing_calls,
    refused_or_done,
    walk_points,
)
from tests.support.node import Node

# counts ------------------------------------------------------------------------------------------


def test_losses_are_the_columns_that_are_not_zero() -> None:
    total = Counts(runs=3)
    total.add(Counts(runs=2, leaks=1, torn=4))
    assert (total.runs, total.losses) == (5, {"leaks": 1, "torn": 4})


def test_every_kind_of_loss_has_a_column() -> None:
    counts = Counts()
    for kind in LOSSES:
        counts.lose(kind, "why")
    assert counts.losses == dict.fromkeys(LOSSES, 1)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[one.name for one in SCENARIOS])
def test_the_pieces_of_a_scenario_are_all_of_its_runs(scenario: Scenario) -> None:
    made = list(pieces(scenario, "podwire", scenario.full, 1))
    if scenario.full == EACH:
        assert [(piece.mode, piece.runs) for piece in made] == [
            (mode, EACH) for mode in scenario.modes
        ]
    else:
        assert sum(piece.runs for piece in made) == scenario.full
        assert len({piece.seed for piece in made}) == len(made)


# system calls ------------------------------------------------------------------------------------


def test_calls_that_change_nothing_are_counted_and_left_out() -> None:
    trace = """
10 openat(AT_FDCWD, "/etc/x", O_RDONLY) = 3
10 openat(AT_FDCWD, "/var/x", O_WRONLY|O_CREAT, 0600) = 3
10 sendto(4, [{nlmsg_type=RTM_GETLINK, ...}], 32, 0, NULL, 0) = 32
10 sendto(4, [{nlmsg_type=RTM_NEWLINK, ...}], 32, 0, NULL, 0) = 32
11 sendto(4, [{nlmsg_type=NFNL_MSG_BATCH_BEGIN, ...}], 32, 0, NULL, 0) = 32
10 link("/a", "/b") = 0
10 flock(5, LOCK_EX|LOCK_NB) = 0
10 ioctl(6, TCGETS, 0x7ffe) = -1 ENOTTY
"""
    assert changing_calls(trace) == {
        "openat": [2], "sendto": [1, 2], "link": [1], "flock": [1],
    }  # fmt: skip


def test_the_answer_itself_can_be_left_out() -> None:
    trace = '10 write(3, "x", 1) = 1\n10 write(1, "{}", 2) = 2\n10 write(3, "y", 1) = 1\n'
    assert changing_calls(trace) == {"write": [1, 2, 3]}
    assert changing_calls(trace, reply=False) == {"write": [1, 3]}


def test_every_sixth_call_is_a_sixth_of_them(stage: Stage) -> None:
    lab = Lab(stage.plugin, "bridge", lambda: 0.5)
    points = {"openat": [2, 5, 6, 9], "unlink": [1, 2, 3, 4, 5, 6, 7, 8]}
    walk, met = Walk(stage, "ADD", stage.node.pod()), []

    def strike(walk: Walk, name: str, number: int, _fault: str) -> tuple[Walk, bool]:
        met.append((name, number))
        return walk, False

    walk_points(lab, walk, points, KILL, SIXTH, strike)
    assert met == [("openat", 9), ("unlink", 6)]


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing")
def test_a_stopped_call_is_killed_where_it_stands(stage: Stage) -> None:
    pod, before = stage.node.pod(), stage.state()
    answer = Walk(stage, "ADD", pod).struck("fdatasync", 1, STOP)
    assert answer.status == -signal.SIGKILL
    assert stage.state() - before
    assert stage.counts.losses == {}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing")
def test_a_call_that_is_over_before_the_stop_is_not_killed(stage: Stage) -> None:
    assert Walk(stage, "ADD", stage.node.pod()).struck("fdatasync", 1000, STOP).ok


@pytest.mark.parametrize(("name", "losses"), [("podwire", {"leaks": 1}), ("reference", {})])
def test_only_podwire_has_to_undo_what_a_sigterm_ended(
    make_node: Callable[[str], Node], name: str, losses: dict[str, int]
) -> None:
    with scratch() as folder:
        stage = Stage(open_plugin(name, Path(folder)), make_node("node"), "bridge", [], Counts())
    pod, before = stage.node.pod(), stage.state()
    stage.node.configure("link add left0 type bridge")
    refused_or_done(stage, pod, Answer("ADD", -signal.SIGTERM, b"", b"", 0.1), before)
    assert stage.counts.losses == losses


def test_an_aimed_kill_comes_after_the_first_change(stage: Stage) -> None:
    pod, before = stage.node.pod(), stage.state()
    call = begun(stage, pod, "ADD")
    call.kill(group=True)
    answer = stage.finish(call, pod)
    assert answer.status in {0, -signal.SIGKILL}
    assert stage.state() != before


# a node ------------------------------------------------------------------------------------------


@pytest.fixture
def stage(make_node: Callable[[str], Node]) -> Iterator[Stage]:
    """A stage without a bystander, on a node without any attachment."""
    with scratch() as folder:
        plugin = open_plugin("podwire", Path(folder))
        yield Stage(plugin, make_node("node"), "bridge", subnets("10.244.0.0/24"), Counts())


LEFT = {
    "link": "ip link add left0 type bridge",
    "address": "ip addr add 192.0.2.1/24 dev lo",
    "route": "ip route add blackhole 198.51.100.0/24",
    "neighbour": "ip neigh add 192.0.2.9 lladdr 02:00:5e:00:00:01 dev lo nud permanent",
    "nft element": "nft add table inet t; nft add set inet t s '{ type ipv4_addr; }';"
                   "nft add element inet t s '{ 192.0.2.5 }'",
    "file": f"mkdir -p {FOLDER}; echo x > {FOLDER}/10.244.0.5",
}  # fmt: skip


@pytest.mark.parametrize("kind", LEFT)
def test_whatever_is_left_is_a_leak(stage: Stage, kind: str) -> None:
    pod, before = stage.node.pod(), stage.state()
    stage.node.run("sh", "-ec", LEFT[kind])
    assert any(line.startswith(kind) for line in stage.state() - before)
    assert not stage.nothing_left(pod, before, "now")
    assert stage.counts.losses == {"leaks": 1}


def test_what_is_left_in_the_pod_is_a_leak(stage: Stage) -> None:
    pod, before = stage.node.pod(), stage.state()
    pod.configure("link add eth0 type bridge")
    stage.nothing_left(pod, before, "now")
    assert stage.counts.losses == {"leaks": 1}


def test_what_others_lost_is_harm_to_a_bystander(stage: Stage) -> None:
    pod = stage.node.pod()
    stage.node.configure("link add other0 type bridge")
    before = stage.state()
    stage.node.configure("link del other0")
    stage.nothing_left(pod, before, "now")
    assert stage.counts.losses == {"bystander": 1}


def test_what_podwire_ipam_check_finds_is_a_loss_unless_expected(stage: Stage) -> None:
    stage.must("ADD", stage.node.pod(), "before")
    stage.check_store()
    assert stage.counts.losses == {}
    (stage.node.path(FOLDER) / "10.244.0.77").write_bytes(b"")
    (stage.node.path(FOLDER) / "10.244.0.77").chmod(0o600)
    stage.check_store("torn-reservation")
    assert stage.counts.losses == {}
    stage.check_store()
    assert stage.counts.losses == {"check": 1}
    stage.repair_store()
    assert stage.counts.losses == {"check": 1}


def test_a_finding_that_is_not_made_is_a_loss(stage: Stage) -> None:
    stage.check_store("unknown-file")
    assert stage.counts.losses == {"check": 1}


def test_what_repair_leaves_is_a_loss(stage: Stage) -> None:
    stage.must("ADD", stage.node.pod(), "before")
    (stage.node.path(FOLDER) / "README").write_bytes(b"x")
    stage.repair_store()
    assert stage.counts.losses == {"check": 2}  # by repair, and by the check after it


@pytest.mark.parametrize("data", [b"", b"half", bytes(20), b"id\r\n", b"\r\neth0"])
def test_a_reservation_without_its_owner_is_torn(
    make_node: Callable[[str], Node], data: bytes
) -> None:
    node: Node = make_node("node")
    folder = node.path(FOLDER)
    folder.mkdir(parents=True)
    (folder / "10.244.0.2").write_bytes(b"whole\r\neth0")
    (folder / "10.244.0.3").write_bytes(data)
    assert torn_files(node, FOLDER) == ["10.244.0.3"]


def test_files_elsewhere_or_open_to_others_are_misplaced(make_node: Callable[[str], Node]) -> None:
    node: Node = make_node("node")
    node.run(
        "sh", "-ec", f"umask 022; mkdir -p {DATA_DIR}; echo x > {DATA_DIR}/open; touch /etc/cni/x"
    )
    assert misplaced(node, modes=False) == ["f 644 /etc/cni/x"]
    assert set(misplaced(node, modes=True)) == {f"f 644 {DATA_DIR}/open", "f 644 /etc/cni/x"}
    assert not any(line.endswith("lock") for line in look(node))


@pytest.mark.parametrize(
    ("status", "verb", "stdout"),
    [
        (0, "ADD", b""),
        (0, "ADD", b"{}"),
        (0, "DEL", b"{}"),
        (1, "ADD", b"no JSON"),
        (1, "DEL", b""),
        (None, "ADD", b""),
    ],
)
def test_an_answer_that_breaks_the_protocol_is_wrong(
    stage: Stage, status: int | None, verb: str, stdout: bytes
) -> None:
    class Ended:
        verb = ""

        def answer(self, _limit_s: float) -> Answer:
            return Answer(verb, status, stdout, b"", 0.1)

        def has_orphans(self) -> bool:
            return False

    stage.finish(Ended(), stage.node.pod())  # type: ignore[arg-type]
    assert stage.counts.losses == {"wrong": 1}


def test_a_bystander_whose_gateway_goes_silent_is_harmed() -> None:
    with scratch() as folder:
        counts = Counts()
        lab = Lab(open_plugin("podwire", Path(folder)), "bridge", lambda: 0.5)
        with lab.stage(counts) as stage:
            stage.node.configure("link set cni0 down")
            pod = stage.bystander
            assert pod is not None
            assert subprocess.run(
                [*pod._enter(), "ping", "-c", "5", "-i", "0.2", "-W", "1", "10.244.0.1"],
                capture_output=True, check=False,
            ).returncode  # fmt: skip
        assert counts.losses.get("bystander", 0) >= 1
