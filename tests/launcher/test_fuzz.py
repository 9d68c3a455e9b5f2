"""Memory and undefined behaviour: the reply's parser fuzzed, the whole path once, sanitized."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.launcher.conftest import Run, compile_c
from tests.launcher.peer import DECLINED, Peer, answer

MILLISECONDS = 1500  # for each seed


@pytest.fixture(scope="session")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).with_name("fuzz_reply.c")
    return compile_c(tmp_path_factory.mktemp("fuzz") / "fuzz_reply", source)


@pytest.mark.parametrize("seed", [20261123, None], ids=["fixed", "clock"])
def test_no_reply_confuses_the_parser(fuzzer: Path, seed: int | None) -> None:
    seed = time.time_ns() if seed is None else seed
    ran = subprocess.run(
        [fuzzer, str(seed), str(MILLISECONDS)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, ""), f"fuzz_reply {seed}: {ran.stdout}{ran.stderr}"
    words = ran.stdout.split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert counts.keys() == {"done", "declined", "ended", "wrong"}
    assert all(counts.values()), f"a branch was never taken: {counts}"


@pytest.mark.parametrize("netns", ["", "/proc/self/ns/net", "/absent"])
def test_the_path_of_a_call_is_clean(
    run: Run, socket_path: Path, sanitized: Path, netns: str
) -> None:
    largest = b"x" * (1 << 20)
    with Peer(socket_path, answer(largest, b"a warning\n", 1)) as peer:
        ran = run({"CNI_NETNS": netns}, largest, program=sanitized)
    assert (ran.status, ran.stdout == largest, ran.stderr) == (1, True, "a warning\n")
    assert peer.after == b"k"


@pytest.mark.parametrize("reply", [b"", answer(b"cut")[:-1], answer(kind=DECLINED)])
def test_the_path_of_a_direct_run_is_clean(
    run: Run, socket_path: Path, sanitized: Path, reply: bytes
) -> None:
    with Peer(socket_path, reply):
        ran = run(stdin=b"x" * (1 << 20), program=sanitized, arguments=["a", "b"])
    assert ran.direct is not None
    assert ran.direct["argv"][-2:] == ["a", "b"]
    assert "ERROR" not in ran.stderr


def test_the_path_of_an_error_is_clean(run: Run, tmp_path: Path, sanitized: Path) -> None:
    every = bytes(range(1, 256)) * 20
    both = {"PODWIRE_PYTHON": os.fsencode(tmp_path) + every, "PODWIRE_SOCKET": every}
    ran = run(both, program=sanitized)
    assert ran.error["code"] == 5
    assert ran.stderr == ""
