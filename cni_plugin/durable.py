"""A file written so that a power cut leaves the old content or the new, never half of one."""

from __future__ import annotations

import os
from contextlib import suppress


def replace_durably(path: str, data: bytes) -> bool:
    """Writes a file of mode 0600; False, and nothing is written, when it is so already. Raises
    OSError; then the file is as it was.

    Beside its name, synced, renamed, and the folder synced: without the last the name may be lost
    though the content is not. With one writer a path, what a killed one left is taken over."""
    if _is_so(path, data):
        return False
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.tmp"
    try:
        _write(temporary, data)
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(folder)
    return True


def remove_durably(path: str) -> bool:
    """Removes a file; False when there was none. Raises OSError."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    sync_folder(os.path.dirname(path))
    return True


def sync_folder(path: str) -> None:
    """Makes the folder's names last. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_so(path: str, data: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        try:
            return os.fstat(descriptor).st_mode == 0o100600 and file.read(len(data) + 1) == data
        except OSError:
            return False


def _write(path: str, data: bytes) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)  # a killed writer's, or a link that somebody laid there
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(
            file.fileno()
        )  # never repeated: after EIO a second one says success, and all is lost
