"""The agent's rounds for the cluster, with a source that a test writes, on a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from ipaddress import ip_address, ip_network

import pytest

from cni_plugin.agent import cluster as rounds
from cni_plugin.agent.cluster import ClusterRounds
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.report import CallReport
from cni_plugin.agent.totals import Totals
from cni_plugin.backend.view import DEFAULT_PORT, DEFAULT_VNI
from cni_plugin.backend.vxlan import tunnel_name, vtep_mac
from cni_plugin.cluster.conf import ClusterConf, SourceConf
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.kernel.namespace import inside
from tests.support import need
from tests.support.node import Node as Place

A = Node("a", (ip_network("10.244.1.0/24"),), (ip_address("192.0.2.1"),))
B = Node("b", (ip_network("10.244.2.0/24"),), (ip_address("192.0.2.2"),))
C = Node("c", (ip_network("10.244.3.0/24"),), (ip_address("192.0.2.3"),))
LIMIT_S = 10.0


class Told:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.repairs: list[str] = []
        self.failures: list[str] = []

    def call(self, report: CallReport) -> None:
        raise AssertionError(report)

    def repaired(self, what: str, lines: tuple[str, ...], failures: tuple[str, ...]) -> None:
        assert what == "cluster"
        self.repairs += lines
        self.failures += failures

    def event(self, level: str, message: str, _fields: Mapping[str, object]) -> None:
        self.events.append((level, message))


class Scripted:
    """A source that fails so many times, and then says what it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.announced: list[Node] = []
        self.unreachable = 0
        self._said: asyncio.Queue[Cluster] = asyncio.Queue()

    def say(self, cluster: Cluster) -> None:
        self._said.put_nowait(cluster)

    async def run(self, changed: Callable[[Cluster], None]) -> None:
        while self.failures == 0:
            changed(await self._said.get())
        self.failures -= 1
        raise OSError("no such server")

    async def announce(self, me: Node) -> None:
        if self.unreachable:
            self.unreachable -= 1
            raise OSError("no such server")
        self.announced.append(me)


class Subject:
    """The rounds at work."""

    def __init__(self, place: Place, backend: str, source: Scripted) -> None:
        self.place = place
        self.source = source
        self.told = Told()
        self.readiness = Readiness()
        conf = ClusterConf(source=SourceConf(file="/none"), node="a", backend=backend)
        self.ready: list[tuple[str, int | None]] = []  # the passes after which pods may come
        self.rounds = ClusterRounds(
            conf,
            source,
            self.told,
            self.readiness,
            Totals(),
            lambda me, mtu: self.ready.append((me.name, mtu)),
        )

    async def until(self, condition: Callable[[], object], limit_s: float = LIMIT_S) -> float:
        """How long it took, in seconds."""
        began_s = time.monotonic()
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110  the kernel is looked at from outside
                await asyncio.sleep(0.02)
        return time.monotonic() - began_s

    def route(self) -> list[str]:
        return self.place.routes()


Story = Callable[[Subject], Awaitable[None]]


@pytest.fixture
def tell(node: Place) -> Iterator[Callable[..., Subject]]:
    """Lets a story happen on a node with an underlay."""
    need.link_kind("vxlan")
    node.configure("link add eth0 type veth peer name other")
    node.configure("link set eth0 up")
    node.configure("link set other up")
    node.configure("addr add 192.0.2.1/24 dev eth0")

    async def happen(subject: Subject, story: Story) -> None:
        task = asyncio.create_task(subject.rounds.run())
        try:
            await story(subject)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            subject.rounds.close()

    with open(node.netns, "rb") as netns:

        def run(story: Story, backend: str = "host-gw", source: Scripted | None = None) -> Subject:
            def work() -> Subject:
                subject = Subject(node, backend, source or Scripted())
                asyncio.run(happen(subject, story))
                return subject

            return inside(netns.fileno(), work)

        yield run


ROUTE = "10.244.2.0/24 via 192.0.2.2 dev eth0 proto 113"


def test_readiness_follows_what_is_known_of_this_node(tell: Callable[..., Subject]) -> None:
    seen: list[tuple[str, ...]] = []

    async def story(subject: Subject) -> None:
        nowhere = A._replace(pod_cidrs=(ip_network("192.0.2.128/25"),))
        for me in (None, (), (A._replace(pod_cidrs=()),), (nowhere,), (A,)):
            said = None if me is None else Cluster((*me, B))
            if said is not None:
                subject.source.say(said)
            await subject.until(lambda: subject.readiness.reasons() not in seen)
            seen.append(subject.readiness.reasons())
            assert not subject.ready or not seen[-1]
        await subject.until(lambda: subject.ready)

    assert tell(story).ready[0] == ("a", 1500)
    refused = (
        "podCIDR 192.0.2.128/25 of a overlaps the nodes' network 192.0.2.0/24:"
        " give the node another range"
    )
    assert seen == [
        ("cluster: its nodes are not known yet",),
        ("cluster: the source knows no node a: is `cluster.node` its name?",),
        ("cluster: node a has no podCIDR yet",),
        (f"cluster: node a has no podCIDR that can be used: {refused}",),
        (),
    ]


