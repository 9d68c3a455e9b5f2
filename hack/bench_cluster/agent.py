"""A real agent with pods and a peers file: its memory, and how long it takes from the file's change
to the kernel's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import synthetic
from contest import WrongAnswer
from synthetic import ME

from cni_plugin.kernel.namespace import inside
from cni_plugin.model.objects import CLUSTER_PROTOCOL
from tests.support.agent_pages import METRICS, Agent, agent_on
from tests.support.node import Node, open_node, wait_until

PODS = 100
POD_RANGE = "192.0.2.0/24"  # of the node's pods, outside of what the peers have
LIMIT_S = 60.0
CONF = {
    "cniVersion": "1.0.0",
    "name": "bench",
    "type": "podwire",
    "mode": "bridge",
    "bridge": "bench0",
    "isGateway": True,
    "ipam": {"type": "podwire-ipam", "subnet": POD_RANGE},
}


class Told(NamedTuple):
    """What became of one change. file_s: from the peers file's rename to the kernel's route;
    pass_s: of that the pass, as the log tells; rss_mib: resident memory afterwards."""

    file_s: float
    pass_s: float
    rss_mib: float


class Cost(NamedTuple):
    """rss_mib: with the pods and no peers. events: by name."""

    rss_mib: float
    events: dict[str, Told]


class _Subject:
    """An agent whose peers file changes."""

    def __init__(self, node: Node, agent: Agent, netns: int) -> None:
        self.node = node
        self.agent = agent
        self._netns = netns

    def tell(self, nodes: int, *, there: int = 0, gone: int = 0) -> Told:
        """The file says so many nodes; until there is (or is not) a way to the one named."""
        new, path = self.node.path("/run/peers.new"), self.node.path("/run/peers.yaml")
        new.write_text(synthetic.peers_file(map(synthetic.node, range(ME, nodes + 1))))
        told = len(self._programmed())
        started = time.perf_counter()
        new.rename(path)
        number, wanted = (there, True) if there else (gone, False)
        wait_until(
            lambda: self._has(number) == wanted, "the kernel has what the file says", LIMIT_S
        )
        took = time.perf_counter() - started
        wait_until(lambda: len(self._programmed()) > told, "the agent has told so")
        return Told(took, self._programmed()[told]["ms"] / 1000, self.rss_mib())

    def repair(self, number: int) -> Told:
        """Somebody deletes the route to a node: an event, a whole pass, one step."""
        told = len(self._programmed())
        self.node.run("ip", "route", "del", str(synthetic.pod_cidr(number)))
        started = time.perf_counter()
        wait_until(lambda: self._has(number), "the route is there again", LIMIT_S)
        took = time.perf_counter() - started
        wait_until(lambda: len(self._programmed()) > told, "the agent has told so")
        return Told(took, self._programmed()[told]["ms"] / 1000, self.rss_mib())

    def rss_mib(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.agent.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def _has(self, number: int) -> bool:
        """Whether the kernel has a route to a node's pods. One look-up, however many there are."""
        asked = ["ip", "-o", "route", "get", "fibmatch", str(synthetic.pod_cidr(number)[1])]

        def work() -> str:
            return subprocess.run(asked, capture_output=True, text=True, check=False).stdout

        return inside(self._netns, work).startswith(str(synthetic.pod_cidr(number)))

    def _programmed(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.agent.log()]
        return [line for line in lines if line["message"] == "cluster: programmed"]


def cost(backend: str, nodes: int, progress: Callable[[str], None]) -> Cost:
    """One agent with PODS pods, in a cluster of so many nodes. WrongAnswer when it complained."""
    progress(f"{backend}, {nodes} nodes: an agent with {PODS} pods")
    with _subject(backend) as subject:
        pods = [subject.node.pod() for _ in range(PODS)]
        for pod in pods:
            subject.agent.add(pod, CONF).ok()
        alone = subject.rss_mib()
        events = {
            "first": subject.tell(nodes, there=nodes),
            "noop": subject.repair(nodes),
            "join": subject.tell(nodes + 1, there=nodes + 1),
            "leave": subject.tell(nodes, gone=nodes + 1),
        }
        for pod in pods:
            subject.agent.delete(pod, CONF).ok()
        subject.node.run("ip", "route", "flush", "proto", str(CLUSTER_PROTOCOL))
        wrong = [line for line in subject.agent.log() if '"level": "error"' in line]
        if wrong:
            raise WrongAnswer(f"the agent's log: {wrong[0]}")
        return Cost(alone, events)


@contextmanager
def _subject(backend: str) -> Iterator[_Subject]:
    with open_node("agent", Path(sys.executable).parent) as node:
        for line in synthetic.underlay_lines():
            node.configure(line)
        cluster = {
            "node": f"node-{ME}",
            "backend": backend,
            "source": {"file": "/run/peers.yaml"},
            "clusterCIDRs": [str(synthetic.PODS)],
        }
        node.path("/run/peers.yaml").write_text(synthetic.peers_file([synthetic.node(ME)]))
        netns = os.open(node.netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            log = {"format": "json"}
            with agent_on(node, cluster=cluster, metrics=f"unix:{METRICS}", log=log) as agent:
                yield _Subject(node, agent, netns)
        finally:
            os.close(netns)
