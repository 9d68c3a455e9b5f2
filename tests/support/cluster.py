"""Nodes on one or two networks joined by a router, each with a real agent that reads one peers
file; pods by the real executable; and traffic between pods whose losses are counted.

    with Fabric(make_node, tmp_path, podwire_config) as fabric:
        a, b = fabric.join("a"), fabric.join("b", subnet=2)
        fabric.write()                        # the peers file; agents hear of it
        one, other = a.pod(), b.pod()
        with steady(one, other) as traffic: ...
        assert traffic.lost == 0
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.agent_pages import Agent, start
from tests.support.node import Node, Pod, wait_until
from tests.support.runtime import Runtime

SUBNETS = {
    1: {4: "192.0.2.{}/24", 6: "2001:db8:1::{}/64"},
    2: {4: "198.51.100.{}/24", 6: "2001:db8:2::{}/64"},
}
POD_CIDRS = {4: "10.244.{}.0/24", 6: "2001:db8:244:{}::/64"}
# A link whose own address is still on trial cannot ask for neighbours: 1 to 2 s.
AT_ONCE = "net.ipv6.conf.default.accept_dad=0"
ROUTER = {4: "254", 6: "fe"}
METRICS = "unix:/run/podwire/metrics.sock"
CONFLIST = "/etc/cni/net.d/10-podwire.conflist"
Json = dict[str, Any]


class Member:
    """A node of the cluster: its link eth0 on a subnet, its agent, its pods."""

    def __init__(self, fabric: Fabric, name: str, number: int, subnet: int) -> None:
        self.fabric = fabric
        self.name = name
        self.number = number
        self.subnet = subnet
        self.node = fabric.make_node(name)
        self.host_number = number
        self.agent: Agent | None = None
        self.settings: Json = {}
        self.says: Json = {}  # of it in the peers file, beside what it has
        self.runtime = Runtime(self.node, self._conflist())
        self._wire()

    def _wire(self) -> None:
        port = f"p-{self.name}"
        self.node.run("sysctl", "-qw", AT_ONCE)
        self.node.configure(f"link add eth0 type veth peer name {port} netns {self.fabric.hub.pid}")
        self.fabric.hub.configure(f"link set {port} up master br{self.subnet}")
        self.node.configure("link set eth0 up")
        for address in self.addresses:
            self._address("add", address)
        self._default_routes()

    def _default_routes(self) -> None:
        for version in self.fabric.versions:
            router = SUBNETS[self.subnet][version].format(ROUTER[version]).partition("/")[0]
            self.node.configure(f"-{version} route replace default via {router}")

    def _address(self, verb: str, address: str) -> None:
        nodad = ["nodad"] if ":" in address and verb == "add" else []
        self.node.run("ip", "addr", verb, address, "dev", "eth0", *nodad)

    @property
    def addresses(self) -> list[str]:
        """With prefix lengths."""
        templates = SUBNETS[self.subnet]
        return [templates[v].format(self.host_number) for v in self.fabric.versions]

    @property
    def cidrs(self) -> list[str]:
        return [POD_CIDRS[version].format(self.number) for version in self.fabric.pod_versions]

    def entry(self) -> Json:
        """In the peers file."""
        addresses = [one.partition("/")[0] for one in self.addresses]
        return {"name": self.name, "podCIDRs": self.cidrs, "addresses": addresses}

    def readdress(self, number: int) -> None:
        """Another address, as after a DHCP server's change of mind."""
        old = self.addresses
        self.host_number = number
        for address in old:
            self._address("del", address)
        for address in self.addresses:
            self._address("add", address)
        self._default_routes()

    def _conflist(self) -> Json:
        return {
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "podwire",
            "mode": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "mtu": self.fabric.pod_mtu,
            "ipam": {
                "type": "podwire-ipam",
                "ranges": [[{"subnet": cidr}] for cidr in self.cidrs],
                "routes": [{"dst": "::/0" if ":" in cidr else "0.0.0.0/0"} for cidr in self.cidrs],
            },
        }

    def start(self, **settings: Any) -> Agent:
        """The agent; settings: of the part `cluster` of its config."""
        self.settings |= settings
        cluster = {
            "node": self.name,
            "source": self.fabric.source(),
            "clusterCIDRs": ["10.244.0.0/16", "2001:db8:244::/48"],
            **self.settings,
        }
        log = {"format": "json", "level": "debug"}
        config = {"cluster": cluster, "metrics": METRICS, "log": log}
        self.agent = Agent(self.node, start(self.node, config))
        return self.agent

    def end(self, number: int = signal.SIGTERM) -> None:
        """The agent's."""
        if self.agent is not None:
            self.agent.process.send_signal(number)
            status = self.agent.process.wait(30)
            assert status == (0 if number == signal.SIGTERM else -number), self.agent.log()
            self.agent = None

    def page(self, name: str) -> tuple[int, str]:
        """One of the agent's, with its status; (0, "") while it does not serve them."""
        assert self.agent is not None
        assert self.agent.process.poll() is None, self.agent.log()
        try:
            return self.agent.get(name)
        except OSError:
            return 0, ""

    def ready(self) -> bool:
        """Whether the agent says so."""
        return self.page("/readyz")[0] == 200

    def log(self) -> list[Json]:
        """The agent's, an object a line."""
        assert self.agent is not None
        return [json.loads(line) for line in self.agent.log()]

    def conflist(self) -> Json | None:
        """What the agent has written for the runtime."""
        try:
            found: Json = json.loads(self.node.path(CONFLIST).read_bytes())
        except FileNotFoundError:
            return None
        return found

    @property
    def ranges(self) -> list[str]:
        """Those that pods get addresses of, as the config list says."""
        found = self.conflist() or {"plugins": [{"ipam": {"ranges": []}}]}
        return [one["subnet"] for (one,) in found["plugins"][0]["ipam"]["ranges"]]

    def take_conflist(self, launcher: Path) -> None:
        """From now on pods are made as a runtime makes them: by what the agent has written, and the
        launcher."""
        found = self.conflist()
        assert found is not None
        self.runtime = Launched(self.node, found, launcher)

    def pod(self) -> ClusterPod:
        """A pod by the real executable."""
        pod = self.node.pod()
        result = self.runtime.add(pod)
        return ClusterPod(pod, [ip["address"].partition("/")[0] for ip in result["ips"]])

    def routes(self, version: int = 4) -> dict[str, str]:
        """Ours to other nodes' pods: the link by the range."""
        found = self.node.ip(f"-{version}", "route", "show", "proto", "113")
        return {route["dst"]: route["dev"] for route in found}

    def tunnels(self) -> list[str]:
        """Links of ours to other nodes."""
        return sorted(name for name in self.node.links() if name.startswith("podwire"))


