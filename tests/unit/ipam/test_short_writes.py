"""The kernel may take less than it is given, as of a disk that gets full: a log has all of what is
added to it or nothing."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipam.files import RELEASED, STICKY, Folder
from ipam.logs import parse_released, parse_sticky, released_line, sticky_lines
from ipam.memory import Memory
from ipam.released import ReleasedLog, Remembered
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of

FULL = os.strerror(errno.EFBIG)
FIRST = "".join(released_line(f"10.244.1.{n}", 1000.0) for n in range(10, 30))
MORE = released_line("10.244.1.200", 2000.0) + released_line("10.244.1.201", 2000.0)


@contextmanager
def room_for(path: Path, count: int) -> Iterator[None]:
    """No file grows larger than this one by so many bytes: a write that begins below is short, the
    next one fails. Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("room", [1, 12, 30, len(MORE) - 1])
def test_the_log_of_releases_has_all_or_nothing(tmp_path: Path, room: int, kept: bool) -> None:
    remembered = Remembered() if kept else None
    file, folder = tmp_path / RELEASED, Folder(str(tmp_path))
    file.write_text(FIRST)
    with (
        ReleasedLog(folder, remembered) as log,
        room_for(file, room),
        pytest.raises(OSError, match=FULL),
    ):
        log.add(MORE.encode(), ())
    assert file.read_text() == FIRST
    with ReleasedLog(folder, remembered) as log:
        log.add(MORE.encode(), ())
    with ReleasedLog(folder, remembered) as log:
        assert log.released == parse_released((FIRST + MORE).encode())


def test_what_is_added_after_half_a_line_is_whole(tmp_path: Path) -> None:
    """Of who was killed while writing it."""
    remembered, folder = Remembered(), Folder(str(tmp_path))
    (tmp_path / RELEASED).write_text(FIRST + "10.244.1.1")
    for memory in (remembered, None):
        with ReleasedLog(folder, memory) as log:
            log.add(MORE.encode(), ())
        with ReleasedLog(folder, memory) as log:
            assert log.released == parse_released((FIRST + MORE).encode())


def test_half_a_lines_pod_has_no_address(tmp_path: Path) -> None:
    file, folder = tmp_path / STICKY, Folder(str(tmp_path))
    before = sticky_lines("default/web-0", ["10.244.1.9"])
    file.write_bytes(before)
    new = sticky_lines("default/web-1", ["10.244.1.25"])
    with (
        room_for(file, len(new) - 1),
        pytest.raises(OSError, match=FULL),
    ):  # without its newline: ...1.2
        folder.append(STICKY, new)
    assert parse_sticky(file.read_bytes()) == parse_sticky(before)


def test_a_release_that_cannot_be_noted_whole_is_told(tmp_path: Path) -> None:
    node, conf, owner = FakeNode(), conf_of(tmp_path, "10.244.1.0/24"), owner_of("c1")
    store = node.store(memory=Memory())
    store.reserve(conf, NETWORK, owner, ())
    file = tmp_path / NETWORK / RELEASED
    file.write_text(FIRST)
    with room_for(file, 7):
        (freed,) = store.release(conf, NETWORK, owner)
    assert node.lines == [f"no cooldown for {freed}: {FULL}"]
    assert file.read_text() == FIRST
