"""The runtime's config list, written last: from the first moment at which pods can be started.

The runtime starts pods by it as soon as it is there. So it is written when calls are served, this
node's ranges are known and a pass has brought about what the node needs; and again when one of them
is another. It is looked after as long as the agent runs: somebody may remove it, change it, or put
a list of their own before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import Sink
from cni_plugin.agent.totals import Totals
from cni_plugin.cluster.conflist import NodeValues, render, rivalry
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.conflist_file import ConflistFile
from cni_plugin.cluster.values import Node
from cni_plugin.cni.errors import CNIError
from ipam.values import IPNetwork

NAME = "conflist"  # of the readiness' reason
LOOK_S = 5.0  # between two looks at the file and its neighbours
PAUSES_S = (1.0, 2.0, 4.0)  # after the first, second, ... failure; then LOOK_S
REMOVE_LIMIT_S = 5.0  # at a stop; a disk that hangs must not hold it up


class _Look(NamedTuple):
    """One look. data: what the file holds; changed: only since now. fault: why the list is not as
    it should be; warning: what is wrong and harms nobody yet."""

    data: bytes = b""
    changed: bool = False
    rivals: tuple[str, ...] = ()
    fault: str = ""
    warning: str = ""


class ConflistKeeper:
    """Keeps one file. Files are touched in a thread of its own: a disk may take its time.

    kept: destinations whose senders keep their addresses, as the cluster's ranges are."""

    def __init__(
        self,
        conf: ConflistConfig,
        kept: tuple[IPNetwork, ...],
        sink: Sink,
        readiness: Readiness,
        totals: Totals,
    ) -> None:
        self._conf = conf
        self._kept = kept
        self._sink = sink
        self._readiness = readiness
        self._totals = totals
        self._file = ConflistFile(conf.path)
        self._template: Mapping[str, Any] = conf.read_template()
        self._wanted: NodeValues | None = None
        self._data: bytes | None = None  # what the file held at the last look
        self._woken = asyncio.Event()
        self._ended = False
        self._thread = ThreadPoolExecutor(1, NAME)
        self._told: dict[str, str] = {}
        totals.conflist = False
        readiness.set(NAME, f"{conf.path} is written when this node is ready for pods")

    def ready(self, node: Node, mtu: int | None) -> None:
        """Pods can be started, with addresses of the node's ranges; mtu in bytes, None: the plugin
        finds it."""
        values = NodeValues(node.pod_cidrs, mtu or 0, self._kept)
        if values != self._wanted:
            self._wanted = values
            self._woken.set()

    async def run(self) -> None:
        """Until it is cancelled or ended."""
        loop, failed = asyncio.get_running_loop(), 0
        await self._woken.wait()
        while not self._ended:
            self._woken.clear()
            wanted = self._wanted
            assert wanted is not None  # noqa: S101  who wakes has set it
            look = await loop.run_in_executor(self._thread, self._look, wanted)
            self._tell(wanted, look)
            failed = failed + 1 if look.fault else 0
            pause_s = PAUSES_S[failed - 1] if 0 < failed <= len(PAUSES_S) else LOOK_S
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                pass

    async def end(self, new: AgentConfig | None) -> None:
        """Nothing is written any more, and the list goes where it is to: the policy may be that no
        pods are started without an agent. new: the config of an agent that follows at once; it
        goes on with the list, unless it has one elsewhere."""
        self._ended = True
        if new is None:
            goes = self._conf.on_stop == "remove"
        else:
            next_ = new.cluster.conflist if new.cluster else None
            goes = next_ is not None and next_.path != self._conf.path
        if goes:
            await self._remove()

    async def _remove(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(REMOVE_LIMIT_S):
                removed = await loop.run_in_executor(self._thread, self._file.withdraw)
        except (OSError, TimeoutError) as error:
            self._sink.event("error", f"{self._conf.path} cannot be removed: {error}", {})
            return
        if removed:
            self._sink.event("info", "conflist: removed", {"path": self._conf.path})

    def close(self) -> None:
        """Nothing more is written."""
        self._thread.shutdown(wait=False)

    def _look(self, values: NodeValues) -> _Look:
        """In the thread."""
        warning = ""
        try:
            self._template = self._conf.read_template()
        except (CNIError, OSError) as error:
            warning = f"the template is no good, the one before is used: {error}"
        try:
            data = render(self._template, values)
            return _Look(data, self._file.write(data), self._file.rivals(), warning=warning)
        except Exception as error:  # noqa: BLE001  the next look may do better
            why = error.strerror if isinstance(error, OSError) else error
            return _Look(fault=f"{self._conf.path} cannot be written: {why}", warning=warning)

    # what is told

    def _tell(self, values: NodeValues, look: _Look) -> None:
        self._once("template", "warning", look.warning)
        self._once("fault", "error", look.fault)
        self._totals.conflist = not look.fault
        if look.fault:
            self._readiness.set(NAME, look.fault)
            return
        self._tell_written(values, look)
        self._tell_rivals(look.rivals)

    def _tell_written(self, values: NodeValues, look: _Look) -> None:
        fields = {"path": self._conf.path, "ranges": ",".join(map(str, values.ranges)),
                  "mtu": values.mtu}  # fmt: skip
        if look.data != self._data:
            line = "written" if look.changed else "it is as it should be"
            self._sink.event("info", f"conflist: {line}", fields)
        elif look.changed:
            line = "conflist: somebody removed or changed it: written again"
            self._sink.event("warning", line, fields)
        self._data = look.data

    def _tell_rivals(self, rivals: tuple[str, ...]) -> None:
        own = self._file.name
        before = sum(name < own for name in rivals)
        self._totals.rivals = Counter(before=before, after=len(rivals) - before)
        line = rivalry(self._file.folder, own, rivals)
        self._once("rivals", "warning", line)
        if before:  # pods get another network
            self._readiness.set(NAME, line)
        else:
            self._readiness.clear(NAME)

    def _once(self, what: str, level: str, line: str) -> None:
        """When it is another than the last time."""
        if line and line != self._told.get(what):
            self._sink.event(level, f"conflist: {line}", {})
        self._told[what] = line
