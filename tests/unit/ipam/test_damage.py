"""Another boot, adoption of a foreign folder, torn and garbled files, wiped folders."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ipam.errors import AddressInUse
from ipam.files import parse_owner
from ipam.values import IpamConf, Owner
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations, texts

TORN = [b"", b"\r\n", b"\0\0\0\0", b"\xff\xfe", b"c1\0\r\neth0"]


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def conf(tmp_path: Path) -> IpamConf:
    return conf_of(tmp_path, "10.244.1.0/29", "2001:db8::/64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / NETWORK


def reserve(node: FakeNode, conf: IpamConf, name: str) -> Any:
    return texts(node.store().reserve(conf, NETWORK, owner_of(name), ()))


def release(node: FakeNode, conf: IpamConf, name: str) -> Any:
    return sorted(map(str, node.store().release(conf, NETWORK, owner_of(name))))


def host_local_folder(folder: Path, **files: Any) -> None:
    folder.mkdir(mode=0o755)
    for name, data in files.items():
        (folder / name).write_bytes(data)


class TestParseOwner:
    @pytest.mark.parametrize("data", TORN)
    def test_torn(self, data: Any) -> None:
        assert parse_owner(data) is None

    @pytest.mark.parametrize(
        ("data", "owner"),
        [
            (b"c1\r\neth0", Owner("c1", "eth0")),
            (b"c1\r\neth0\n", Owner("c1", "eth0")),
            (b"c1", Owner("c1", "")),
            (b"c1\r\neth0\r\nns/pod", Owner("c1", "eth0")),
        ],
    )
    def test_formats(self, data: Any, owner: Any) -> None:
        assert parse_owner(data) == owner


class TestBoot:
    def test_another_boot_frees_all_and_keeps_the_rotation(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        reserve(node, conf, "c2")
        release(node, conf, "c2")
        node.boot, node.now_s = "boot-2", 5.0
        assert reserve(node, conf, "c3") == ["10.244.1.4/29", "2001:db8::4/64"]
        assert sorted(reservations(tmp_path)) == ["10.244.1.4", "2001:db8::4"]
        assert [p.name for p in (folder / ".owners").iterdir()] == ["c3:eth0"]
        assert node.lines == [f"{folder}: dropped 2 reservations of an earlier boot"]

    def test_readers_see_nothing_of_another_boot_and_change_nothing(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path
    ) -> None:
        reserve(node, conf, "c1")
        before = reservations(tmp_path)
        node.boot = "boot-2"
        store = node.store()
        assert store.held(conf, NETWORK, owner_of("c1")) == ()
        assert store.owners(conf, NETWORK) == {}
        assert store.usage(conf, NETWORK)[0].used == 0
        assert reservations(tmp_path) == before

    def test_an_unknown_boot_purges_nothing(self, node: FakeNode, conf: IpamConf) -> None:
        first = reserve(node, conf, "c1")
        node.boot = ""
        assert reserve(node, conf, "c1") == first

    def test_a_torn_marker_adopts_rather_than_purges(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        first = reserve(node, conf, "c1")
        (folder / ".boot_id").write_bytes(b"")
        assert reserve(node, conf, "c1") == first
        assert (folder / ".boot_id").read_bytes() == b"boot_id boot-1\n"

    def test_foreign_files_survive_the_purge(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        (folder / "README").write_text("mine")
        node.boot = "boot-2"
        release(node, conf, "c1")
        assert (folder / "README").read_text() == "mine"


class TestAdoption:
    def test_live_reservations_are_kept_and_known(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        files = {"10.244.1.2": b"c1\r\neth0", "2001:db8::2": b"c1\r\neth0"}
        host_local_folder(folder, **files, **{"last_reserved_ip.0": b"10.244.1.2"})
        assert reserve(node, conf, "c1") == ["10.244.1.2/29", "2001:db8::2/64"]
        assert reserve(node, conf, "c2") == ["10.244.1.3/29", "2001:db8::3/64"]
        assert {k: v for k, v in reservations(tmp_path).items() if k in files} == files
        assert release(node, conf, "c1") == ["10.244.1.2", "2001:db8::2"]

    def test_modes_are_tightened(self, node: FakeNode, conf: IpamConf, folder: Path) -> None:
        host_local_folder(folder, **{"10.244.1.2": b"c1\r\neth0"})
        (folder / "10.244.1.2").chmod(0o644)
        reserve(node, conf, "c2")
        assert [p.stat().st_mode & 0o777 for p in (folder, folder / "10.244.1.2")] == [
            0o700,
            0o600,
        ]

    def test_the_old_format_without_ifname_is_released_by_id(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        host_local_folder(folder, **{"10.244.1.2": b"c1"})
        assert reserve(node, conf, "c2")[0] == "10.244.1.3/29"
        assert release(node, conf, "c1") == ["10.244.1.2"]

    def test_the_old_format_survives_gc_of_a_valid_container(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        host_local_folder(folder, **{"10.244.1.2": b"c1", "10.244.1.3": b"c2"})
        node.store().retain(conf, NETWORK, {("c1", "eth7")})
        assert list(reservations(tmp_path)) == ["10.244.1.2"]

    def test_a_torn_file_nobody_uses_is_free_again(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        host_local_folder(folder, **{"10.244.1.2": b""})
        assert reserve(node, conf, "c1")[0] == "10.244.1.2/29"
        assert node.lines[0].startswith(f"healed torn file {folder}/10.244.1.2")

    def test_a_torn_file_in_use_is_kept(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        node.in_use = {ip_address("10.244.1.2")}
        host_local_folder(folder, **{"10.244.1.2": b""})
        assert reserve(node, conf, "c1")[0] == "10.244.1.3/29"
        assert reservations(tmp_path)["10.244.1.2"] == b""
        assert "kept" in node.lines[0]


class TestTorn:
    @pytest.mark.parametrize("data", TORN)
    def test_gc_restores_a_live_reservation_from_the_index(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path, data: Any
    ) -> None:
        reserve(node, conf, "c1")
        before = reservations(tmp_path)
        (folder / "10.244.1.2").write_bytes(data)  # in place: both addresses and the index
        assert node.store().retain(conf, NETWORK, {("c1", "eth0")}) == ()
        assert reservations(tmp_path) == before
        assert len(node.lines) == 1

    def test_release_frees_a_torn_reservation(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        (folder / "10.244.1.2").write_bytes(b"")
        assert release(node, conf, "c1") == ["10.244.1.2", "2001:db8::2"]
        assert reservations(tmp_path) == {}

    def test_a_full_set_heals_before_it_gives_up(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        for n in range(5):
            reserve(node, conf, f"c{n}")
        (folder / "10.244.1.4").unlink()
        (folder / "10.244.1.4").write_bytes(b"")  # as host-local leaves it when it is killed
        assert reserve(node, conf, "new")[0] == "10.244.1.4/29"

    def test_a_torn_file_at_a_requested_address_is_reclaimed(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        (folder / "10.244.1.5").write_bytes(b"")
        wanted = [conf.range_sets[0][0].subnet[5]]
        got = node.store().reserve(conf, NETWORK, owner_of("c2"), [ip_interface_of(wanted[0])])
        assert str(got[0].address) == "10.244.1.5/29"

    def test_a_torn_file_in_use_at_a_requested_address_is_not(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        (folder / "10.244.1.5").write_bytes(b"")
        node.in_use = {ip_address("10.244.1.5")}
        with pytest.raises(AddressInUse, match="is taken"):
            node.store().reserve(conf, NETWORK, owner_of("c2"), [ip_interface_of("10.244.1.5")])

    @pytest.mark.parametrize("kind", ["folder", "symlink", "fifo", "dangling"])
    def test_what_is_no_file_neither_hangs_nor_spreads(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path, kind: str
    ) -> None:
        reserve(node, conf, "c1")
        odd, outside = folder / "10.244.1.3", tmp_path / "outside"
        outside.write_text("precious")
        if kind == "folder":
            odd.mkdir()
        elif kind == "fifo":
            os.mkfifo(odd)
        else:
            odd.symlink_to(outside if kind == "symlink" else tmp_path / "nothing")
        assert reserve(node, conf, "c2")[0] == "10.244.1.4/29"
        node.store().retain(conf, NETWORK, {("c1", "eth0"), ("c2", "eth0")})
        assert odd.exists() == (kind == "folder")
        assert outside.read_text() == "precious"


class TestLeftovers:
    def test_an_owner_file_of_a_killed_add_is_used_again(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        reserve(node, conf, "c0")
        (folder / ".owners" / "c1:eth0").write_bytes(b"")  # killed before the write
        reserve(node, conf, "c1")
        assert reservations(tmp_path)["10.244.1.3"] == b"c1\r\neth0"

    def test_a_dual_stack_add_killed_half_way_is_completed(
        self, node: FakeNode, conf: IpamConf, folder: Path
    ) -> None:
        reserve(node, conf, "c0")
        (folder / ".owners" / "c1:eth0").write_bytes(b"c1\r\neth0")
        (folder / "10.244.1.6").hardlink_to(folder / ".owners" / "c1:eth0")
        assert reserve(node, conf, "c1") == ["10.244.1.6/29", "2001:db8::3/64"]

    def test_a_temp_file_that_is_a_reservation_is_never_written_to(
        self, node: FakeNode, conf: IpamConf, tmp_path: Path, folder: Path
    ) -> None:
        reserve(node, conf, "c1")
        (folder / ".tmp").hardlink_to(folder / "10.244.1.2")
        (folder / "last_reserved_ip.0").unlink()  # makes the next ADD use the temp file
        reserve(node, conf, "c2")
        assert reservations(tmp_path)["10.244.1.2"] == b"c1\r\neth0"

    @pytest.mark.parametrize("lost", [".owners", "lock", ".boot_id", "*", "everything"])
    def test_a_wiped_folder_never_gives_a_live_address(
        self, node: FakeNode, conf: IpamConf, folder: Path, lost: str
    ) -> None:
        reserve(node, conf, "c1")
        node.in_use = {ip_address("10.244.1.2"), ip_address("2001:db8::2")}
        wipe(folder, lost)
        got = reserve(node, conf, "c2")
        assert not {a.partition("/")[0] for a in got} & {str(a) for a in node.in_use}
        assert release(node, conf, "c2") == sorted(a.partition("/")[0] for a in got)
        release(node, conf, "c1")


def wipe(folder: Path, lost: str) -> None:
    dots = {"everything": True, "*": False}
    for path in sorted(folder.rglob("*"), reverse=True):
        inside = str(path.relative_to(folder))
        if lost in dots:
            gone = dots[lost] or not inside.startswith(".")
        else:
            gone = inside.partition("/")[0] == lost
        if gone:
            path.rmdir() if path.is_dir() else path.unlink()
    if lost == "everything":
        folder.rmdir()


def ip_interface_of(address: Any) -> Any:
    from ipaddress import ip_interface

    return ip_interface(str(address))
