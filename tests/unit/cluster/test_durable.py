"""Files that are replaced whole."""

from __future__ import annotations

import os
import stat

import pytest

from cni_plugin.durable import remove_durably, replace_durably


def test_it_is_written_0600_and_only_when_it_differs(tmp_path):
    path = tmp_path / "f"
    assert replace_durably(str(path), b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.stat()
    assert not replace_durably(str(path), b"one")
    assert path.stat() == before
    path.chmod(0o644)  # another mode is another file
    assert replace_durably(str(path), b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert replace_durably(str(path), b"one more")
    assert os.listdir(tmp_path) == ["f"]


def test_what_a_killed_writer_left_is_taken_over_and_no_link_is_followed(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / ".f.tmp").symlink_to(other)
    (tmp_path / "f").symlink_to(other)
    assert replace_durably(str(tmp_path / "f"), b"new")
    assert (tmp_path / "f").read_bytes() == b"new"
    assert not (tmp_path / "f").is_symlink()
    assert other.read_bytes() == b"precious"


def test_a_failure_leaves_the_old_one(tmp_path):
    (tmp_path / "f").mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_durably(str(tmp_path / "f"), b"new")
    assert os.listdir(tmp_path) == ["f"]


def test_removing_twice_is_fine(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x")
    assert remove_durably(str(path))
    assert not remove_durably(str(path))
