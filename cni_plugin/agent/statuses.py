"""Answers to STATUS, from memory: containerd asks every 5 s for each network.

An answer counts until a call has changed its network, or for a while: a direct run or another
program may have given addresses meanwhile.
"""

from __future__ import annotations

import time
from hashlib import blake2b
from typing import NamedTuple

from cni_plugin.agent.calls import Call
from cni_plugin.cni.values import Reply

KEPT_S = 15.0  # three of containerd's rounds
KEPT_MAX = 64  # configs
CHANGING = ("ADD", "DEL", "GC")


class _Remembered(NamedTuple):
    reply: Reply
    network: str
    until_s: float


class Statuses:
    """Replies by the config that was asked about."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Remembered] = {}

    def get(self, call: Call) -> Reply | None:
        """The answer, when it is known and counts still."""
        if call.verb != "STATUS":
            return None
        known = self._known.get(_key(call))
        return known.reply if known and time.monotonic() < known.until_s else None

    def learn(self, call: Call, reply: Reply | None) -> None:
        """A call has ended: what it answered, or what it may have changed."""
        if call.verb == "STATUS" and reply is not None:
            while len(self._known) >= KEPT_MAX:
                del self._known[next(iter(self._known))]
            self._known[_key(call)] = _Remembered(reply, call.network, time.monotonic() + KEPT_S)
        elif call.verb in CHANGING:
            self.forget(call.network)

    def forget(self, network: str) -> None:
        """The network has changed. "": which one is not known."""
        for key, known in list(self._known.items()):
            if network in ("", known.network):
                del self._known[key]


def _key(call: Call) -> bytes:
    """A digest: a config may have a megabyte."""
    return blake2b(call.stdin).digest()