class Launched(Runtime):
    """A runtime whose podwire is the launcher."""

    def __init__(self, node: Node, conflist: Json, launcher: Path) -> None:
        super().__init__(node, conflist)
        self._launcher = launcher

    def _run(self, verb: str, plugin: Mapping[str, Any], env: Mapping[str, str], conf: Json) -> Any:
        more = {"CNI_COMMAND": verb, "PODWIRE_PYTHON": sys.executable}
        return self.node.plugin(self._launcher, {**more, **env}, conf).ok().json


class ClusterPod:
    """A pod and its addresses."""

    def __init__(self, pod: Pod, addresses: list[str]) -> None:
        self.pod = pod
        self.addresses = addresses

    def reaches(self, other: ClusterPod, size: int = 56) -> bool:
        """By every IP version; size: bytes of the echo, never in fragments."""
        return all(
            self.pod.run(
                "ping", "-c1", "-W1", "-q", "-n", "-M", "do", "-s", str(size), address, check=False
            ).returncode == 0
            for address in other.addresses
        )  # fmt: skip


class Fabric:
    """The networks between the nodes: a bridge each, and the router that joins them."""

    def __init__(
        self,
        make_node: Callable[[str], Node],
        folder: Path,
        versions: Sequence[int] = (4, 6),
        pod_versions: Sequence[int] = (4, 6),
        pod_mtu: int = 1430,
    ) -> None:
        self.make_node = make_node
        self.versions = versions
        self.pod_versions = pod_versions
        self.pod_mtu = pod_mtu
        self.peers = folder / "peers.yaml"
        self.members: list[Member] = []
        self.hub = make_node("hub")
        forward = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.hub.run("sysctl", "-qw", AT_ONCE, *forward)
        for number, templates in SUBNETS.items():
            # With a MAC of its own: the kernel's choice changes when a port joins, and the nodes'
            # neighbour entries for the router would be wrong for half a minute.
            mac = f"02:00:5e:00:01:{number:02x}"
            self.hub.configure(f"link add br{number} address {mac} up type bridge")
            for version in versions:
                address = templates[version].format(ROUTER[version])
                nodad = ["nodad"] if version == 6 else []
                self.hub.run("ip", "addr", "add", address, "dev", f"br{number}", *nodad)

    def join(self, name: str, subnet: int = 1) -> Member:
        """One node more; the peers file is not written yet."""
        member = Member(self, name, len(self.members) + 1, subnet)
        self.members.append(member)
        return member

    def write(self, *members: Member, without: Member | None = None, **more: Any) -> None:
        """The peers file, by rename: with the members given, or all. without: one more, which has
        no range. more: other keys."""
        nodes = [member.entry() | member.says for member in members or self.members]
        nodes += [{**without.entry(), "podCIDRs": []}] if without else []
        new = self.peers.with_suffix(".new")
        new.write_text(json.dumps({"nodes": nodes, **more}))
        new.rename(self.peers)

    def source(self) -> Json:
        """What the agents' configs say of it."""
        return {"file": str(self.peers)}

    def start(self, **settings: Any) -> None:
        """All agents, and until they are ready."""
        for member in self.members:
            member.start(**settings)
        wait_until(lambda: all(one.ready() for one in self.members), "all agents are ready", 30)

    def close(self) -> None:
        """The agents; namespaces go with their nodes."""
        for member in self.members:
            member.end(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


# traffic -----------------------------------------------------------------------------------------

_SINK = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = socket.create_server((sys.argv[1], 5001), family=family)
print("ready", flush=True)
peer, _ = server.accept()
total = 0
while data := peer.recv(65536):
    total += len(data)
print(total, flush=True)
"""
_STREAM = """
import signal, socket, sys, time
ended = []
signal.signal(signal.SIGINT, lambda *_: ended.append(1))
peer = socket.create_connection((sys.argv[1], 5001))
peer.settimeout(20)
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
total = 0
while not (ended and total):
    peer.sendall(b"x" * 4096)
    if not total:
        print("begun", flush=True)
    total += 4096
    time.sleep(0.002)
peer.shutdown(socket.SHUT_WR)
print(total, flush=True)
"""
INTERVAL_S = 0.01


class Traffic:
    """An echo each INTERVAL_S, by each IP version, and a TCP stream, while it lasts."""

    def __init__(self, one: ClusterPod, other: ClusterPod) -> None:
        self.sent = 0
        self.lost = 0
        self._began_s = self._ended_s = time.monotonic()
        self.stream: tuple[int, int] = (0, -1)  # bytes sent, bytes that arrived
        sink, stream = (sys.executable, "-I", "-S", "-c"), other.addresses[-1]
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._sink = other.pod.spawn(*sink, _SINK, stream, **options)
        assert self._sink.stdout is not None
        assert self._sink.stdout.readline() == "ready\n"
        self._stream = one.pod.spawn(*sink, _STREAM, stream, **options)
        assert self._stream.stdout is not None
        assert self._stream.stdout.readline() == "begun\n"
        self._pings = [
            one.pod.spawn("ping", "-n", "-q", "-i", str(INTERVAL_S), address, **options)
            for address in other.addresses
        ]

    def stop(self) -> None:
        """And count."""
        self._ended_s = time.monotonic()
        for ping in self._pings:
            ping.send_signal(signal.SIGINT)
            said, _ = ping.communicate(timeout=10)
            found = re.search(r"(\d+) packets transmitted, (\d+) received", said)
            assert found, said
            sent, received = int(found[1]), int(found[2])
            self.sent += sent
            self.lost += sent - received
        self._stream.send_signal(signal.SIGINT)
        sent_bytes, error = self._stream.communicate(timeout=30)
        assert self._stream.returncode == 0, error
        arrived, _ = self._sink.communicate(timeout=30)
        self.stream = int(sent_bytes), int(arrived)

    def kill(self) -> None:
        """What is still there."""
        for process in (self._sink, self._stream, *self._pings):
            process.kill()
            process.communicate()

    @property
    def cut_s(self) -> float:
        """How long the way was cut, if it was so once: the share of the echoes that were lost."""
        return (self._ended_s - self._began_s) * self.lost / self.sent

    @property
    def whole(self) -> bool:
        """Every byte of the stream arrived, on one connection."""
        return self.stream[0] == self.stream[1] > 0


@contextlib.contextmanager
def steady(one: ClusterPod, other: ClusterPod) -> Iterator[Traffic]:
    """Traffic for the length of the block; afterwards it is counted."""
    traffic = Traffic(one, other)
    try:
        yield traffic
        traffic.stop()
    finally:
        traffic.kill()
