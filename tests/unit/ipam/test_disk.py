"""The store over real files: reserve, release, what stays behind when something fails."""

from __future__ import annotations

import errno
import os
import stat
from ipaddress import ip_address, ip_interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ipam.disk import DiskLeases, folder_path
from ipam.errors import AddressInUse, InvalidConf, InvalidRanges, PoolExhausted, StoreFailed
from ipam.files import Folder
from ipam.logs import PAST_MAX, parse_released
from ipam.memory import Memory
from ipam.values import IpamConf
from tests.unit.ipam.kit import (
    NETWORK,
    FakeNode,
    conf_of,
    owner_of,
    reservations,
    texts,
)


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def store(node: FakeNode) -> DiskLeases:
    return node.store()


def reserve(store: DiskLeases, conf: IpamConf, name: str, *requested: Any, pod: str = "") -> Any:
    asked = [ip_interface(text) for text in requested]
    return texts(store.reserve(conf, NETWORK, owner_of(name, pod=pod), asked))


def release(store: DiskLeases, conf: IpamConf, name: str, hint: Any = ()) -> Any:
    return [str(a) for a in store.release(conf, NETWORK, owner_of(name), hint)]


class TestReserve:
    def test_writes_what_host_local_writes(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        assert reserve(store, conf, "c1") == ["10.244.1.2/24", "2001:db8::2/64"]
        assert reservations(tmp_path) == {
            "10.244.1.2": b"c1\r\neth0",
            "2001:db8::2": b"c1\r\neth0",
        }
        last = [(tmp_path / NETWORK / f"last_reserved_ip.{n}").read_text() for n in (0, 1)]
        assert last == ["10.244.1.2", "2001:db8::2"]

    def test_goes_on_after_the_last_one_though_earlier_ones_are_free(
        self, node: FakeNode, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", cooldown_s=0)
        reserve(node.store(), conf, "c1")
        release(node.store(), conf, "c1")
        assert reserve(node.store(), conf, "c2") == ["10.244.1.3/24"]

    def test_what_nobody_was_told_of_is_the_next_to_be_given(
        self, node: FakeNode, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64", cooldown_s=30)
        first = reserve(node.store(), conf, "c1")
        node.store().release(conf, NETWORK, owner_of("c1"), unused=True)
        assert reserve(node.store(), conf, "c2") == first
        release(node.store(), conf, "c2")
        assert reserve(node.store(), conf, "c3") == ["10.244.1.3/24", "2001:db8::3/64"]
        assert parse_released((tmp_path / NETWORK / ".released").read_bytes()).keys() == {
            "10.244.1.2",
            "2001:db8::2",
        }

    def test_the_position_is_exact_when_its_text_gets_shorter(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/28+10.244.10.0/28")
        position = tmp_path / NETWORK / "last_reserved_ip.0"
        given = [reserve(store, conf, f"c{n}")[0].partition("/")[0] for n in range(26)]
        release(store, conf, "c0")
        node_last = given[-1]
        assert position.read_text() == node_last == "10.244.10.14"
        assert reserve(store, conf, "again") == ["10.244.1.2/28"]
        assert position.read_text() == "10.244.1.2"

    def test_a_repeated_add_gets_the_same_and_leaks_nothing(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        first = reserve(store, conf, "c1")
        assert reserve(store, conf, "c1") == first
        assert len(reservations(tmp_path)) == 2

    def test_a_repeated_add_after_a_new_set_gets_the_old_and_a_new_one(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        reserve(store, conf_of(tmp_path, "10.244.1.0/24"), "c1")
        both = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        assert reserve(store, both, "c1") == ["10.244.1.2/24", "2001:db8::2/64"]
        assert release(store, both, "c1") == ["10.244.1.2", "2001:db8::2"]

    def test_two_interfaces_of_a_container_are_two_owners(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        store.reserve(conf, NETWORK, owner_of("c1", "eth0"), ())
        store.reserve(conf, NETWORK, owner_of("c1", "eth1"), ())
        assert release(store, conf, "c1") == ["10.244.1.2"]
        assert reservations(tmp_path) == {"10.244.1.3": b"c1\r\neth1"}

    def test_a_container_id_that_is_too_long_for_a_file_name(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf, name = conf_of(tmp_path, "10.244.1.0/24"), "c" * 255
        assert reserve(store, conf, name) == reserve(store, conf, name) == ["10.244.1.2/24"]
        assert not (tmp_path / NETWORK / ".tmp").exists()
        assert release(store, conf, name) == ["10.244.1.2"]

    def test_modes_are_explicit_under_any_umask(self, store: DiskLeases, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            reserve(store, conf_of(tmp_path / "a" / "b", "10.244.1.0/24"), "c1")
        finally:
            os.umask(before)
        found = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*") if p.is_file()}
        folders = [p for p in (tmp_path / "a", *(tmp_path / "a").rglob("*")) if p.is_dir()]
        assert found == {0o600}
        assert {stat.S_IMODE(p.stat().st_mode) for p in folders} == {0o700}
        assert len(folders) == 4  # a, b, the network, the index

    def test_an_address_in_the_kernel_is_not_given(self, node: FakeNode, tmp_path: Path) -> None:
        # The store was wiped under a live pod: the kernel is the only witness left.
        node.in_use = {ip_address("10.244.1.2")}
        conf = conf_of(tmp_path, "10.244.1.0/24")
        assert reserve(node.store(), conf, "c1") == ["10.244.1.3/24"]
        assert list(reservations(tmp_path)) == ["10.244.1.3"]
        assert "10.244.1.2 is in use" in node.lines[0]


class TestExhaustion:
    def test_every_address_is_given_then_the_counts_are_told(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        given = {reserve(store, conf, f"c{n}")[0] for n in range(5)}
        assert given == {f"10.244.1.{n}/29" for n in (2, 3, 4, 5, 6)}
        with pytest.raises(PoolExhausted) as failure:
            reserve(store, conf, "c9")
        assert failure.value.details.startswith("used 5, cooling 0, reserved 1, total 5")

    def test_a_full_second_set_undoes_the_first(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/126")
        for n in range(2):
            reserve(store, conf, f"c{n}")
        before = reservations(tmp_path)
        with pytest.raises(PoolExhausted):
            reserve(store, conf, "c9")
        assert reservations(tmp_path) == before
        assert len(list((tmp_path / NETWORK / ".owners").iterdir())) == 2

    def test_the_second_subnet_of_a_set_is_used_when_the_first_is_full(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/30+10.244.2.0/30")
        assert reserve(store, conf, "c1") == ["10.244.1.2/30"]
        assert reserve(store, conf, "c2") == ["10.244.2.2/30"]

    def test_one_free_address_far_away_is_found(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", cooldown_s=0)
        for n in range(253):
            reserve(store, conf, f"c{n}")
        (tmp_path / NETWORK / "10.244.1.100").unlink()  # no release noted anywhere
        assert reserve(store, conf, "new") == ["10.244.1.100/24"]

    def test_one_listing_finds_addresses_for_many_adds(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", cooldown_s=0)
        for n in range(253):
            reserve(store, conf, f"c{n}")
        for n in range(10, 250, 10):  # far apart, without any note of a release
            (tmp_path / NETWORK / f"10.244.1.{n}").unlink()
        assert reserve(store, conf, "first") == ["10.244.1.10/24"]
        monkeypatch.setattr(Folder, "taken", None)
        got = [reserve(store, conf, f"new{n}")[0] for n in range(20, 250, 10)]
        assert got == [f"10.244.1.{n}/24" for n in range(20, 250, 10)]


class TestCooldown:
    def test_a_released_address_rests_while_others_are_free(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        for n in range(5):
            reserve(store, conf, f"c{n}")
        release(store, conf, "c3")
        node.now_s += 20
        release(store, conf, "c1")
        node.now_s += 11  # c3's address is rested, c1's is not
        assert reserve(store, conf, "new") == ["10.244.1.5/29"]

    def test_under_pressure_the_oldest_release_is_given_first(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        for n in range(5):
            reserve(store, conf, f"c{n}")
        for name in ("c4", "c0", "c2"):
            release(store, conf, name)
            node.now_s += 1
        got = [reserve(store, conf, f"new{n}")[0] for n in range(3)]
        assert got == ["10.244.1.6/29", "10.244.1.2/29", "10.244.1.4/29"]

    def test_usage_tells_cooling_from_free(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        for n in range(3):
            reserve(store, conf, f"c{n}")
        release(store, conf, "c0")
        (usage,) = store.usage(conf, NETWORK)
        assert (usage.total, usage.used, usage.cooling, usage.free) == (5, 2, 1, 2)
        node.now_s += 30
        assert store.usage(conf, NETWORK)[0].free == 3

    def test_a_log_whose_end_is_garbage_loses_no_later_release(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        reserve(store, conf, "c0")
        (tmp_path / NETWORK / ".released").write_bytes(b"10.244.1.6 1.0\n10.244")
        release(store, conf, "c0")
        assert store.usage(conf, NETWORK)[0].cooling == 1

    def test_an_address_given_again_leaves_the_log(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/30")
        reserve(store, conf, "c1")
        release(store, conf, "c1")
        log = tmp_path / NETWORK / ".released"
        assert list(parse_released(log.read_bytes())) == ["10.244.1.2"]
        reserve(store, conf, "c2")
        assert parse_released(log.read_bytes()) == {}

    def test_the_log_does_not_grow_for_ever(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
        conf = conf_of(tmp_path, "10.244.1.0/29", cooldown_s=1)
        for n in range(1500):
            reserve(store, conf, f"c{n}")
            release(store, conf, f"c{n}")
            node.now_s += 1
        assert (tmp_path / NETWORK / ".released").stat().st_size < 20000

    def test_nor_where_each_release_is_of_another_address(
        self, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
        memory, conf = Memory(), conf_of(tmp_path, "2001:db8::/64", cooldown_s=30)
        store = node.store(memory=memory)
        for n in range(4 * PAST_MAX):
            reserve(store, conf, f"c{n}")
            release(store, conf, f"c{n}")
            node.now_s += 1
        log = parse_released((tmp_path / NETWORK / ".released").read_bytes())
        assert PAST_MAX <= len(log) < 3 * PAST_MAX
        assert list(log)[-1] == f"2001:db8::{4 * PAST_MAX + 1:x}"  # the latest ones are there

    def test_a_full_disk_does_not_stop_a_release(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        reserve(store, conf, "c1")

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Folder, "append", full)
        assert release(store, conf, "c1") == ["10.244.1.2"]
        assert reservations(tmp_path) == {}
        assert node.lines == ["no cooldown for 10.244.1.2: No space left on device"]

    def test_a_note_that_cannot_be_written_leaves_no_empty_file(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/29")
        reserve(store, conf, "c1")

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        assert release(store, conf, "c1") == ["10.244.1.2"]
        assert not (tmp_path / NETWORK / ".released").exists()


class TestSticky:
    def test_the_same_pod_gets_its_last_address_even_while_cooling(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64", sticky="pod")
        first = reserve(store, conf, "c1", pod="ns/web-0")
        release(store, conf, "c1")
        assert reserve(store, conf, "c2", pod="ns/other") != first
        assert reserve(store, conf, "c3", pod="ns/web-0") == first

    def test_another_address_while_its_own_is_taken_and_that_one_from_then_on(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", sticky="pod")
        reserve(store, conf, "c1", pod="ns/web-0")
        second = reserve(store, conf, "c2", pod="ns/web-0")
        release(store, conf, "c1")
        release(store, conf, "c2")
        assert reserve(store, conf, "c3", pod="ns/web-0") == second != ["10.244.1.2/24"]

    def test_an_address_skipped_because_it_is_in_use_is_not_remembered(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        node.in_use = {ip_address("10.244.1.2")}
        conf = conf_of(tmp_path, "10.244.1.0/24", sticky="pod")
        reserve(store, conf, "c1", pod="ns/web-0")
        assert (tmp_path / NETWORK / ".sticky").read_text().split("\n")[1:] == [
            "ns/web-0 10.244.1.3",
            "",
        ]

    def test_off_by_default(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        first = reserve(store, conf, "c1", pod="ns/web-0")
        release(store, conf, "c1")
        assert reserve(store, conf, "c2", pod="ns/web-0") != first
        assert not (tmp_path / NETWORK / ".sticky").exists()


class TestRequested:
    def test_is_given_and_the_round_robin_stays(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        assert reserve(store, conf, "c1", "10.244.1.77/32") == ["10.244.1.77/24"]
        assert reserve(store, conf, "c2") == ["10.244.1.2/24"]

    def test_taken_by_another_names_the_holder_and_reserves_nothing(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        reserve(store, conf, "c1")
        before = reservations(tmp_path)
        with pytest.raises(AddressInUse, match=r"2001:db8::2 is taken") as failure:
            reserve(store, conf, "c2", "2001:db8::2")
        assert failure.value.details == "held by c1 eth0"
        assert reservations(tmp_path) == before

    def test_in_the_kernel_is_refused(
        self, node: FakeNode, store: DiskLeases, tmp_path: Path
    ) -> None:
        node.in_use = {ip_address("10.244.1.9")}
        with pytest.raises(AddressInUse, match="in use on this node"):
            reserve(store, conf_of(tmp_path, "10.244.1.0/24"), "c1", "10.244.1.9")
        assert reservations(tmp_path) == {}

    def test_repeated_gets_the_same(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1", "10.244.1.9")
        assert reserve(store, conf, "c1", "10.244.1.9") == ["10.244.1.9/24"]

    def test_another_than_held_is_refused_and_the_held_one_stays(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        with pytest.raises(AddressInUse, match=r"already holds 10\.244\.1\.2"):
            reserve(store, conf, "c1", "10.244.1.9")
        assert release(store, conf, "c1") == ["10.244.1.2"]

    def test_outside_of_every_range_touches_nothing(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        with pytest.raises(InvalidRanges):
            reserve(store, conf_of(tmp_path, "10.244.1.0/24"), "c1", "10.9.9.9")
        assert not (tmp_path / NETWORK).exists()


class TestRelease:
    def test_twice_is_success(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        assert [release(store, conf, "c1"), release(store, conf, "c1")] == [["10.244.1.2"], []]

    def test_of_a_network_that_never_was_creates_nothing(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        assert release(store, conf_of(tmp_path / "no", "10.244.1.0/24"), "c1") == []
        assert not (tmp_path / "no").exists()

    def test_frees_addresses_of_ranges_long_gone(self, store: DiskLeases, tmp_path: Path) -> None:
        reserve(store, conf_of(tmp_path, "10.244.1.0/24"), "c1")
        assert release(store, conf_of(tmp_path, "10.245.0.0/24"), "c1") == ["10.244.1.2"]

    def test_a_wrong_hint_frees_the_right_address_only(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        reserve(store, conf, "c2")
        assert release(store, conf, "c2", hint=[ip_address("10.244.1.2")]) == ["10.244.1.3"]
        assert list(reservations(tmp_path)) == ["10.244.1.2"]

    def test_a_right_hint_spares_the_listing(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        reserve(store, conf, "c1")
        monkeypatch.setattr(Folder, "inodes", None)
        hint = [ip_address("10.244.1.2"), ip_address("2001:db8::2")]
        assert release(store, conf, "c1", hint) == ["10.244.1.2", "2001:db8::2"]

    def test_works_when_the_index_is_lost(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        reserve(store, conf, "c1")
        reserve(store, conf, "c2")
        for entry in (tmp_path / NETWORK / ".owners").iterdir():
            entry.unlink()
        assert sorted(release(store, conf, "c1")) == ["10.244.1.2", "2001:db8::2"]
        assert sorted(reservations(tmp_path)) == ["10.244.1.3", "2001:db8::3"]

    def test_works_where_a_listing_tells_other_inodes_than_stat(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As overlayfs does when its layers lie on different file systems.
        conf, real = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64"), Folder.inodes
        reserve(store, conf, "c1")
        reserve(store, conf, "c2")
        shifted = {"10.244.1.2": 1, "2001:db8::2": 2}
        monkeypatch.setattr(Folder, "inodes", lambda folder: real(folder) | shifted)
        assert release(store, conf, "c1") == ["10.244.1.2", "2001:db8::2"]

    def test_works_after_a_copy_that_broke_the_links(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        file = tmp_path / NETWORK / "10.244.1.2"
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
        assert reserve(store, conf, "c1") == ["10.244.1.2/24"]
        assert release(store, conf, "c1") == ["10.244.1.2"]


class TestReading:
    def test_held_and_owners(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        reserve(store, conf, "c1")
        addresses = (ip_address("10.244.1.2"), ip_address("2001:db8::2"))
        assert store.held(conf, NETWORK, owner_of("c1")) == addresses
        assert store.held(conf, NETWORK, owner_of("c2")) == ()
        assert store.owners(conf, NETWORK) == dict.fromkeys(addresses, owner_of("c1"))

    def test_of_a_network_that_never_was(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path / "no", "10.244.1.0/24")
        assert store.held(conf, NETWORK, owner_of("c1")) == ()
        assert store.owners(conf, NETWORK) == {}
        assert store.usage(conf, NETWORK)[0].free == 253

    def test_usage_counts_only_the_ranges_of_today(self, store: DiskLeases, tmp_path: Path) -> None:
        reserve(store, conf_of(tmp_path, "10.244.1.0/24"), "c1")
        assert store.usage(conf_of(tmp_path, "10.245.0.0/24"), NETWORK)[0].used == 0


class TestRetain:
    def test_frees_the_dead_and_keeps_the_valid(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        for n in range(4):
            reserve(store, conf, f"c{n}")
        freed = store.retain(conf, NETWORK, {("c1", "eth0"), ("c3", "eth9")})
        assert sorted(map(str, freed)) == ["10.244.1.2", "10.244.1.4", "10.244.1.5"]
        assert reservations(tmp_path) == {"10.244.1.3": b"c1\r\neth0"}
        assert [p.name for p in (tmp_path / NETWORK / ".owners").iterdir()] == ["c1:eth0"]

    def test_what_came_after_the_snapshot_is_kept(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "dead")
        before = store.owners(conf, NETWORK)
        reserve(store, conf, "new")
        assert [str(a) for a in store.retain(conf, NETWORK, set(), before)] == ["10.244.1.2"]

    def test_an_address_given_to_another_since_the_snapshot_is_kept(
        self, store: DiskLeases, tmp_path: Path
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/30")
        reserve(store, conf, "dead")
        before = store.owners(conf, NETWORK)
        release(store, conf, "dead")
        reserve(store, conf, "new")
        assert store.retain(conf, NETWORK, set(), before) == ()

    def test_sweeps_what_kills_left(self, store: DiskLeases, tmp_path: Path) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        folder = tmp_path / NETWORK
        (folder / ".tmp").write_bytes(b"")
        (folder / ".owners" / "killed:eth0").write_bytes(b"")
        assert store.retain(conf, NETWORK, {("c1", "eth0")}) == ()
        assert not (folder / ".tmp").exists()
        assert [p.name for p in (folder / ".owners").iterdir()] == ["c1:eth0"]


class TestFailures:
    @pytest.mark.parametrize(
        "folder", ["relative/path", "/a/../b", "/a/b/", "//a", "/a/./b", "", "/a\0b"]
    )
    def test_a_data_dir_that_could_lead_elsewhere(self, folder: Path) -> None:
        with pytest.raises(InvalidConf):
            folder_path(folder, NETWORK)

    @pytest.mark.parametrize("network", ["", ".", "..", "a/b", "a\0"])
    def test_a_network_that_is_no_file_name(self, network: str) -> None:
        with pytest.raises(InvalidConf):
            folder_path("/var/lib/cni/networks", network)

    def test_a_file_where_the_folder_should_be(self, store: DiskLeases, tmp_path: Path) -> None:
        (tmp_path / NETWORK).write_text("")
        conf = conf_of(tmp_path, "10.244.1.0/24")
        with pytest.raises(StoreFailed, match=NETWORK) as failure:
            reserve(store, conf, "c1")
        assert (failure.value.code, "parent of the folder" in failure.value.details) == (5, True)
        release(store, conf, "c1")  # nothing can be reserved there

    @pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
    def test_a_failed_sync_leaves_nothing_and_is_not_repeated(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        conf, calls = conf_of(tmp_path, "10.244.1.0/24"), []
        reserve(store, conf, "c1")

        def fail(descriptor: Any) -> None:
            calls.append(descriptor)
            raise OSError(number, os.strerror(number))

        before = sorted(p.name for p in (tmp_path / NETWORK).rglob("*"))
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(StoreFailed, match="c2:eth0") as failure:
            reserve(store, conf, "c2")
        assert failure.value.details
        assert len(calls) == 1
        assert sorted(p.name for p in (tmp_path / NETWORK).rglob("*")) == before

    def test_a_link_that_fails_undoes_all(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24", "2001:db8::/64")
        reserve(store, conf, "c1")
        before, link = sorted(p.name for p in (tmp_path / NETWORK).rglob("*")), os.link

        def fail(source: Any, target: Any) -> None:
            if "2001:db8" in target:
                raise OSError(errno.ENOSPC, "No space left on device", source, None, target)
            link(source, target)

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(StoreFailed, match="2001:db8::3"):
            reserve(store, conf, "c2")
        assert sorted(p.name for p in (tmp_path / NETWORK).rglob("*")) == before

    def test_a_release_that_cannot_unlink_is_no_success(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")

        def read_only(path: Any) -> None:
            raise OSError(errno.EROFS, "Read-only file system", path)

        monkeypatch.setattr(os, "unlink", read_only)
        with pytest.raises(StoreFailed) as failure:
            release(store, conf, "c1")
        assert failure.value.details == "mount the file system writable"
        assert release(store, conf, "holds-nothing") == []
        monkeypatch.undo()
        assert release(store, conf, "c1") == ["10.244.1.2"]

    def test_usage_of_a_read_only_store_is_refused(
        self, store: DiskLeases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        conf = conf_of(tmp_path, "10.244.1.0/24")
        reserve(store, conf, "c1")
        monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))
        with pytest.raises(StoreFailed, match="Read-only file system") as failure:
            store.usage(conf, NETWORK)
        assert failure.value.details == "mount the file system writable"


def test_what_was_noted_as_free_and_is_taken_is_not_tried_again(tmp_path: Path) -> None:
    node = FakeNode()
    store, conf = node.store(), conf_of(tmp_path, "10.244.0.0/24")
    store.reserve(conf, NETWORK, owner_of("first"), ())
    log, taken = tmp_path / NETWORK / ".released", tmp_path / NETWORK / "10.244.0.7"
    log.write_text("10.244.0.7 -inf\n10.244.0.9 -inf\n")
    taken.write_bytes(b"of-host-local\r\neth0")
    assert texts(store.reserve(conf, NETWORK, owner_of("second"), ())) == ["10.244.0.9/24"]
    assert not parse_released(log.read_bytes())
