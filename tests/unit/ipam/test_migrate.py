"""Moving a store: everything arrives, a clash moves nothing, a second try finishes the first."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from ipam.disk import DiskLeases
from ipam.errors import AddressInUse, InvalidConf
from ipam.files import Folder
from ipam.migrate import fitness, migrate
from ipam.ranges import canonical
from ipam.values import IpamConf, Owner

NET = "net"


@pytest.fixture
def leases() -> DiskLeases:
    return DiskLeases(lambda _network, _address: False)


def conf(folder: Path) -> IpamConf:
    sets = tuple((canonical(ip_network(s)),) for s in ("10.244.0.0/24", "2001:db8::/64"))
    return IpamConf("podwire-ipam", sets, data_dir=str(folder))


def fill(leases: DiskLeases, folder: Path, *names: str) -> None:
    for name in names:
        leases.reserve(conf(folder), NET, Owner(name, "eth0"), ())


def nothing() -> None: ...


@pytest.mark.parametrize("other_disk", [False, True])
def test_everything_moves(
    leases: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_disk: bool
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fill(leases, old, "a", "b")
    before = leases.owners(conf(old), NET)
    if other_disk:
        real = os.stat
        monkeypatch.setattr(
            os, "stat", lambda p, **k: _elsewhere(real(p, **k)) if p == f"{new}/{NET}" else real(p)
        )
    seen = []
    count = migrate(
        leases, str(old), str(new), NET, lambda: seen.append(len(Folder(f"{old}/{NET}").owners()))
    )
    monkeypatch.undo()
    assert (count, seen) == (4, [4])  # the source is whole when others are told
    assert leases.owners(conf(new), NET) == before
    assert leases.owners(conf(old), NET) == {}
    assert Path(new, NET, "10.244.0.2").stat().st_nlink == 3  # index, IPv4, IPv6
    assert Path(new, NET, "last_reserved_ip.0").read_text() == "10.244.0.3"
    leases.release(conf(new), NET, Owner("a", "eth0"))
    assert {who.container_id for who in leases.owners(conf(new), NET).values()} == {"b"}


def _elsewhere(status: os.stat_result) -> os.stat_result:
    return os.stat_result([*status[:2], status.st_dev + 1, *status[3:]])


def test_a_clash_moves_nothing(leases: DiskLeases, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fill(leases, old, "a", "b")
    fill(leases, new, "x")
    before = leases.owners(conf(old), NET), leases.owners(conf(new), NET)
    with pytest.raises(AddressInUse, match=r"holds 10\.244\.0\.2, 2001:db8::2 for others"):
        migrate(leases, str(old), str(new), NET, nothing)
    assert (leases.owners(conf(old), NET), leases.owners(conf(new), NET)) == before


def test_a_second_try_finishes_what_a_kill_left(leases: DiskLeases, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    fill(leases, old, "a", "b")

    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(leases, str(old), str(new), NET, killed)
    assert len(leases.owners(conf(old), NET)) == len(leases.owners(conf(new), NET)) == 4
    assert migrate(leases, str(old), str(new), NET, nothing) == 4
    assert leases.owners(conf(old), NET) == {}


def test_a_folder_to_itself_and_from_nowhere(leases: DiskLeases, tmp_path: Path) -> None:
    fill(leases, tmp_path, "a")
    for source, target in ((tmp_path, tmp_path), (tmp_path / "none", tmp_path)):
        with pytest.raises(InvalidConf):
            migrate(leases, str(source), str(target), NET, nothing)
    assert len(leases.owners(conf(tmp_path), NET)) == 2


def test_a_host_local_folder_is_fit(tmp_path: Path) -> None:
    (tmp_path / "10.244.0.5").write_bytes(b"c0ffee\r\neth0")
    (tmp_path / "last_reserved_ip.0").write_text("10.244.0.5")
    (tmp_path / "lock").touch()
    assert fitness(str(tmp_path)) == (1, (), ())


def test_what_makes_a_folder_unfit_or_worth_a_note(tmp_path: Path) -> None:
    (tmp_path / "10.244.0.5").mkdir()
    (tmp_path / "10.244.0.6").write_bytes(b"")
    (tmp_path / "10.244.0.7").write_bytes(b"c0ffee")
    (tmp_path / "10.244.0.8").write_bytes(b"c0ffee\r\neth0\r\nmore")
    (tmp_path / "notes.txt").touch()
    found = fitness(str(tmp_path))
    assert found.reservations == 4
    assert [fault.partition(": ")[0][-10:] for fault in found.faults] == ["10.244.0.5"]
    assert [note.partition(": ")[0].rpartition("/")[2] for note in found.notes] == [
        "10.244.0.6", "10.244.0.7", "10.244.0.8", "notes.txt",
    ]  # fmt: skip


def test_a_network_does_not_move_into_its_own_folder(leases: DiskLeases, tmp_path: Path) -> None:
    fill(leases, tmp_path, "a")
    before = sorted(Path(tmp_path, NET).rglob("*"))
    with pytest.raises(InvalidConf, match="lies in"):
        migrate(leases, str(tmp_path), str(tmp_path / NET), NET, nothing)
    assert sorted(Path(tmp_path, NET).rglob("*")) == before
