"""Two nodes with a pod each and a host outside, wired by hand, and podwire's filter on a node.

outside  198.51.100.80          203.0.113.0/24 and 2001:db8:cc::/64 are its too
   |
   a     198.51.100.1, 192.0.2.1, pods 10.244.1.0/24      a pod of podwire, ipMasq
   |
   b     192.0.2.2, pods 10.244.2.0/24                    the same
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_address, ip_network
from queue import SimpleQueue
from threading import Thread
from typing import IO

from cni_plugin.filter import cluster
from cni_plugin.filter.cluster import Options
from cni_plugin.kernel.execute import apply
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.nft import generation, observe_set
from cni_plugin.kernel.observe import observe
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import Element, Obj, key
from cni_plugin.model.plan import Step, diff, removal
from tests.netns.kit import address, conf, ipam
from tests.support.node import Node, Pod
from tests.support.runtime import Runtime

PORT = 8472
LIMIT_S = 10.0
PODS = {"a": ("10.244.1.0/24", "2001:db8:1::/64"), "b": ("10.244.2.0/24", "2001:db8:2::/64")}
ADDRESSES = {
    "a": {4: "192.0.2.1", 6: "2001:db8:ff::1"},
    "b": {4: "192.0.2.2", 6: "2001:db8:ff::2"},
    "a outside": {4: "198.51.100.1", 6: "2001:db8:ee::1"},
    "outside": {4: "198.51.100.80", 6: "2001:db8:ee::80"},
}
PREFIXES = {4: 24, 6: 64}


class Filter:
    """The filter of one node, brought to what is wanted as a reconciler does it."""

    def __init__(self, node: Node) -> None:
        with open(node.netns, "rb") as file:
            self._host = Host()
            inside(file.fileno(), lambda: (self._host.route, self._host.filter))

    def steps(self, options: Options, elements: Iterable[Element]) -> tuple[Step, ...]:
        """What is to be done."""
        places = Places(host=self._host)
        wanted: tuple[Obj, ...] = (*cluster.desired_chains(options), *elements)
        obsolete = cluster.obsolete_chains(options)
        found = observe(places, (*wanted, *obsolete))
        keys = {key(obj) for obj in wanted}
        there = [
            element
            for name in cluster.SETS
            for element in observe_set(self._host.filter, "inet", name)
        ]
        gone = [element for element in there if key(element) not in keys]
        found.update({key(element): element for element in gone})
        return (*diff(wanted, found), *removal((*gone, *obsolete), found))

    def bring_to(self, options: Options, elements: Iterable[Element]) -> int:
        """Does it in one transaction; how many transactions there were."""
        before = generation(self._host.filter)
        outcome = apply(Places(host=self._host), self.steps(options, elements), stop=True)
        assert outcome.failures == ()
        return generation(self._host.filter) - before

    def close(self) -> None:
        self._host.close()


@contextlib.contextmanager
def filter_of(node: Node) -> Iterator[Filter]:
    """A node's filter for the length of a with block."""
    made = Filter(node)
    try:
        yield made
    finally:
        made.close()


def pod_link(node: Node) -> str:
    """The host's end of the node's only pod."""
    (name,) = [name for name in node.links() if name.startswith("pw")]
    return name


def elements(
    me: str, peers: Iterable[str] = ("a", "b"), kept: Iterable[str] = ()
) -> tuple[Element, ...]:
    """What is wanted on a node that has these peers."""
    peers = tuple(peers)
    local = [ip_network(cidr) for cidr in PODS[me]]
    ranges = [ip_network(cidr) for peer in peers if peer in PODS for cidr in PODS[peer]]
    addresses = [
        ip_address(one) for peer in peers if peer != me for one in ADDRESSES[peer].values()
    ]
    own = cluster.desired_elements(local, ranges, map(ip_network, kept), [f"to-{other(me)}"])
    return (*own, *cluster.node_elements(addresses))


def other(me: str) -> str:
    return "b" if me == "a" else "a"


class World:
    """The picture above. pods: by node. more: keys of the pods' config."""

    def __init__(self, make_node: Callable[[str], Node], mode: str = "ptp", **more: object) -> None:
        self.a, self.b, self.outside = map(make_node, ("a", "b", "outside"))
        self.a.connect(self.b, _of("a"), _of("b"))
        self.a.connect(self.outside, _of("a outside"), _of("outside"))
        for node, peer in ((self.a, "b"), (self.b, "a")):
            node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            for cidr, via in zip(PODS[peer], ADDRESSES[peer].values(), strict=True):
                node.run("ip", "route", "add", cidr, "via", via)
        for version, via in ADDRESSES["a outside"].items():
            self.outside.run("ip", f"-{version}", "route", "add", "default", "via", via)
        self.pods: dict[str, Pod] = {}
        self.addresses: dict[str, dict[int, str]] = {}
        for name, node in (("a", self.a), ("b", self.b)):
            pod = self.pods[name] = node.pod()
            document = conf(mode, name="net", ipMasq=True, ipam=ipam(*PODS[name]), **more)
            result = Runtime(node, document).add(pod)
            self.addresses[name] = {version: address(result, version) for version in (4, 6)}


def _of(name: str) -> list[str]:
    return [f"{one}/{PREFIXES[version]}" for version, one in ADDRESSES[name].items()]


# Hears UDP on a port: who sent, with which TTL or hop limit, and what.
_EAR = """
import socket, struct, sys
ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ear.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE: whoever sends, all is heard
ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
ear.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL, linux/in.h
ear.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, ancillary, _flags, peer = ear.recvmsg(2048, 256)
    hops = next(struct.unpack("i", value[:4])[0] for _level, _kind, value in ancillary)
    print(peer[0].removeprefix("::ffff:"), hops, data.decode(), flush=True)
"""
_SEND = """
import socket, sys
to, port, *texts = sys.argv[1:]
sender = socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM)
for text in texts:
    sender.sendto(text.encode(), (to, int(port)))
"""


class Ear:
    """What was heard so far, (from, hops, text) each. Read by a thread, so that it never waits."""

    def __init__(self, output: IO[str]) -> None:
        self._lines: SimpleQueue[str] = SimpleQueue()
        self.thread = Thread(target=self._read, args=(output,))
        self.thread.start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line)

    def until(self, last: str) -> list[tuple[str, int, str]]:
        """What is heard up to the text `last`. Raises queue.Empty when it does not come."""
        heard: list[tuple[str, int, str]] = []
        while True:
            peer, hops, text = self._lines.get(timeout=LIMIT_S).rstrip().split(maxsplit=2)
            if text == last:
                return heard
            heard.append((peer, int(hops), text))


@contextlib.contextmanager
def hearing(place: Node | Pod, port: int = PORT) -> Iterator[Ear]:
    """Somebody listens on a UDP port."""
    process = place.spawn(sys.executable, "-I", "-c", _EAR, str(port), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        ear = Ear(process.stdout)
        try:
            yield ear
        finally:
            process.kill()
            ear.thread.join()
    finally:
        process.kill()
        process.communicate()


def say(place: Node | Pod, to: str, *texts: str, port: int = PORT) -> None:
    """Sends each text in a datagram."""
    place.run(sys.executable, "-I", "-c", _SEND, to, str(port), *texts)
