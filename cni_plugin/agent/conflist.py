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
    it should be; wrong: what is with the template, while the one before serves."""

    data: bytes = b""
    changed: bool = False
    rivals: tuple[str, ...] = ()
    fault: str = ""
    wrong: str = ""


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
        self._template: Mapping[str, Any] | None = None  # the last one that did
        self._told: dict[str, str] = {}
        self._wanted: NodeValues | None = None
        self._data: bytes | None = None  # what the file held at the last look
        self._woken = asyncio.Event()
        self._ended = False
        self._thread = ThreadPoolExecutor(1, NAME)
        totals.conflist = totals.template = False
        readiness.set(NAME, f"{conf.path} is written when this node is ready for pods")
        try:  # now, and not only when the node is ready
            conf.read_template()
            totals.template = True
        except Exception as error:  # noqa: BLE001  a template is anybody's
            fault = self._without(_wrong(error))
            self._once("fault", "error", fault)
            readiness.set(NAME, fault)

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
            try:
                look = await loop.run_in_executor(self._thread, self._look, wanted)
            except Exception as error:  # noqa: BLE001  the next look may do better
                look = _Look(fault=f"{self._conf.path} cannot be kept: {_said(error)}")
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
        data, wrong = self._rendered(values)
        if wrong and self._template is None:
            return _Look(fault=self._without(wrong))
        try:
            return _Look(data, self._file.write(data), self._file.rivals(), wrong=wrong)
        except OSError as error:
            why = error.strerror
            return _Look(fault=f"{self._conf.path} cannot be written: {why}", wrong=wrong)

    def _without(self, wrong: str) -> str:
        return f"{wrong}; there was none before it, {self._conf.path} is left as it is"

    def _rendered(self, values: NodeValues) -> tuple[bytes, str]:
        """The list, and what is wrong with the template as it is now: then it is made of the one
        before, if there is any."""
        try:
            template = self._conf.read_template()
            data = render(template, values)
        except Exception as error:  # noqa: BLE001  a template is anybody's
            wrong = _wrong(error)
            return b"" if self._template is None else render(self._template, values), wrong
        self._template = template
        return data, ""

    # what is told

    def _tell(self, values: NodeValues, look: _Look) -> None:
        wrong = look.wrong and f"{look.wrong}; the one before is used"
        self._once("template", "warning", wrong)
        self._once("fault", "error", look.fault)
        self._readiness.note(NAME, wrong)
        self._totals.conflist = not look.fault
        self._totals.template = self._template is not None and not wrong
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


def _wrong(error: Exception) -> str:
    return f"the template is no good: {_said(error)}"


def _said(error: Exception) -> str:
    """What is known by its class says enough itself."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error) if isinstance(error, CNIError) else f"{type(error).__name__}: {error}"
