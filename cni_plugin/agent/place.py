"""The agent's socket and its lock: one agent a node, where only root can reach it."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from cni_plugin.cni.errors import CNIError, IoFailure
from cni_plugin.folder import make_private
from ipam.errors import LockTimeout
from ipam.lock import acquire

BACKLOG = 1024  # calls that may wait to be accepted; net.core.somaxconn may lower it


def verify_folder(path: str) -> None:
    """Makes the folder when it is missing. Raises CNIError unless it is a folder of ours (no
    symbolic link) that nobody else can use: what is in it is trusted. An empty one that others can
    only read is closed to them: a kubelet makes it so for the agent's container
    (DirectoryOrCreate), which cannot make its own mount point."""
    make_private(path)
    found = os.lstat(path)
    if _is_only_too_open(path, found):
        os.chmod(path, 0o700)
        found = os.lstat(path)
    fault = ""
    if not stat.S_ISDIR(found.st_mode):
        fault = "it is no folder"
    elif found.st_uid != os.geteuid():
        fault = f"it belongs to user {found.st_uid}"
    elif found.st_mode & 0o077:
        fault = f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})"
    if fault:
        raise CNIError(
            f"{path} cannot hold the agent's socket: {fault}",
            f"make it a folder of user {os.geteuid()} with mode 0700",
        )


class NodeTaken(CNIError):
    """Another agent looks after the node."""


def _is_only_too_open(path: str, found: os.stat_result) -> bool:
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return (
        bool(ours and found.st_mode & 0o055) and not found.st_mode & 0o022 and not os.listdir(path)
    )


def lock(path: str) -> int:
    """A descriptor that holds the lock. Raises NodeTaken when another agent has it, OSError."""
    try:
        return acquire(path, 0)
    except LockTimeout as error:
        raise NodeTaken("another agent of podwire serves this node", error.details) from error


def listen(path: str, what: str = "calls") -> socket.socket:
    """A listening socket at path, 0600. Only for who knows that a socket that lies there is stale;
    anything else that lies there is kept. what: is served there. Raises IoFailure."""
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise IoFailure(
                f"{what} cannot be served at {path}: something else than a socket is there",
                "remove it, or name another place in the agent's config",
            )
        os.unlink(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        made.bind(path)
    except OSError as error:
        made.close()
        raise IoFailure(f"the agent's socket {path} cannot be made: {error.strerror}") from error
    finally:
        os.umask(before)
    made.listen(BACKLOG)
    return made
