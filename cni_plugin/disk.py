"""The attachments' records in files: gone after a reboot, as the kernel's objects are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress

from cni_plugin import record
from cni_plugin.cni.errors import Interrupted, IoFailure
from cni_plugin.cni.values import Attachment
from cni_plugin.folder import STATE_DIR, Folder, make_private
from cni_plugin.model.names import digest
from cni_plugin.record import Record
from ipam.errors import LockTimeout
from ipam.lock import acquire

LOCK_TIMEOUT_S = 30.0  # a CRI call has 120 s in all
NAME_MAX_BYTES = 255  # linux/limits.h


class DiskRecords:
    """Records below STATE_DIR/attachments/NETWORK/."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self._root = f"{state_dir}/attachments"
        self._locks = f"{state_dir}/locks"

    def lock(self, network: str, attachment: Attachment) -> AbstractContextManager[None]:
        """A file below STATE_DIR/locks, gone again afterwards. Where there can be none (read-only
        /run) the call goes on without: DEL must work there, and ADD fails at its record."""
        return self._lock(network, attachment, LOCK_TIMEOUT_S)

    @contextmanager
    def try_lock(self, network: str, attachment: Attachment) -> Iterator[bool]:
        """As `lock`, without waiting: who holds a store's lock already must not wait for an ADD
        that holds this one and waits for the store's."""
        with ExitStack() as held:
            try:
                held.enter_context(self._lock(network, attachment, 0.0))
                free = True
            except LockTimeout:
                free = False
            yield free

    @contextmanager
    def _lock(self, network: str, attachment: Attachment, timeout_s: float) -> Iterator[None]:
        path = f"{self._locks}/{digest(network, *attachment)}"
        try:
            descriptor = self._acquire(path, timeout_s)
        except OSError:
            yield
            return
        except Interrupted:  # perhaps with the file just made: it goes, unless a call holds it
            with suppress(OSError, LockTimeout):
                descriptor = acquire(path, 0)
                os.unlink(path)
                os.close(descriptor)
            raise
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(path)  # while it is held: who waits sees that it is gone and asks anew
            os.close(descriptor)

    def _acquire(self, path: str, timeout_s: float) -> int:
        try:
            return acquire(path, timeout_s)
        except FileNotFoundError:
            make_private(self._locks)
            return acquire(path, timeout_s)

    def lock_now(self, network: str, attachment: Attachment) -> Callable[[], None] | None:
        """As `lock`, for who gives it back by calling what is answered. None: it is not free at
        once, or there can be none."""
        path = f"{self._locks}/{digest(network, *attachment)}"
        try:
            descriptor = self._acquire(path, 0.0)
        except (OSError, LockTimeout):
            return None

        def release() -> None:
            with suppress(OSError):
                os.unlink(path)
            os.close(descriptor)

        return release

    def has(self, network: str, attachment: Attachment) -> bool:
        """Whether there is a record, whole or not."""
        return os.access(f"{self._root}/{network}/{_file_name(attachment)}", os.F_OK)

    def held_locks(self) -> tuple[str, ...]:
        """Names of the lock files that a call holds now. Raises OSError."""
        return tuple(name for name in Folder(self._locks).names() if self._is_held(name))

    def _is_held(self, name: str) -> bool:
        try:
            os.close(acquire(f"{self._locks}/{name}", 0.0))
        except LockTimeout:
            return True
        return False

    def drop_stale_locks(self) -> None:
        """Lock files of calls that were killed: nobody may ever ask for them again."""
        for name in Folder(self._locks).names():
            with suppress(OSError, LockTimeout):
                descriptor = acquire(f"{self._locks}/{name}", 0.0)
                os.unlink(f"{self._locks}/{name}")
                os.close(descriptor)

    def load(self, network: str, attachment: Attachment) -> Record | None:
        return self.load_file(network, _file_name(attachment))

    def load_file(self, network: str, name: str) -> Record | None:
        """As `load`, by the file's name."""
        folder = self._folder(network)
        try:
            data = folder.read(name)
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be read in {folder.path}: {error.strerror}"
            ) from error
        return record.load(data) if data is not None else None

    def save(self, entry: Record) -> None:
        self.write(entry.network, entry.attachment, record.dump(entry))

    def write(self, network: str, attachment: Attachment, data: bytes) -> None:
        """As `save`, of what `record.dump` would make."""
        folder = self._folder(network)
        try:
            folder.write(_file_name(attachment), data)
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be written in {folder.path}: {error.strerror}",
                "podwire keeps its records on a tmpfs below /run: is it mounted, writable, full?",
            ) from error

    def remove(self, network: str, attachment: Attachment) -> None:
        folder = self._folder(network)
        try:
            folder.remove(_file_name(attachment))
        except OSError as error:
            raise IoFailure(
                f"the attachment's record cannot be removed from {folder.path}: {error.strerror}"
            ) from error

    def of_network(self, network: str) -> tuple[Record, ...]:
        folder = self._folder(network)
        found = (folder.read(name) for name in folder.names())
        loaded = (record.load(data) for data in found if data is not None)
        return tuple(entry for entry in loaded if entry is not None)

    def networks(self) -> tuple[str, ...]:
        return Folder(self._root).names()

    def files(self) -> Iterator[tuple[str, str]]:
        """Network and file name of every record. Raises OSError."""
        for network in self.networks():
            for name in self._folder(network).names():
                yield network, name

    def contents(self) -> Iterator[tuple[tuple[str, str], bytes]]:
        """Every record's file as it is, by network and file name, for who has parsed most of them
        before. Raises OSError."""
        for network, name in self.files():
            data = self._folder(network).read(name)
            if data is not None:
                yield (network, name), data

    def _folder(self, network: str) -> Folder:
        return Folder(f"{self._root}/{network}")


def _file_name(attachment: Attachment) -> str:
    """CONTAINERID:IFNAME; a colon is in neither. A long id keeps its beginning for the reader."""
    name = f"{attachment.container_id}:{attachment.ifname}"
    if len(name.encode()) <= NAME_MAX_BYTES:
        return name
    return f"{attachment.container_id[:200]}~{digest(*attachment)}"
