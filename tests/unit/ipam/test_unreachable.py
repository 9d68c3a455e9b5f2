"""Where no reservation can be made or found: what ADD and DEL make of it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ipam.errors import StoreFailed
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations


class TestNothingCanBeHeld:
    """DEL of an attachment that holds nothing succeeds wherever ADD could not have reserved."""

    def test_a_data_dir_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
            store, conf = FakeNode().store(), conf_of(folder, "10.1.0.0/24")
            assert store.release(conf, NETWORK, owner_of("a")) == ()
            assert store.held(conf, NETWORK, owner_of("a")) == ()
            assert store.retain(conf, NETWORK, ()) == ()
            with pytest.raises(StoreFailed):
                store.reserve(conf, NETWORK, owner_of("a"), ())
            with pytest.raises(StoreFailed):
                store.usage(conf, NETWORK)

    def test_a_network_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / NETWORK).write_text("")
        store, conf = FakeNode().store(), conf_of(tmp_path, "10.1.0.0/24")
        assert store.release(conf, NETWORK, owner_of("a")) == ()

    @pytest.mark.parametrize("name", ["lock", ".boot_id"])
    @pytest.mark.parametrize("kind", ["symlink", "folder"])
    def test_a_file_of_the_store_that_is_none(self, tmp_path: Path, name: str, kind: str) -> None:
        store, conf = FakeNode().store(), conf_of(tmp_path, "10.1.0.0/24")
        spoil(tmp_path / NETWORK, name, kind)
        assert store.release(conf, NETWORK, owner_of("a")) == ()
        assert store.held(conf, NETWORK, owner_of("a")) == ()

    @pytest.mark.parametrize("kind", ["symlink", "folder"])
    def test_a_lease_behind_a_broken_lock_is_never_called_released(
        self, tmp_path: Path, kind: str
    ) -> None:
        store, conf = FakeNode().store(), conf_of(tmp_path, "10.1.0.0/24")
        store.reserve(conf, NETWORK, owner_of("a"), ())
        spoil(tmp_path / NETWORK, "lock", kind)
        with pytest.raises(StoreFailed, match="lock"):
            store.release(conf, NETWORK, owner_of("a"))
        assert len(reservations(tmp_path)) == 1
        assert len(store.held(conf, NETWORK, owner_of("a"))) == 1
        assert store.release(conf, NETWORK, owner_of("b")) == ()

    @pytest.mark.parametrize("indexed", [True, False])
    def test_a_lease_in_a_folder_that_cannot_be_settled_is_released(
        self, tmp_path: Path, indexed: bool
    ) -> None:
        node = FakeNode()
        store, conf = node.store(), conf_of(tmp_path, "10.1.0.0/24")
        store.reserve(conf, NETWORK, owner_of("a"), ())
        spoil(tmp_path / NETWORK, ".boot_id", "folder")
        if not indexed:
            shutil.rmtree(tmp_path / NETWORK / ".owners")
        assert len(store.release(conf, NETWORK, owner_of("a"))) == 1
        assert reservations(tmp_path) == {}
        assert ".boot_id" in node.lines[0]

    def test_a_full_disk_where_no_lease_was_ever_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / NETWORK).mkdir()
        store, conf = FakeNode().store(), conf_of(tmp_path, "10.1.0.0/24")
        real = os.open

        def full(path: Any, flags: int, *rest: Any) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return real(path, flags, *rest)

        monkeypatch.setattr(os, "open", full)
        assert store.release(conf, NETWORK, owner_of("a")) == ()


def test_folders_that_cannot_be_made_are_a_failure_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkdir in /proc answers ENOENT for ever, although the parent is there."""

    def proc(path: str, _mode: int) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "mkdir", proc)
    for folder in (tmp_path, tmp_path / "a" / "b"):
        with pytest.raises(StoreFailed) as caught:
            FakeNode().store().reserve(conf_of(folder, "10.1.0.0/24"), NETWORK, owner_of("a"), ())
        assert (caught.value.code, "dataDir" in caught.value.details) == (5, True)


def test_missing_parents_are_made_however_many(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*"abcdefgh")
    store, conf = FakeNode().store(), conf_of(folder, "10.1.0.0/24")
    assert len(store.reserve(conf, NETWORK, owner_of("a"), ())) == 1
    assert (folder / NETWORK).stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700


def spoil(folder: Path, name: str, kind: str) -> None:
    """Put a symbolic link or a folder where a file of the store belongs."""
    folder.mkdir(exist_ok=True)
    (folder / name).unlink(missing_ok=True)
    if kind == "symlink":
        (folder / name).symlink_to("/nonexistent/elsewhere")
    else:
        (folder / name).mkdir()
