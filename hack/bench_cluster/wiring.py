"""The same devices twice: pods wired by podwire, and by hand with nothing but `ip`.

Each case is two pods that talk: on one node, or on two that a cable joins. Each side has nodes of
its own.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from contest import WrongAnswer
from synthetic import TUNNEL, peers_file

from cni_plugin.backend.view import DEFAULT_PORT, DEFAULT_VNI
from cni_plugin.backend.vxlan import OVERHEAD
from cni_plugin.cluster.values import Node as ClusterNode
from tests.support.agent_pages import METRICS, Agent, agent_on
from tests.support.node import Node, Pod, open_node, wait_until

CIDR = "10.244.{}.0/24"
MTU = 1500
NODE = "192.0.2.{}"
FORWARD = "net.ipv4.ip_forward=1"


@dataclass(frozen=True)
class Case:
    """mode: how pods hang on their node. backend: between two nodes; "" for pods of one."""

    name: str
    mode: str
    backend: str = ""

    @property
    def mtu(self) -> int:
        """Of the pods."""
        return MTU - OVERHEAD[4] if self.backend == "vxlan" else MTU


CASES = (
    Case("bridge", "bridge"),
    Case("ptp", "ptp"),
    Case("host-gw", "bridge", "host-gw"),
    Case("vxlan", "bridge", "vxlan"),
)


@dataclass(frozen=True)
class Pair:
    """Two pods. address: the second one's."""

    one: Pod
    other: Pod
    address: str


@contextmanager
def ours(case: Case, *, guarded: bool = True) -> Iterator[Pair]:
    """By podwire: agents, and pods that they serve. guarded: with antiSpoofing, the default."""
    with ExitStack() as stack:
        nodes = _nodes(stack, case)
        agents = [_agent(stack, case, number, node) for number, node in enumerate(nodes, 1)]
        pods, address = [], ""
        for number, agent in [(1, agents[0]), (len(agents), agents[-1])]:
            pods.append(agent.node.pod())
            answer = agent.add(pods[-1], _conf(case, number, guarded=guarded)).ok()
            address = answer.json["ips"][0]["address"].partition("/")[0]
        wait_until(lambda: pods[0].ping(address), "the pods reach each other")
        yield Pair(pods[0], pods[1], address)


@contextmanager
def by_hand(case: Case) -> Iterator[Pair]:
    """With `ip`."""
    with ExitStack() as stack:
        nodes = _nodes(stack, case)
        for number, node in enumerate(nodes, 1):
            node.run("sysctl", "-qw", FORWARD)
            if case.mode == "bridge":
                node.configure("link add cni0 type bridge")
                node.configure(f"addr add {_host(number, 1)}/24 dev cni0")
                node.configure(f"link set cni0 mtu {case.mtu} up")
            if case.backend:
                _way(case, node, number, 3 - number)
        ends = [(1, nodes[0], 2), (len(nodes), nodes[-1], 3)]
        pods = [_pod_by_hand(case, node, number, last) for number, node, last in ends]
        address = _host(ends[1][0], ends[1][2])
        if not pods[0].ping(address):
            raise WrongAnswer(f"{case.name}: the pods wired by hand do not reach each other")
        yield Pair(pods[0], pods[1], address)


def _nodes(stack: ExitStack, case: Case) -> list[Node]:
    names = ("a", "b") if case.backend else ("a",)
    nodes = [stack.enter_context(open_node(name, Path(sys.executable).parent)) for name in names]
    if case.backend:
        nodes[0].connect(nodes[1], [f"{NODE.format(1)}/24"], [f"{NODE.format(2)}/24"])
    return nodes


def _host(number: int, last: int) -> str:
    return CIDR.format(number).replace("0/24", str(last))


# podwire -----------------------------------------------------------------------------------------


def _agent(stack: ExitStack, case: Case, number: int, node: Node) -> Agent:
    if not case.backend:
        return stack.enter_context(agent_on(node))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
    members = [
        ClusterNode(f"node-{n}", (ip_network(CIDR.format(n)),), (ip_address(NODE.format(n)),))
        for n in (1, 2)
    ]
    (folder / "peers.yaml").write_text(peers_file(members))
    source = {"file": str(folder / "peers.yaml")}
    cluster = {"node": f"node-{number}", "backend": case.backend, "source": source}
    agent = stack.enter_context(agent_on(node, cluster=cluster, metrics=f"unix:{METRICS}"))
    wait_until(lambda: agent.get("/readyz")[0] == 200, "the agent is ready")
    return agent


def _conf(case: Case, number: int, *, guarded: bool) -> dict[str, object]:
    return {
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "podwire",
        "mode": case.mode,
        "bridge": "cni0",
        "isDefaultGateway": case.mode == "bridge",
        "antiSpoofing": guarded,
        "mtu": case.mtu,
        "ipam": {
            "type": "podwire-ipam",
            "subnet": CIDR.format(number),
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }


# by hand -----------------------------------------------------------------------------------------


def _pod_by_hand(case: Case, node: Node, number: int, last: int) -> Pod:
    pod, link = node.pod(), f"veth{last}"
    gateway, own = _host(number, 1), _host(number, last)
    node.configure(
        f"link add {link} mtu {case.mtu} type veth peer name eth0 mtu {case.mtu} netns {pod.name}"
    )
    if case.mode == "bridge":
        node.configure(f"link set {link} master cni0")
        node.configure(f"link set {link} type bridge_slave hairpin on")
    else:
        node.configure(f"addr add {gateway}/32 dev {link}")
    node.configure(f"link set {link} up")
    pod.configure("link set lo up")
    pod.configure(f"addr add {own}/24 dev eth0{' noprefixroute' * (case.mode == 'ptp')}")
    pod.configure("link set eth0 up")
    if case.mode == "ptp":
        pod.configure(f"route add {gateway} dev eth0")
        node.configure(f"route add {own} dev {link}")
    pod.configure(f"route add default via {gateway}")
    return pod


def _way(case: Case, node: Node, number: int, other: int) -> None:
    """To the other node's pods."""
    outer, cidr = NODE.format(other), CIDR.format(other)
    if case.backend == "host-gw":
        node.configure(f"route add {cidr} via {outer}")
        return
    gateway, macs = _host(other, 0), {n: f"02:00:5e:00:00:{n:02x}" for n in (number, other)}
    node.configure(
        f"link add {TUNNEL} mtu {case.mtu} address {macs[number]} type vxlan id {DEFAULT_VNI}"
        f" local {NODE.format(number)} dstport {DEFAULT_PORT} nolearning"
    )
    node.configure(f"addr add {_host(number, 0)}/32 dev {TUNNEL}")
    node.configure(f"link set {TUNNEL} up")
    node.configure(f"neigh add {gateway} lladdr {macs[other]} dev {TUNNEL} nud permanent")
    entry = ("fdb", "add", macs[other], "dev", TUNNEL, "dst", outer, "self", "permanent")
    node.run("bridge", *entry)
    node.configure(f"route add {cidr} via {gateway} dev {TUNNEL} onlink")
