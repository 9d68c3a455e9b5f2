"""The source `kubernetes`: the Node objects of the Kubernetes API, listed and then watched.

One life: list, watch from the list's version, take the watch up again where it ended; a new list
only when the API no longer knows that version, and now and then. What was known last is on disk,
for a start while the API is away.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from cni_plugin.cluster.known import Unusable, read_known, write_known
from cni_plugin.cluster.kube_announce import Announcer
from cni_plugin.cluster.kube_api import PAGE, Api, ApiFailure, Expired, Limits
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cluster.kube_view import View
from cni_plugin.cluster.pace import BASE_S, Gathered, delay_s
from cni_plugin.cluster.values import Cluster, Node, Refused


class Listener(Protocol):
    """Whoever wants to know, for log, metrics and readiness. Called from the source's loop; must
    neither raise nor wait."""

    def synced(self, nodes: int) -> None:
        """The API is heard: first, or again. nodes: how many are known."""

    def lost(self, why: str) -> None:
        """The API is not heard; what is known stays in force. why: a sentence with the remedy. Once
        a reason, until it is heard again."""

    def relisted(self, why: str) -> None:
        """All nodes are listed anew."""

    def refused(self, refused: Refused) -> None:
        """A node cannot be used: once each time that another thing is wrong with it."""

    def noted(self, line: str) -> None:
        """Anything else worth a line."""


# Nodes in a page of a list. The next ones where going through it takes longer than the API keeps
# its version (5 minutes): fewer requests take less time, and more memory. 0: all at once.
PAGES = (PAGE, 5 * PAGE, 25 * PAGE, 0)


class Timing(NamedTuple):
    """Seconds. gather_s: changes told together. patience_s: how long a start waits for the API
    before it goes by what was last known. steady_s: a watch that has lasted as long has succeeded.
    relist_s: how old a list may get, for events that never came. save_s: between two writings of
    what is known. retry_s: the first wait after a failure, at most."""

    gather_s: float = 0.1
    patience_s: float = 1.0
    steady_s: float = 10.0
    relist_s: float = 1800.0
    save_s: float = 10.0
    retry_s: float = BASE_S
    limits: Limits = Limits()


USUAL = Timing()


class KubernetesSource:
    """Tells of the cluster's nodes as they change. To be made, run and used in one event loop; a
    page of a list keeps it busy for some 20 ms.

    node: this node's name in the cluster. state: the file for what was last known."""

    def __init__(
        self, node: str, choice: Choice, state: str, listener: Listener, timing: Timing = USUAL
    ) -> None:
        self._node = node
        self._choice = choice
        self._state = state
        self._listener = listener
        self._timing = timing
        self._view = View()
        self._announcer = Announcer(
            choice, timing.limits, timing.retry_s, self._not_announced, listener.noted
        )
        self._changed: Callable[[Cluster], None] = lambda _cluster: None
        self._told: Cluster | None = None
        self._unsaved = asyncio.Event()
        self._heard = False
        self._why = ""  # the reason last told against being heard
        self._why_not_announced = ""
        self._listening_s: float | None = None  # since when the watch that runs is heard
        self._list_due_s = 0.0
        self._page = 0  # which of PAGES

    async def announce(self, me: Node) -> None:
        """Has this node's object say what `me` does (backend, VTEP MACs, addresses that are not its
        InternalIPs): as soon as the API is there, and for as long as `run` runs."""
        self._announcer.want(me)

    async def run(self, changed: Callable[[Cluster], None]) -> None:
        """Until it is cancelled. changed: given each Cluster that differs from the one before, at
        most one each gather_s seconds; it must neither raise nor wait."""
        self._changed = changed
        loop = asyncio.get_running_loop()
        gathered = Gathered(self._tell, self._timing.gather_s)
        impatient = loop.call_later(self._timing.patience_s, self._go_by_last_known)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._follow(gathered))
                tasks.create_task(self._announcer.run())
                tasks.create_task(self._keep())
        finally:
            impatient.cancel()
            gathered.close()

    # --- the API

    async def _follow(self, gathered: Gathered) -> None:
        attempt = 0
        while True:
            self._listening_s, wait_s = None, 0.0
            try:
                async with Api(self._choice, self._timing.limits) as api:
                    await self._list_if_due(api, gathered)
                    await self._watch(api, gathered)
            except Expired as error:
                self._expired(error)
            except ApiFailure as error:
                wait_s = error.retry_after_s
                # A watch that breaks is taken up again; only where that fails the API is lost.
                if self._listening_s is None:
                    self._lost(str(error))
            attempt = 0 if self._was_steady() else attempt + 1
            chance = random.random()  # noqa: S311  no secret
            await asyncio.sleep(max(wait_s, delay_s(attempt, chance, self._timing.retry_s)))

    async def _list_if_due(self, api: Api, gathered: Gathered) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._view.version and now_s < self._list_due_s:
            return
        if self._view.version:
            self._listener.relisted(f"a look at all nodes, each {self._timing.relist_s:g} s")
        listing = self._view.listing()
        try:
            version = await api.nodes(listing.take, PAGES[self._page])
        except Expired:
            self._page = min(self._page + 1, len(PAGES) - 1)
            raise
        except ApiFailure:  # a page that is too large among them
            self._page = 0
            raise
        self._page = 0
        self._view.replace(listing, version)
        self._list_due_s = now_s + self._timing.relist_s * random.uniform(0.8, 1.2)  # noqa: S311
        gathered.wake()

    async def _watch(self, api: Api, gathered: Gathered) -> None:
        async for event in api.watch(self._view.version, self._listening):
            if self._view.apply(event.kind, event.item):
                gathered.wake()

    def _listening(self) -> None:
        self._listening_s = asyncio.get_running_loop().time()
        if not self._heard:
            self._heard, self._why = True, ""
            self._listener.synced(len(self._view))

    def _was_steady(self) -> bool:
        since_s = self._listening_s
        now_s = asyncio.get_running_loop().time()
        return since_s is not None and now_s - since_s >= self._timing.steady_s

    def _expired(self, error: Expired) -> None:
        self._view.version = ""
        self._listener.relisted(str(error))

    def _lost(self, why: str) -> None:
        if why != self._why:
            self._heard, self._why = False, why
            self._listener.lost(why)
        self._go_by_last_known()

    def _not_announced(self, why: str) -> None:
        if why != self._why_not_announced:
            self._why_not_announced = why
            self._listener.noted(f"this node cannot be announced: {why}")

    # --- those who listen

    def _tell(self) -> None:
        cluster = self._view.cluster()
        self._announcer.saw(self._view.told(self._node))
        if cluster == self._told:
            return
        before = self._told.refused if self._told else ()
        for refused in cluster.refused:
            if refused not in before:
                self._listener.refused(refused)
        self._told = cluster
        self._unsaved.set()
        self._changed(cluster)

    # --- what was last known

    def _go_by_last_known(self) -> None:
        if self._told is not None or self._view.version:
            return
        try:
            known = read_known(self._state)
        except (OSError, Unusable) as error:
            self._listener.noted(f"the last known nodes in {self._state} are not used: {error}")
            known = None
        self._told = known or Cluster(synced=False)
        if known is not None:
            count = len(known.nodes)
            self._listener.noted(f"going by the {count} nodes last known, from {self._state}")
            self._changed(known)

    async def _keep(self) -> None:
        """Writes what was told, when it has changed, and once more at the end."""
        try:
            while True:
                await self._unsaved.wait()
                self._save()
                await asyncio.sleep(self._timing.save_s)
        finally:
            if self._unsaved.is_set():
                self._save()

    def _save(self) -> None:
        self._unsaved.clear()
        if self._told is None:
            return
        try:
            write_known(self._state, self._told)
        except OSError as error:
            self._listener.noted(f"the nodes cannot be kept in {self._state}: {error.strerror}")
