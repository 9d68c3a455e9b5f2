"""podwire's reconciler beside `ip -batch`, each on a node of its own: the same events in turns.

The reconciler runs in this process, in the node's network namespace: a pass is measured as the
agent's thread makes it, without the source that would have to tell of the change first.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import synthetic
from synthetic import ME, TUNNEL, Lines

from cni_plugin.backend.view import Settings
from cni_plugin.cluster.admission import Rules
from cni_plugin.cluster.reconciler import Plan, Reconciler
from cni_plugin.cluster.values import HOST_GW, Cluster
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.netlink import Message, Socket
from cni_plugin.model.objects import CLUSTER_PROTOCOL
from tests.support.node import Node, open_node

FILTERED = 2  # elements of the filter a node, which the floor has not: its range and its address
EVENTS = ("first", "noop", "join", "leave")


class WrongAnswer(Exception):
    """The kernel has not what was wanted: times mean nothing."""


@dataclass
class Times:
    """Seconds of each sample of one event, and how many messages podwire sent in the last one."""

    ours: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    messages: int = 0


class Counter:
    """Counts the messages that this process sends to the kernel by netlink."""

    def __init__(self) -> None:
        self.sent = 0
        counter, send = self, Socket._send_flagged  # noqa: SLF001  the one place that all pass

        def counted(self: Socket, messages: Iterable[tuple[Message, int]]) -> None:
            listed = list(messages)
            counter.sent += len(listed)
            send(self, iter(listed))

        Socket._send_flagged = counted  # type: ignore[method-assign]  # noqa: SLF001


class _Side:
    """A node with the link that its peers are on."""

    def __init__(self, stack: ExitStack, name: str, backend: str, nodes: int) -> None:
        self.backend = backend
        self.nodes = nodes
        self.place: Node = stack.enter_context(open_node(name, Path("/")))
        for line in synthetic.underlay_lines():
            self.place.configure(line)
        self._netns = os.open(self.place.netns, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, self._netns)
        stack.callback(self._empty)

    def _within(self, work: Callable[[], object]) -> float:
        """The seconds that work takes in the node's network namespace."""

        def timed() -> float:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        return inside(self._netns, timed)

    def state(self) -> dict[str, object]:
        """What the kernel has of it, as iproute2 tells."""
        routes = self.place.json("ip", "-j", "route", "show", "proto", str(CLUSTER_PROTOCOL))
        found: dict[str, object] = {"routes": _comparable(routes)}
        if self.backend != HOST_GW:
            found["neighbours"] = _comparable(self.place.ip("neigh", "show", "dev", TUNNEL))
            entries = self.place.json("bridge", "-j", "fdb", "show", "dev", TUNNEL)
            found["entries"] = _comparable(entries)
            link = self.place.link(TUNNEL) or {}
            keys = ("mtu", "address", "flags", "linkinfo")
            found["link"] = {key: link.get(key) for key in keys}
            found["addresses"] = self.place.addresses(TUNNEL)
        return found

    def _empty(self) -> None:
        """Before the namespace goes: what it holds would be freed while others are measured."""
        self.place.run("ip", "route", "flush", "proto", str(CLUSTER_PROTOCOL))
        if self.backend != HOST_GW:
            self.place.run("ip", "link", "delete", TUNNEL, check=False)


