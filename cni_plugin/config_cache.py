"""Where validated configs are kept, so that a cold run need not load pydantic."""

from __future__ import annotations

from cni_plugin.folder import STATE_DIR, Folder, make_private

CACHE_MAX_FILES = 64  # a node has a handful of configs; runtimeConfig could make endless ones


class ConfigCache:
    """Validated configs, so that a cold run need not load pydantic. Only a cache: whatever is
    wrong with it, the config is validated again. A folder that others may write to is not used."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self._folder = Folder(f"{state_dir}/configs", writers=2)

    def read(self, name: str) -> bytes | None:
        try:
            return self._folder.read(name) if self._folder.is_ours() else None
        except OSError:
            return None

    def write(self, name: str, data: bytes) -> None:
        try:
            make_private(self._folder.path)
            if not self._folder.is_ours():
                return
            for old in self._folder.names()[CACHE_MAX_FILES - 1 :]:
                self._folder.remove(old)
            self._folder.write(name, data)
        except OSError:
            return