def test_what_somebody_takes_away_is_back_within_two_seconds(
    tell: Callable[..., Subject],
) -> None:
    async def story(subject: Subject) -> None:
        subject.source.say(Cluster((A, B)))
        await subject.until(lambda: subject.route() == [ROUTE])
        for times in (1, 2):  # the second time within the distance of two passes
            subject.place.configure("route del 10.244.2.0/24")
            assert await subject.until(lambda: subject.route() == [ROUTE]) < 2.0
            await subject.until(lambda n=times: len(subject.told.repairs) == n)

    assert tell(story).told.repairs == 2 * [f"ip route add {ROUTE}"]


def test_a_source_that_fails_is_asked_again(
    tell: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FAILED_S", 0.01)

    async def story(subject: Subject) -> None:
        subject.source.say(Cluster((A, B)))
        await subject.until(lambda: subject.route() == [ROUTE])

    told = tell(story, source=Scripted(failures=2)).told
    assert (
        told.events[:2] == [("warning", "cluster: the source failed: OSError: no such server")] * 2
    )


def test_this_node_is_announced_with_the_macs_of_its_tunnels_when_it_is_another(
    tell: Callable[..., Subject],
) -> None:
    source = Scripted()
    source.unreachable = 1

    async def story(subject: Subject) -> None:
        source.say(Cluster((A, B)))
        await subject.until(lambda: subject.rounds.totals.passes)
        source.say(Cluster((A,)))
        await subject.until(lambda: source.announced)
        source.say(Cluster((A, B)))
        source.say(Cluster((A, B), backend="host-gw"))
        await subject.until(lambda: len(source.announced) == 2)

    tell(story, "vxlan", source)
    mac = (4, vtep_mac("a", 4))
    assert source.announced == [
        A._replace(vtep_macs=(mac,), backend="vxlan"),
        A._replace(backend="host-gw"),
    ]


def test_a_failure_is_told_once_and_tried_again(tell: Callable[..., Subject]) -> None:
    foreign = "10.244.2.0/24 via 192.0.2.9 dev eth0 proto static"

    async def story(subject: Subject) -> None:
        subject.place.configure("route add 10.244.2.0/24 via 192.0.2.9 proto static")
        subject.source.say(Cluster((A, B)))
        await subject.until(lambda: subject.rounds.totals.steps["fail"] == 2)
        assert subject.route() == [foreign]
        subject.place.configure("route del 10.244.2.0/24")
        await subject.until(lambda: subject.route() == [ROUTE])

    subject = tell(story)
    (failure,) = subject.told.failures
    assert "File exists" in failure
    assert subject.told.repairs == []


def test_what_fails_of_a_peer_is_the_peers_and_of_the_node_itself_is_a_reason(
    tell: Callable[..., Subject],
) -> None:
    name = tunnel_name(4, DEFAULT_VNI, DEFAULT_PORT)

    async def story(subject: Subject) -> None:
        subject.place.configure("route add 10.244.2.0/24 via 192.0.2.9 proto static")
        subject.place.configure(f"link add {name} type veth peer name somebodys")
        subject.source.say(Cluster((A, B)))
        await subject.until(
            lambda: "itself needs cannot be made" in str(subject.readiness.reasons())
        )
        passes = subject.rounds.totals.passes["change"]
        subject.source.say(Cluster((A, B, C)))
        await subject.until(lambda: subject.rounds.totals.passes["change"] > passes)
        assert subject.readiness.reasons()
        assert subject.ready == []
        subject.place.configure(f"link del {name}")
        await subject.until(lambda: not subject.readiness.reasons())
        assert subject.ready == [("a", 1450)]
        assert subject.rounds.totals.steps["fail"], "the foreign route is still in the way"

    subject = tell(story, "vxlan")
    assert [line for line in subject.told.failures if "10.244.2.0/24" in line]


def test_a_pass_that_cannot_look_is_told_and_the_node_is_not_ready(
    tell: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "FAILED_S", 0.05)
    real = rounds.Reconciler.run
    left = [2]

    def failing(self: rounds.Reconciler, cluster: Cluster, *, whole: bool) -> rounds.Report:
        if left[0]:
            left[0] -= 1
            raise OSError("no memory")
        return real(self, cluster, whole=whole)

    monkeypatch.setattr(rounds.Reconciler, "run", failing)

    async def story(subject: Subject) -> None:
        subject.source.say(Cluster((A, B)))
        with contextlib.suppress(TimeoutError):
            await subject.until(lambda: "OSError" in str(subject.readiness.reasons()))
        await subject.until(lambda: not subject.readiness.reasons())
        assert subject.route() == [ROUTE]

    assert tell(story).told.failures == ["the node cannot be looked at: no memory"]
