"""Two nodes that a cable joins, each with its own network, files and agent, and one peers file.

Where the demo's other node is the sandbox itself, these are a namespace each: two agents, two
stores and two sets of rules know nothing of each other but what the peers file says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import snapshot
from cast import Member
from configs import ALL_PODS, cluster_network
from runtime import Runtime, Sandbox
from service import Agent
from snapshot import Snapshot

from tests.support.node import Node, open_node

UNDERLAY = {4: ("192.0.2.{}", 24), 6: ("2001:db8:1::{}", 64)}
CLUSTER_PROTOCOL = "113"  # of podwire's routes between nodes, docs/cluster.md
PEERS = "run/peers.yaml"
BIN_DIR = "opt/cni/bin"
CONF_DIR = "etc/cni/net.d"


def await_it(condition: Callable[[], bool], limit_s: float) -> float | None:
    """The seconds until it holds; None when it does not within the limit."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > limit_s:
            return None
        time.sleep(0.05)  # each look is some processes
    return time.monotonic() - begun


class ClusterNode:
    """One of them. number: in its addresses and its pods' range."""

    def __init__(self, place: Node, number: int, mode: str, launcher: Path) -> None:
        self.name = place.name
        self.place = place
        self.number = number
        self.mode = mode
        self.root = place.path("/")
        self.enter = (*place.enter_mounts(), "--net", "--wd=/", "--")
        self.addresses = {v: text.format(number) for v, (text, _) in UNDERLAY.items()}
        self.pods: list[Member] = []
        self.agent: Agent | None = None
        self._network = cluster_network(mode, number)
        self.runtime = self._install(launcher)
        self.before = self.snapshot()

    def _install(self, launcher: Path) -> Runtime:
        for folder in (BIN_DIR, CONF_DIR):
            self.root.joinpath(folder).mkdir(parents=True, exist_ok=True)
        self.root.joinpath(BIN_DIR, launcher.name).symlink_to(launcher)
        file = self.root / CONF_DIR / self._network.file
        file.write_text(json.dumps(self._network.conflist, indent=2) + "\n")
        return Runtime(file, Path("/", BIN_DIR), self.enter)

    @property
    def cidrs(self) -> list[str]:
        """Its pods' ranges."""
        return self._network.subnets

    def entry(self) -> dict[str, Any]:
        """In the peers file."""
        addresses = list(self.addresses.values())
        return {"name": self.name, "podCIDRs": self.cidrs, "addresses": addresses}

    def start(self, podwire: Path) -> None:
        """Its agent."""
        source = {"file": f"/{PEERS}"}
        cluster = {"node": self.name, "source": source, "clusterCIDRs": ALL_PODS}
        self.agent = Agent(podwire, self.root, self.enter, {"cluster": cluster, "metrics": "off"})

    def new_pod(self) -> Member:
        """A pod with nothing in it."""
        pod = self.place.pod()
        name = f"{self.name}-{len(self.pods) + 1}"
        sandbox = Sandbox(name, pod.container_id[:12], pod.netns)
        member = Member(sandbox, self.mode, self.runtime)
        self.pods.append(member)
        return member

    def path_of(self, member: Member) -> str:
        """The pod's namespace, as this process opens it."""
        return str(self.root / member.pod.netns.lstrip("/"))

    def remove_namespaces(self) -> None:
        """Of its pods."""
        for pod in self.place.pods:
            pod.remove()

    def ways(self) -> list[str]:
        """The links that lead to other nodes' pods."""
        found = [
            route["dev"]
            for version in UNDERLAY
            for route in self.place.ip(f"-{version}", "route", "show", "proto", CLUSTER_PROTOCOL)
        ]
        return sorted(found)

    def has_vxlan(self) -> bool:
        """Whether its kernel has such links."""
        line = "ip link add probe0 type vxlan id 1 dstport 1"
        made = self.place.run(*line.split(), check=False)
        if made.returncode == 0:
            self.place.configure("link delete probe0")
        return made.returncode == 0

    def tunnels(self) -> list[str]:
        """Links of podwire's between nodes."""
        return sorted(name for name in self.place.links() if name.startswith("podwire"))

    def snapshot(self) -> Snapshot:
        """What is on it."""
        return snapshot.take_from(self.place.netns, self.root)


class Cluster:
    """A with block: the nodes and the cable on entry; all gone at the end."""

    def __init__(self, launcher: Path) -> None:
        self._launcher = launcher
        self._stack = ExitStack()
        self.nodes: list[ClusterNode] = []

    def __enter__(self) -> Self:
        names = ("a", "b")
        places = [self._stack.enter_context(open_node(n, Path("/", BIN_DIR))) for n in names]
        self._cable(*places)
        for number, (place, mode) in enumerate(zip(places, ("bridge", "ptp"), strict=True), 11):
            self.nodes.append(ClusterNode(place, number, mode, self._launcher))
        return self

    def __exit__(self, *_error: object) -> None:
        for node in self.nodes:
            if node.agent:
                node.agent.kill()
        self._stack.close()

    def tell(self, backend: str) -> None:
        """The peers file, on both nodes, by rename."""
        document = {"backend": backend, "nodes": [node.entry() for node in self.nodes]}
        for node in self.nodes:
            new = node.root / f"{PEERS}.new"
            new.write_text(json.dumps(document))
            new.rename(node.root / PEERS)

    def pairs(self) -> Iterator[tuple[ClusterNode, ClusterNode]]:
        """Each node and the other one."""
        one, other = self.nodes
        yield one, other
        yield other, one

    def use(self, link: str) -> bool:
        """Whether all ways between the nodes go by links whose names begin so."""
        ways = [node.ways() for node in self.nodes]
        return all(len(way) == 2 and all(dev.startswith(link) for dev in way) for way in ways)

    @staticmethod
    def _cable(one: Node, other: Node) -> None:
        for place in (one, other):
            # No duplicate address detection on our own cable: it would cost a second.
            place.run("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad")
        one.configure(f"link add eth0 type veth peer name eth0 netns {other.pid}")
        for number, place in enumerate((one, other), 11):
            place.configure("link set eth0 up")
            for text, length in UNDERLAY.values():
                nodad = ["nodad"] if ":" in text else []
                address = f"{text.format(number)}/{length}"
                place.run("ip", "addr", "add", address, "dev", "eth0", *nodad)
