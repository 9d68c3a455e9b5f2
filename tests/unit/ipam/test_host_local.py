"""One folder in turn with the real host-local: each must understand what the other left."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ipam.disk import DiskLeases
from ipam.values import IpamConf
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations, texts

HOST_LOCAL = Path("/usr/lib/cni/host-local")
SUBNETS = ("10.244.1.0/24", "2001:db8::/64")

pytestmark = pytest.mark.skipif(
    not HOST_LOCAL.exists(), reason="needs host-local of the package containernetworking-plugins"
)


def host_local(command: str, folder: Path, container_id: str, subnets: Any = SUBNETS) -> Any:
    """Run host-local; the addresses of an ADD, whether a CHECK or DEL succeeded."""
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    ipam = {"type": "host-local", "ranges": ranges, "dataDir": str(folder)}
    conf = {"cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "ipam": ipam}
    done = subprocess.run(
        [HOST_LOCAL],
        input=json.dumps(conf).encode(),
        env={
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": f"/proc/{os.getpid()}/ns/net",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(HOST_LOCAL.parent),
        },
        capture_output=True,
        check=False,
        timeout=20,
    )
    if command == "ADD":
        return [ip["address"] for ip in json.loads(done.stdout)["ips"]]
    return done.returncode == 0


@pytest.fixture
def store() -> DiskLeases:
    return FakeNode().store()


@pytest.fixture
def conf(tmp_path: Path) -> IpamConf:
    return conf_of(tmp_path, *SUBNETS)


def reserve(store: DiskLeases, conf: IpamConf, name: str) -> Any:
    return texts(store.reserve(conf, NETWORK, owner_of(name), ()))


def test_both_write_the_same_bytes(store: DiskLeases, conf: IpamConf, tmp_path: Path) -> None:
    host_local("ADD", tmp_path, "c1")
    reserve(store, conf_of(tmp_path / "ours", *SUBNETS), "c1")
    assert reservations(tmp_path) == reservations(tmp_path / "ours")
    last = [
        (p / NETWORK / "last_reserved_ip.1").read_bytes() for p in (tmp_path, tmp_path / "ours")
    ]
    assert last[0] == last[1]


@pytest.mark.parametrize(
    "subnet",
    ["2001:db8::/64", "2001:db8:0:0:1::/80", "2001:db8:0:1::/64", "fd00:0:0:1:0:0:0:0/125"],
)
def test_both_name_ipv6_files_alike(store: DiskLeases, tmp_path: Path, subnet: str) -> None:
    theirs = host_local("ADD", tmp_path / "theirs", "c1", (subnet,))
    ours = reserve(store, conf_of(tmp_path / "ours", subnet), "c1")
    assert ours == theirs
    assert list(reservations(tmp_path / "ours")) == list(reservations(tmp_path / "theirs"))


def test_taking_over_keeps_live_reservations_and_the_rotation(
    store: DiskLeases, conf: IpamConf, tmp_path: Path
) -> None:
    assert host_local("ADD", tmp_path, "c1") == ["10.244.1.2/24", "2001:db8::2/64"]
    assert reserve(store, conf, "c2") == ["10.244.1.3/24", "2001:db8::3/64"]
    assert reserve(store, conf, "c1") == ["10.244.1.2/24", "2001:db8::2/64"]
    assert [str(a) for a in store.release(conf, NETWORK, owner_of("c1"))] == [
        "10.244.1.2",
        "2001:db8::2",
    ]


def test_going_back_keeps_live_reservations_and_the_rotation(
    store: DiskLeases, conf: IpamConf, tmp_path: Path
) -> None:
    reserve(store, conf, "c1")
    assert host_local("CHECK", tmp_path, "c1")
    assert host_local("ADD", tmp_path, "c2") == ["10.244.1.3/24", "2001:db8::3/64"]
    assert host_local("DEL", tmp_path, "c1")
    assert not host_local("CHECK", tmp_path, "c1")
    assert sorted(reservations(tmp_path)) == ["10.244.1.3", "2001:db8::3"]


def test_each_frees_what_the_other_gave_over_and_over(
    store: DiskLeases, conf: IpamConf, tmp_path: Path
) -> None:
    for n in range(3):
        host_local("ADD", tmp_path, f"theirs{n}")
        reserve(store, conf, f"ours{n}")
        assert len(store.release(conf, NETWORK, owner_of(f"theirs{n}"))) == 2
        assert host_local("DEL", tmp_path, f"ours{n}")
        assert store.release(conf, NETWORK, owner_of(f"ours{n}")) == ()
    assert reservations(tmp_path) == {}
    assert list((tmp_path / NETWORK / ".owners").iterdir()) == []


def test_what_host_local_adds_later_is_known_without_another_adoption(
    store: DiskLeases, conf: IpamConf, tmp_path: Path
) -> None:
    reserve(store, conf, "c1")
    host_local("ADD", tmp_path, "late")
    assert [str(a) for a in store.held(conf, NETWORK, owner_of("late"))] == [
        "10.244.1.3",
        "2001:db8::3",
    ]
    assert owner_of("late") in store.owners(conf, NETWORK).values()
    assert reserve(store, conf, "c2") == ["10.244.1.4/24", "2001:db8::4/64"]


def test_one_lock_for_both(conf: IpamConf, tmp_path: Path) -> None:
    reserve(FakeNode().store(), conf, "c1")
    ours = FakeNode().store()
    # A host-local that waits for our lock must go on when it is free, and not before.
    waiting = None

    def evidence(_network: str, _address: Any) -> Any:
        nonlocal waiting
        waiting = subprocess.Popen(
            [HOST_LOCAL],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={
                "CNI_COMMAND": "DEL",
                "CNI_CONTAINERID": "c1",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/",
                "CNI_NETNS": "",
            },
        )
        ipam = {"ranges": [[{"subnet": SUBNETS[0]}]], "dataDir": str(tmp_path)}
        document = {"cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "ipam": ipam}
        waiting.stdin.write(json.dumps(document).encode())
        waiting.stdin.close()
        wait_until_blocked(waiting)
        assert "10.244.1.2" in reservations(tmp_path)
        return False

    ours._evidence = evidence
    reserve(ours, conf_of(tmp_path, SUBNETS[0]), "c2")
    assert waiting.wait(10) == 0
    assert sorted(reservations(tmp_path)) == ["10.244.1.3"]


def wait_until_blocked(process: Any) -> None:
    """Until the process is a waiter in /proc/locks, or has ended."""
    while process.poll() is None:
        waiters = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if any(str(process.pid) in words and "->" in words for words in waiters):
            return
