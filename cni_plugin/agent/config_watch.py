"""Notices another config: a valid one ends the agent, so that it begins anew with it; one that is
wrong is told, counts against readiness, and changes nothing.

The file is read each LOOK_S rather than listened to: it is small, and in a ConfigMap a link that a
kubelet switches. It counts when two looks in a row find the same, so that one that is just being
written does not. What is wrong is judged again now and then: it may lie in a file that it names.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import Sink
from cni_plugin.cni.errors import CNIError

NAME = "config"  # of the readiness' reason
LOOK_S = 0.5
AGAIN = 10  # looks at a config that is wrong, to one judgement
BYTES_MAX = 1 << 20


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
        self._path = path
        self._used = used
        self._read = read
        self._refused = refused
        self._told = ""
        self._fault = refused.why if refused else ""
        self.new: AgentConfig | None = None  # once there is another, valid one

    async def run(self, sink: Sink, readiness: Readiness) -> None:
        """Until there is another, valid config, or it is cancelled."""
        # The first look is judged as well: the file may have changed since it was read for the
        # config in use.
        judged, seen = None, self._look()
        self._tell(sink, readiness)
        for look in count(1):
            await asyncio.sleep(LOOK_S)
            before, seen = seen, self._look()
            due = seen != judged or (self._told and look % AGAIN == 0)
            if seen != before or not due:
                continue
            judged = seen
            if await asyncio.to_thread(self._judge):
                sink.event("warning", "the config was changed: the agent begins anew with it", {})
                return
            self._tell(sink, readiness)

    def _look(self) -> bytes | str:
        """The file's content, or why it cannot be read."""
        try:
            # Opening a FIFO would wait for somebody who writes to it.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                return file.read(BYTES_MAX)
        except OSError as error:
            return str(error)

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
