"""What this node tells the others by annotations of its Node object: written when it differs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from cni_plugin.cluster.kube_api import Api, ApiFailure, Limits
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cluster.kube_node import annotations_patch
from cni_plugin.cluster.pace import delay_s
from cni_plugin.cluster.values import Node, Refused


class Announcer:
    """Brings the Node object to what is wanted, again when somebody changed it.

    retry_s: the first wait after a failure, at most. lost: told why a
    try failed; noted: told what was written."""

    def __init__(
        self,
        choice: Choice,
        limits: Limits,
        retry_s: float,
        lost: Callable[[str], None],
        noted: Callable[[str], None],
    ) -> None:
        self._choice = choice
        self._limits = limits
        self._retry_s = retry_s
        self._lost = lost
        self._noted = noted
        self._wanted: Node | None = None
        self._seen: Node | Refused | None = None
        self._wake = asyncio.Event()

    def want(self, me: Node) -> None:
        """This is what the object is to say from now on."""
        self._wanted = me
        self._wake.set()

    def saw(self, told: Node | Refused | None) -> None:
        """What the object says now. Whether that is what is wanted, the object itself is asked."""
        if told != self._seen:
            self._seen = told
            self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        attempt = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
                attempt = 0
            except ApiFailure as error:
                self._lost(str(error))
                attempt += 1
                self._wake.set()
                chance = random.random()  # noqa: S311  no secret
                wait_s = delay_s(attempt, chance, self._retry_s)
                await asyncio.sleep(max(wait_s, error.retry_after_s))

    async def _write(self) -> None:
        if self._wanted is None:
            return
        name = self._wanted.name
        async with Api(self._choice, self._limits) as api:
            patch = annotations_patch(self._wanted, await api.node(name))
            if patch:
                await api.annotate(name, patch)
                said = ", ".join(f"{key}={text}" for key, text in sorted(patch.items()))
                self._noted(f"announced on node {name}: {said}")
