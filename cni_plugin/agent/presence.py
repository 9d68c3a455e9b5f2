"""Where launchers and other agents find this one: the node's lock and the socket's file.

Somebody may take either away (`rm -r /run/podwire`). Both are made again; but once another agent
has the lock, the node is its own, and this one has to end: two would undo each other's work.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from cni_plugin.agent.place import NodeTaken, listen, lock, verify_folder

LOCK = "agent.lock"


class NodeLock:
    """One agent looks after the node, wherever its socket is."""

    def __init__(self, folder: str) -> None:
        """Takes it. Raises NodeTaken when another agent has it; CNIError (the folder), OSError."""
        verify_folder(folder)
        self._folder, self._path = folder, f"{folder}/{LOCK}"
        self._held = lock(self._path)
        self.lost = False

    def renew(self) -> bool:
        """Takes it anew when its file is gone; False when nothing was to be done. Raises as at the
        start."""
        if _identity(self._path) == _of(os.fstat(self._held)):
            return False
        verify_folder(self._folder)
        try:
            taken = lock(self._path)
        except NodeTaken:
            self.lost = True
            raise
        os.close(self._held)
        self._held = taken
        return True

    def close(self) -> None:
        """Takes the file away while it is held: who waits for it sees that, and asks anew. Another
        agent's file stays."""
        if _identity(self._path) == _of(os.fstat(self._held)):
            with suppress(OSError):
                os.unlink(self._path)
        os.close(self._held)


class SocketFile:
    """The file at which launchers connect."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._made: tuple[int, int] | None = None

    def make(self) -> socket.socket:
        """Listening. Raises CNIError when the place cannot be had."""
        verify_folder(os.path.dirname(self.path))
        listener = listen(self.path)
        self._made = _identity(self.path)
        return listener

    def is_there(self) -> bool:
        return _identity(self.path) == self._made

    def remove(self) -> None:
        """Another agent's file stays."""
        if self.is_there():
            with suppress(FileNotFoundError):
                os.unlink(self.path)


def look(node: NodeLock, file: SocketFile) -> tuple[list[str], socket.socket | None]:
    """What was gone and is made again, and the new socket, if that is among it. Raises NodeTaken,
    after which this agent has to end, CNIError, OSError."""
    gone = ["the node's lock"] if node.renew() else []
    if file.is_there():
        return gone, None
    return [*gone, "the socket"], file.make()


def _identity(path: str) -> tuple[int, int] | None:
    """What tells one file from another; None where there is none."""
    try:
        return _of(os.lstat(path))
    except OSError:
        return None


def _of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
