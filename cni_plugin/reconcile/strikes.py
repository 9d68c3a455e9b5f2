"""The strikes between two passes: /run/podwire/strikes.json, gone after a reboot.

{"version": 1, "strikes": [{"seen_dead_at_s": 812.5, "key": [dataDir, network, container id,
ifname, reserved at (ns), netns path, netns inode]}]}, times on the boot clock. Whatever is wrong
with it, it counts as empty: then the dead wait another minute.
"""

from __future__ import annotations

import json

from cni_plugin.folder import STATE_DIR, Folder
from cni_plugin.reconcile.decide import Incarnation, Strikes

NAME = "strikes.json"
VERSION = 1


def dump(strikes: Strikes) -> bytes:
    """One JSON document."""
    listed = [{"seen_dead_at_s": at_s, "key": list(key)} for key, at_s in strikes.items()]
    return json.dumps({"version": VERSION, "strikes": listed}).encode() + b"\n"


def load(data: bytes | None) -> Strikes:
    """Empty for anything that is no whole document of this version."""
    try:
        document = json.loads(data or b"")
        if document["version"] != VERSION:
            return {}
        entries = [(_key(one["key"]), float(one["seen_dead_at_s"])) for one in document["strikes"]]
    except (ValueError, TypeError, KeyError):
        return {}
    return dict(entries)


def _key(parts: list[object]) -> Incarnation:
    if any(isinstance(part, (list, dict)) for part in parts):
        raise TypeError("not a key")
    return tuple(parts)


class StrikeFile:
    """Reads and writes it. Raises OSError on writing."""

    def __init__(self, state_dir: str = STATE_DIR) -> None:
        self._folder = Folder(state_dir, writers=2)  # the agent and a person

    def read(self) -> Strikes:
        try:
            return load(self._folder.read(NAME)) if self._folder.is_ours() else {}
        except OSError:
            return {}

    def write(self, strikes: Strikes) -> None:
        if strikes or NAME in self._folder.names():
            self._folder.write(NAME, dump(strikes))
