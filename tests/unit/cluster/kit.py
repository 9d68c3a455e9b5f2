"""A source under test: what it told, and waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cni_plugin.cluster.kube_api import Limits
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cluster.kubernetes import KubernetesSource, Timing
from cni_plugin.cluster.values import Cluster, Node, Refused
from tests.support.kube_api import KubeApi, KubeProcess

LIMIT_S = 10.0
QUICK = Timing(
    gather_s=0.02,
    patience_s=0.3,
    steady_s=0.05,
    relist_s=1000,
    save_s=0.02,
    retry_s=0.05,
    limits=Limits(connect_s=5.0, answer_s=5.0, idle_s=0.5, watch_s=300),
)


async def until(condition: Callable[[], object], what: str) -> None:
    """Returns when the condition holds."""
    try:
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"after {LIMIT_S:g} s still not: {what}") from None


class Heard:
    """All that a source told."""

    def __init__(self) -> None:
        self.clusters: list[Cluster] = []
        self.times_s: list[float] = []
        self.syncs: list[int] = []
        self.losses: list[str] = []
        self.relists: list[str] = []
        self.refusals: list[Refused] = []
        self.notes: list[str] = []
        self.source: KubernetesSource

    def changed(self, cluster: Cluster) -> None:
        self.clusters.append(cluster)
        self.times_s.append(asyncio.get_running_loop().time())

    def synced(self, nodes: int) -> None:
        self.syncs.append(nodes)

    def lost(self, why: str) -> None:
        self.losses.append(why)

    def relisted(self, why: str) -> None:
        self.relists.append(why)

    def refused(self, refused: Refused) -> None:
        self.refusals.append(refused)

    def noted(self, line: str) -> None:
        self.notes.append(line)

    def has(self, *nodes: Node, synced: bool = True) -> Callable[[], bool]:
        """Whether the latest cluster is exactly this."""
        wanted = tuple(sorted(nodes))
        return lambda: (
            bool(self.clusters)
            and (self.clusters[-1].nodes == wanted and self.clusters[-1].synced == synced)
        )


def kubeconfig(folder: Path, token: str = "") -> str:
    """A kubeconfig whose server is given elsewhere, with a token in a file of its own."""
    (folder / "token").write_text(token + "\n")
    path = folder / "kubeconfig"
    path.write_text(
        "current-context: c\n"
        "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
        "clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {tokenFile: token}}]\n"
    )
    return str(path)


@asynccontextmanager
async def following(
    api: KubeApi | KubeProcess,
    folder: Path,
    timing: Timing = QUICK,
    node: str = "a",
    token: str = "",
) -> AsyncIterator[Heard]:
    """A source that runs, and what it tells."""
    heard = Heard()
    choice = Choice(kubeconfig=kubeconfig(folder, token), server=api.url)
    heard.source = KubernetesSource(node, choice, str(folder / "state/nodes.json"), heard, timing)
    running = asyncio.create_task(heard.source.run(heard.changed))
    try:
        yield heard
    finally:
        running.cancel()
        ended = await asyncio.gather(running, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError), ended
