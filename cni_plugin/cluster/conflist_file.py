"""The config list on disk: written when the node is ready for pods, and removed on request."""

from __future__ import annotations

import os

from cni_plugin.cluster.conflist import rivalry, rivals
from cni_plugin.durable import remove_durably, replace_durably
from cni_plugin.folder import ABSENT, make_private


class ConflistFile:
    """One file in the runtime's folder. Methods raise OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._folder, self._name = os.path.split(path)
        self._written: bytes | None = None

    def write(self, data: bytes) -> bool:
        """Puts it there, 0600, whole or not at all; False when it was so already. To be called
        last, after all that the list needs: from then on a runtime starts pods by it."""
        make_private(self._folder)
        changed = replace_durably(self._path, data)
        self._written = data
        return changed

    def rivalry(self) -> str:
        """What the folder's other config files mean, in a sentence; empty without any."""
        try:
            names = os.listdir(self._folder)
        except ABSENT:
            names = []
        return rivalry(self._folder, self._name, rivals(self._name, names))

    def withdraw(self) -> bool:
        """Takes it away again, so that the runtime starts no more pods by it; False when it is not
        there, or not as it was written: then it is somebody else's."""
        if self._written is None or not self._is_ours():
            return False
        return remove_durably(self._path)

    def _is_ours(self) -> bool:
        try:
            with open(self._path, "rb") as file:
                return file.read() == self._written
        except ABSENT:
            return False
