"""The config list on disk: written when the node is ready for pods, and removed on request."""

from __future__ import annotations

import os

from cni_plugin.cluster.conflist import read_template, rivals
from cni_plugin.cni.decode import MAX_BYTES
from cni_plugin.durable import remove_durably, replace_durably
from cni_plugin.folder import ABSENT, make_private
from ipam.lean_typing import Any


def load_template(path: str) -> dict[str, Any]:
    """The template in a file, tried. Raises OSError, DecodeFailure, InvalidNetworkConfig and
    UnsupportedField."""
    # Opening a FIFO would wait for somebody who writes to it. A link is fine: ConfigMaps are.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return read_template(file.read(MAX_BYTES + 1), path)


class ConflistFile:
    """One file in the runtime's folder. Methods raise OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.folder, self.name = os.path.split(path)
        self._written: bytes | None = None

    def write(self, data: bytes) -> bool:
        """Puts it there, 0600, whole or not at all; False when it was so already. To be called
        last, after all that the list needs: from then on a runtime starts pods by it."""
        make_private(self.folder)
        changed = replace_durably(self.path, data)
        self._written = data
        return changed

    def rivals(self) -> tuple[str, ...]:
        """The folder's other config files, the one that a runtime prefers first."""
        try:
            with os.scandir(self.folder) as found:
                names = [one.name for one in found if not one.is_dir(follow_symlinks=False)]
        except ABSENT:
            names = []
        return rivals(self.name, names)

    def withdraw(self) -> bool:
        """Takes it away again, so that the runtime starts no more pods by it; False when it is not
        there, or not as it was written: then it is somebody else's."""
        if self._written is None or not self._is_ours():
            return False
        return remove_durably(self.path)

    def _is_ours(self) -> bool:
        try:
            with open(self.path, "rb") as file:
                return file.read() == self._written
        except ABSENT:
            return False
