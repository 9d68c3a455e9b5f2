"""The bounded lock, between real processes."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipam import lock
from ipam.errors import LockTimeout
from ipam.lock import UNSEEN, acquire, holders
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations, texts

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path: Path) -> Any:
    """A lock file and the pid of another process that holds it."""
    path = str(tmp_path / "lock")
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield path, process
        process.stdin.close()


def test_a_held_lock_times_out_and_names_the_holder(held: Any) -> None:
    path, process = held
    with pytest.raises(LockTimeout) as failure:
        acquire(path, 0.05)
    assert (failure.value.code, failure.value.temporary) == (11, True)
    assert path in failure.value.msg
    assert f"pid {process.pid} ({sys.executable} -c" in failure.value.details
    assert failure.value.held_by in failure.value.details


def test_the_lock_is_got_as_soon_as_the_holder_dies(held: Any) -> None:
    path, process = held
    process.kill()
    os.close(acquire(path, 30))


def test_a_failed_wait_leaks_no_descriptor(held: Any) -> None:
    path, _process = held
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(LockTimeout):
        acquire(path, 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_closing_the_descriptor_unlocks(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    os.close(acquire(path, 0))
    os.close(acquire(path, 0))


def test_a_free_lock_has_no_holder(tmp_path: Path) -> None:
    descriptor = acquire(str(tmp_path / "lock"), 0)
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    assert holders(descriptor) == UNSEEN
    os.close(descriptor)


def test_a_file_of_the_same_number_elsewhere_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inodes are counted by file system; where its number is not what stat tells, theirs count."""
    descriptor = acquire(str(tmp_path / "lock"), 0)
    status = os.fstat(descriptor)
    here = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    shown: dict[str, str] = {}
    monkeypatch.setattr(lock, "_read", shown.__getitem__)
    shown |= {f"/proc/{pid}/cmdline": f"plugin{pid}\0" for pid in (41, 42)}
    line = "1: FLOCK  ADVISORY  WRITE {} {}:{} 0 EOF\n"
    strange = line.format(42, "fe:7f", status.st_ino)
    shown["/proc/locks"] = strange + line.format(41, here, status.st_ino)
    assert holders(descriptor) == "pid 41 (plugin41)"
    shown["/proc/locks"] = strange
    assert holders(descriptor) == "pid 42 (plugin42)"
    os.close(descriptor)


def test_a_program_by_a_loader_of_its_own_is_called_as_it_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = "/l/ld --library-path /l --argv0 podwire /l/python -I agent --config /c"
    monkeypatch.setattr(lock, "_read", lambda _path: words.replace(" ", "\0"))
    assert lock._command("1") == "podwire -I agent --config /c"


def test_a_lock_unlinked_while_waiting_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock = tmp_path / "lock", fcntl.flock

    def wipe_once(descriptor: Any, operation: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        path.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", wipe_once)
    descriptor = acquire(str(path), 1)
    assert os.path.samestat(os.fstat(descriptor), path.stat())
    os.close(descriptor)


def test_a_symlink_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        acquire(str(tmp_path / "lock"), 0)
    assert not (tmp_path / "elsewhere").exists()


def churn(folder: Path, worker: int, rounds: int, results: Any) -> None:
    """Reserve and release in turn, ending with one address held."""
    conf = conf_of(folder, "10.244.1.0/26", "2001:db8::/64", cooldown_s=0)
    store = FakeNode().store()
    for n in range(rounds):
        store.reserve(conf, NETWORK, owner_of(f"w{worker}-{n}"), ())
        store.release(conf, NETWORK, owner_of(f"w{worker}-{n}"))
    results.put(texts(store.reserve(conf, NETWORK, owner_of(f"w{worker}"), ())))


def test_racing_processes_get_different_addresses(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [
        context.Process(target=churn, args=(tmp_path, n, 10, results), daemon=True)
        for n in range(8)
    ]
    for worker in workers:
        worker.start()
    given = [address for _worker in workers for address in results.get()]
    for worker in workers:
        worker.join(10)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert len(set(given)) == len(given) == 16
    assert sorted(reservations(tmp_path)) == sorted(a.partition("/")[0] for a in given)
