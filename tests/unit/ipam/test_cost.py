"""What one ADD and DEL cost in system calls, counted by strace around a real process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of

ADD_MAX = 30  # docs/reliability.md: at most 30 system calls for the store, at any fill

SCRIPT = """
import os, sys
from pathlib import Path
from ipaddress import ip_address
from ipam.disk import DiskLeases
from tests.unit.ipam.kit import NETWORK, conf_of, owner_of

def mark(text):
    try:
        os.stat(text)
    except OSError:
        pass

conf = conf_of(Path(sys.argv[1]), *sys.argv[2].split(","))
store = DiskLeases(lambda network, address: False, boot_id=lambda: "boot-1", clock_s=lambda: 5000.0)
for number in range(int(sys.argv[3])):
    mark("/mark-add")
    store.reserve(conf, NETWORK, owner_of(f"many{number}"), ())
mark("/mark-add")
leases = store.reserve(conf, NETWORK, owner_of("measured"), ())
mark("/mark-del")
store.release(conf, NETWORK, owner_of("measured"), [lease.address.ip for lease in leases])
mark("/mark-end")
"""

pytestmark = [
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
    pytest.mark.skipif("COV_CORE_SOURCE" in os.environ, reason="coverage adds calls"),
]


def count(folder: Path, subnets: str) -> tuple[int, int]:
    """System calls of one reserve and of one release with a hint."""
    (add,), delete = calls(folder, subnets)
    return len(add), len(delete)


def calls(folder: Path, subnets: str, more: int = 0) -> tuple[list[list[str]], list[str]]:
    """The system calls of each reserve, `more` than one, and of one release with a hint."""
    log = folder / "trace"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = ["strace", "-o", log, sys.executable, "-c", SCRIPT, folder, subnets, str(more)]
    done = subprocess.run(command, env=environ, capture_output=True, check=False, timeout=50)
    if done.returncode and b"ptrace" in done.stderr.lower():
        pytest.skip("ptrace is not permitted here")
    assert done.returncode == 0, done.stderr.decode()
    adds, rest = log.read_text().split('"/mark-del"')
    *added, delete = (*adds.split('"/mark-add"')[1:], rest.split('"/mark-end"')[0])
    # Memory of the interpreter is no work of the store; the last line is the next mark's.
    memory = ("mmap(", "munmap(", "mremap(", "brk(", "madvise(")
    *each, last = (
        [line for line in part.splitlines()[1:-1] if not line.startswith(memory)]
        for part in (*added, delete)
    )
    return each, last


def fill(folder: Path, subnets: str, held: int) -> Any:
    """A store with that many reservations, made by the store itself."""
    node = FakeNode()
    conf, store = conf_of(folder, *subnets.split(",")), node.store()
    for n in range(held):
        store.reserve(conf, NETWORK, owner_of(f"c{n}"), ())
    return conf, store, node


@pytest.fixture(autouse=True)
def _fast_filling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measured process syncs; 4,000 syncs to fill the store first would take a minute."""
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


@pytest.mark.parametrize("held", [1, 250, 4000])
def test_the_cost_of_an_add_does_not_depend_on_the_fill(tmp_path: Path, held: int) -> None:
    fill(tmp_path, "10.244.0.0/16", held)
    add, delete = count(tmp_path, "10.244.0.0/16")
    assert add <= ADD_MAX
    assert delete <= ADD_MAX


def test_dual_stack_stays_within_the_budget(tmp_path: Path) -> None:
    fill(tmp_path, "10.244.0.0/16,2001:db8::/64", 250)
    assert max(count(tmp_path, "10.244.0.0/16,2001:db8::/64")) <= ADD_MAX


def test_a_nearly_full_pool_needs_no_listing_for_each_add(tmp_path: Path) -> None:
    conf, store, node = fill(tmp_path, "10.244.0.0/20", 4000)
    # Free addresses spread over the pool, released long ago, and the round robin wrapped.
    for n in range(0, 4000, 50):
        store.release(conf, NETWORK, owner_of(f"c{n}"))
    node.now_s += 1000
    for n in range(93 + 10):
        store.reserve(conf, NETWORK, owner_of(f"late{n}"), ())
    assert count(tmp_path, "10.244.0.0/20")[0] <= ADD_MAX


@pytest.mark.parametrize(
    ("subnets", "last"),
    [
        ("10.244.0.0/24", ["10.244.0.99"]),
        ("10.244.0.0/24,2001:db8::/64", ["10.244.0.105", "2001:db8::90"]),
        ("10.244.0.0/20", ["10.244.7.250"]),
    ],
)
def test_nor_one_that_host_local_filled_and_frees_in(
    tmp_path: Path, subnets: str, last: list[str]
) -> None:
    """Nobody has noted what is free: the folder is listed once in some ADDs, within the budget."""
    folder = tmp_path / NETWORK
    folder.mkdir()
    sizes = {"24": 253, "64": 253, "20": 4093}
    for index, (subnet, address) in enumerate(zip(subnets.split(","), last, strict=True)):
        (folder / f"last_reserved_ip.{index}").write_text(address)
        first = ip_network(subnet)[2]
        for n in range(sizes[subnet.partition("/")[2]]):
            (folder / str(first + n)).write_text(f"old{n}\r\neth0")
    conf, store, _node = fill(tmp_path, subnets, 0)
    store.release(conf, NETWORK, owner_of("nobody"))  # takes the folder over
    for file in list(folder.iterdir()):
        if (data := file.read_bytes() if file.is_file() else b"").endswith(b"3\r\neth0"):
            file.unlink()
            (folder / ".owners" / data.decode().replace("\r\n", ":")).unlink(missing_ok=True)
    adds, _delete = calls(tmp_path, subnets, more=20 if "/24" in subnets else 140)
    assert any("getdents" in call for add in adds for call in add)
    assert max([len(add) for add in adds]) <= ADD_MAX
