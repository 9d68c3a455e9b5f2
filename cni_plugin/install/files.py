"""Writes what lasts: files, folders and links that are there whole after a power cut, or not at
all."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress

from cni_plugin.durable import sync_folder
from cni_plugin.install.look import temporary
from cni_plugin.install.release import Release, read_entry

FOLDER_MODE = 0o755  # whatever the umask: every user of the node may execute what is in it


def make_folder(path: str) -> None:
    """With its missing parents, lasting. One that is there keeps its mode. Raises OSError."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent)
    try:
        os.mkdir(path)
        os.chmod(path, FOLDER_MODE)
    except FileExistsError:
        if os.path.islink(path) and not os.path.isdir(path):
            raise NotADirectoryError(
                errno.ENOTDIR, "a link that leads to no folder", path
            ) from None
    sync_folder(parent)


def copy_release(release: Release, folder: str) -> None:
    """All files of a release into a folder that is not there yet. Raises OSError, CNIError."""
    os.mkdir(folder)
    os.chmod(folder, FOLDER_MODE)
    made = {folder}
    written = []
    for entry in release.entries:
        path = f"{folder}/{entry.path}"
        _make_folders(os.path.dirname(path), made)
        executable = os.stat(f"{release.path}/{entry.path}").st_mode & 0o111
        written.append(_write(path, read_entry(release, entry), 0o755 if executable else 0o644))
    # All at once when all are written: the first waits for the disk, and most others find it done.
    for path in [*written, *made]:
        _sync(path)


def put_link(target: str, path: str) -> None:
    """A symbolic link in place of whatever file or link was there. Raises OSError."""
    made = temporary(path)
    remove(made)
    os.symlink(target, made)
    os.rename(made, path)
    sync_folder(os.path.dirname(path))


def put_executable(data: bytes, path: str) -> None:
    """A regular file in place of whatever was there, which goes on for who executes it: a file that
    is renamed over is not written to, so there is no "text file busy". Raises OSError."""
    made = temporary(path)
    remove(made)
    try:
        _sync(_write(made, data, 0o755))
        os.rename(made, path)
    except OSError:
        with suppress(OSError):
            os.unlink(made)
        raise
    sync_folder(os.path.dirname(path))


def remove(path: str) -> None:
    """A file, link or whole folder; nothing there is fine. Raises OSError."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _make_folders(path: str, made: set[str]) -> None:
    if path in made:
        return
    _make_folders(os.path.dirname(path), made)
    os.mkdir(path)
    os.chmod(path, FOLDER_MODE)
    made.add(path)


def _write(path: str, data: bytes, mode: int) -> str:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
    return path


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