class Ours(_Side):
    """podwire's reconciler."""

    def __init__(
        self, stack: ExitStack, backend: str, told: Cluster, plus: Cluster, counter: Counter
    ) -> None:
        super().__init__(stack, "ours", backend, len(told.nodes))
        self._told, self._plus = told, plus
        self._counter = counter
        self._host = Host()
        stack.callback(self._host.close)
        plan = Plan(f"node-{ME}", backend, Rules((synthetic.PODS,)), Settings())
        self._reconciler = Reconciler(plan, self._host)
        self.sent = 0

    def event(self, name: str) -> float:
        """The seconds of one pass. WrongAnswer when it failed or did another number of steps."""
        told = self._plus if name == "join" else self._told
        whole = name in {"first", "noop"}
        each = (1 if self.backend == HOST_GW else 3) + FILTERED
        gc.collect()  # what others have left is not this pass's
        before = self._counter.sent

        def work() -> None:
            self._report = self._reconciler.run(told, whole=whole)

        took = self._within(work)
        self.sent = self._counter.sent - before
        counts = {kind: count for kind, count in self._report.counts.items() if count}
        wanted = {"noop": {}, "join": {"add": each}, "leave": {"remove": each}}
        if self._report.failures or counts != wanted.get(name, counts):
            raise WrongAnswer(f"{self.backend} {name}: {counts} {self._report.failures}")
        return took


class Floor(_Side):
    """`ip -batch`, and `bridge -batch` where there are forwarding entries. With nothing to do it
    lists what there is, for nobody knows otherwise that there is nothing to do."""

    def __init__(self, stack: ExitStack, backend: str, nodes: int) -> None:
        super().__init__(stack, "floor", backend, nodes)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
        lines = {
            "first": synthetic.all_lines(backend, nodes),
            "join": synthetic.peer_lines(backend, nodes + 1),
            "leave": synthetic.peer_lines(backend, nodes + 1, "del"),
        }
        self._commands = {name: list(_batches(work, name, one)) for name, one in lines.items()}
        self._commands["noop"] = list(self._listings())

    def _listings(self) -> Iterator[list[str]]:
        yield ["ip", "-N", "route", "show", "proto", str(CLUSTER_PROTOCOL)]
        if self.backend != HOST_GW:
            yield ["ip", "neigh", "show", "dev", TUNNEL, "nud", "permanent"]
            yield ["bridge", "fdb", "show", "dev", TUNNEL]

    def event(self, name: str) -> float:
        """The seconds of all processes of one event."""

        def work() -> None:
            for command in self._commands[name]:
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

        return self._within(work)


def _batches(work: Path, name: str, lines: Lines) -> Iterator[list[str]]:
    for program, listed in zip(("ip", "bridge"), lines, strict=True):
        if listed:
            path = work / f"{name}.{program}"
            path.write_text("\n".join(listed) + "\n")
            yield [program, "-batch", str(path)]


def _comparable(listed: list[dict[str, object]]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in listed)


def contest(
    backend: str, nodes: int, samples: int, progress: Callable[[str], None], counter: Counter
) -> dict[str, Times]:
    """All events of one case. samples: of join and leave; half of noop, a tenth of first."""
    times = {name: Times() for name in EVENTS}
    told = synthetic.cluster(range(ME, nodes + 1))
    plus = told._replace(nodes=(*told.nodes, synthetic.node(nodes + 1)))
    rounds = max(1, samples // 10)
    for number in range(rounds):
        progress(f"{backend}, {nodes} nodes: round {number + 1}/{rounds}")
        with ExitStack() as stack:
            ours = Ours(stack, backend, told, plus, counter)
            floor = Floor(stack, backend, nodes)
            sides = (ours, floor) if number % 2 == 0 else (floor, ours)
            _play(times, sides, -(-samples // rounds))
            if ours.state() != floor.state():
                raise WrongAnswer(f"{backend}, {nodes} nodes: the two sides made different objects")
    return times


def _play(times: dict[str, Times], sides: tuple[_Side, ...], joins: int) -> None:
    events = ["first", *["noop"] * max(1, joins // 2), *["join", "leave"] * joins]
    for event in events:
        for side in sides:
            if isinstance(side, Ours):
                times[event].ours.append(side.event(event))
                times[event].messages = side.sent
            elif isinstance(side, Floor):
                times[event].floor.append(side.event(event))


def medians(times: Times) -> tuple[float, float]:
    """Ours and the floor's, in seconds."""
    return statistics.median(times.ours), statistics.median(times.floor)
