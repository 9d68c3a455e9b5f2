"""Notices another config: a valid one ends the agent, so that it begins anew with it; one that is
wrong is told, counts against readiness, and changes nothing.

The files are read each LOOK_S rather than listened to: they are small, and a ConfigMap's are links
that a kubelet switches. One counts when two looks in a row find the same, so that a file that is
just being written does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import Sink
from cni_plugin.cni.errors import CNIError

NAME = "config"  # of the readiness' reason
LOOK_S = 0.5
BYTES_MAX = 1 << 20

Content = tuple[bytes | str, ...]  # of each file, or why it cannot be read


class Refused(NamedTuple):
    """A valid config with which no agent could begin."""

    config: AgentConfig
    why: str


class ConfigWatch:
    """path: of the config in use. read: the config as its file says now; raises CNIError and
    OSError. refused: what the file says and cannot be used."""

    def __init__(
        self,
        path: str,
        used: AgentConfig,
        read: Callable[[], AgentConfig],
        refused: Refused | None = None,
    ) -> None:
        self._paths = (path,)
        self._used = used
        self._read = read
        self._refused = refused
        self._told = ""
        self._fault = refused.why if refused else ""
        self.new: AgentConfig | None = None  # once there is another, valid one

    async def run(self, sink: Sink, readiness: Readiness) -> None:
        """Until there is another, valid config, or it is cancelled."""
        judged = seen = self._look()
        self._tell(sink, readiness)
        while True:
            await asyncio.sleep(LOOK_S)
            before, seen = seen, self._look()
            if seen != before or (seen == judged and not self._told):
                continue
            judged = seen
            if await asyncio.to_thread(self._judge):
                sink.event("warning", "the config was changed: the agent begins anew with it", {})
                return
            self._tell(sink, readiness)

    def _look(self) -> Content:
        return tuple(map(_content, self._paths))

    def _judge(self) -> bool:
        """Whether there is another, valid one."""
        try:
            found = self._read()
        except CNIError as error:
            self._fault = str(error)
        except OSError as error:
            self._fault = f"{error.filename}: {error.strerror}"
        else:
            refused = self._refused is not None and found == self._refused.config
            self._fault = self._refused.why if self._refused and refused else ""
            self.new = None if refused or found == self._used else found
        return self.new is not None

    def _tell(self, sink: Sink, readiness: Readiness) -> None:
        if self._fault == self._told:
            return
        self._told = self._fault
        if self._fault:
            kept = "what was before stays in force"
            sink.event("error", f"the config was changed and is wrong, {kept}: {self._fault}", {})
            readiness.set(NAME, f"changed and wrong, {kept}: {self._fault}")
        else:
            sink.event("info", "the config is as it was", {})
            readiness.clear(NAME)


def _content(path: str) -> bytes | str:
    try:
        with open(path, "rb") as file:
            return file.read(BYTES_MAX)
    except OSError as error:
        return str(error)
