"""The lock of an attachment, when a signal comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cni_plugin import disk
from cni_plugin.cni.errors import Interrupted
from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from ipam.lock import acquire

ATTACHMENT = Attachment("id", "eth0")


def _interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt at a lock makes its file and is ended by a signal."""

    def once(path: str, timeout_s: float) -> int:
        if timeout_s:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            raise Interrupted("signal 15")
        return acquire(path, timeout_s)

    monkeypatch.setattr(disk, "acquire", once)


def test_the_file_of_an_interrupted_lock_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch)
    with pytest.raises(Interrupted), DiskRecords(str(tmp_path)).lock("net", ATTACHMENT):
        pytest.fail("nobody holds the lock")
    assert list((tmp_path / "locks").iterdir()) == []


def test_the_file_that_another_call_holds_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = DiskRecords(str(tmp_path))
    with records.lock("net", ATTACHMENT):
        held = list((tmp_path / "locks").iterdir())
        _interrupt(monkeypatch)
        with pytest.raises(Interrupted), records.lock("net", ATTACHMENT):
            pytest.fail("another call holds the lock")
        assert list((tmp_path / "locks").iterdir()) == held
