"""Ports of the node that lead to a pod: real sockets, every caller, and gone with the pod."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.record import REMOVING
from tests.netns.kit import (
    GATEWAYS,
    MODES,
    NODE_WIDE,
    PORT,
    SUBNETS,
    Json,
    address,
    conf,
    env,
    host_end,
    left,
    listening,
    running_python,
    seen_as,
)
from tests.support import need
from tests.support.agent import running
from tests.support.node import Node, Pod, open_node, wait_until
from tests.support.runtime import Failed, Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
NODE = {4: "192.0.2.1", 6: "2001:db8:1::1"}  # the node's address on the cable to the outside
SECOND = {4: "192.0.2.3", 6: "2001:db8:1::3"}  # and another one
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
LENGTH = {4: 24, 6: 64}
VERSIONS = (4, 6)
REPAIRED_S = 3.0
CAPABILITY = {"capabilities": {"portMappings": True}}

# Answers each datagram with a word of its own and the caller's address.
_UDP_SERVER = """
import socket, sys
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind((sys.argv[3], int(sys.argv[1])))
print("ready", flush=True)
while True:
    _, peer = server.recvfrom(64)
    server.sendto((sys.argv[2] + " " + peer[0].removeprefix("::ffff:")).encode(), peer)
"""
# For each line on stdin sends a datagram by one and the same socket, and tells the answer.
_UDP_CALLER = """
import socket, sys
call = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
call.connect((sys.argv[1], int(sys.argv[2])))
call.settimeout(0.4)
print("ready", flush=True)
for _ in sys.stdin:
    try:
        call.send(b"?")
        print(call.recv(64).decode(), flush=True)
    except OSError:
        print("nobody", flush=True)
"""


@contextmanager
def udp_listening(
    place: Node | Pod, port: int = PORT, word: str = "pod", at: str = "::"
) -> Iterator[None]:
    """A server in the namespace that answers `WORD CALLER`."""
    at = at if ":" in at else f"::ffff:{at}"
    with running_python(place, _UDP_SERVER, str(port), word, at):
        yield


class Caller:
    """One UDP socket that goes on sending, as a client that never gives up."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self) -> str:
        """The answer to one datagram: `WORD CALLER`, or nobody."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextmanager
def calling(place: Node | Pod, target: str, port: int) -> Iterator[Caller]:
    """A caller of the target, in the namespace."""
    with running_python(place, _UDP_CALLER, target, str(port)) as process:
        yield Caller(process)


def mapping(port: int, to: int = PORT, protocol: str = "tcp", at: str = "") -> Json:
    """As containerd sends one."""
    return {"hostPort": port, "containerPort": to, "protocol": protocol, "hostIP": at}


def mapped(network: Runtime, pod: Pod, *mappings: Json) -> Json:
    """ADD with these mappings."""
    return network.add(pod, capabilities={"portMappings": list(mappings)})


@contextmanager
def cabled(node: Node, cni_bin: Path) -> Iterator[Node]:
    """The outside: a node that has the node for its router and knows nothing of pods."""
    with open_node("outside", cni_bin) as outside:
        node.connect(
            outside,
            [f"{place[v]}/{LENGTH[v]}" for place in (NODE, SECOND) for v in VERSIONS],
            [f"{OUTSIDE[v]}/{LENGTH[v]}" for v in VERSIONS],
        )
        for version in VERSIONS:
            node.configure(f"-{version} route add default via {OUTSIDE[version]}")
        yield outside


@dataclass
class Site:
    """A node, its outside, a pod with host ports and a pod without."""

    mode: str
    node: Node
    outside: Node
    network: Runtime
    pods: tuple[Pod, Pod]
    results: tuple[Json, Json]


BRIDGE_NF = {4: "net.bridge.bridge-nf-call-iptables", 6: "net.bridge.bridge-nf-call-ip6tables"}


@pytest.fixture(params=[False, True], ids=["bridge unfiltered", "bridge filtered"])
def filtered(request: pytest.FixtureRequest, site: Site, version: int) -> Iterator[bool]:
    """Whether bridged packets pass the rules (br_netfilter), so that answers on a bridge do too."""
    if site.mode == "ptp" and request.param:
        pytest.skip("ptp has no bridge")
    path = BRIDGE_NF[version].replace(".", "/")
    if site.node.run("test", "-e", f"/proc/sys/{path}", check=False).returncode:
        if request.param:
            pytest.skip("br_netfilter is not loaded")
        yield False
        return
    before = site.node.sysctl(path)
    site.node.run("sysctl", "-qw", f"{BRIDGE_NF[version]}={int(request.param)}")
    yield request.param
    site.node.run("sysctl", "-qw", f"{BRIDGE_NF[version]}={before}")


HTTP, DNS, AT_SECOND = 80, 53, 443
MAPPINGS = (
    mapping(HTTP),
    mapping(DNS, protocol="udp"),
    *(mapping(AT_SECOND, at=SECOND[version]) for version in VERSIONS),
)


@pytest.fixture(scope="module", params=MODES)
def site(request: pytest.FixtureRequest, cni_bin: Path, sandbox_unchanged: None) -> Iterator[Site]:
    with ExitStack() as stack:
        node = stack.enter_context(open_node("node", cni_bin))
        outside = stack.enter_context(cabled(node, cni_bin))
        network = Runtime(node, conf(request.param, VERSIONS, ipMasq=True, **CAPABILITY))
        first, second = node.pod(), node.pod()
        results = (mapped(network, first, *MAPPINGS), network.add(second))
        for place in (first, outside):
            stack.enter_context(listening(place))
        stack.enter_context(udp_listening(first))
        stack.enter_context(listening(outside, HTTP))
        yield Site(request.param, node, outside, network, (first, second), results)


@pytest.mark.parametrize("version", VERSIONS)
class TestCallers:
    def test_the_outside_comes_in_and_is_seen_as_itself(self, site: Site, version: int) -> None:
        for place in (NODE, SECOND):
            assert seen_as(site.outside, place[version], HTTP) == OUTSIDE[version]

    def test_udp_from_outside(self, site: Site, version: int) -> None:
        with calling(site.outside, NODE[version], DNS) as caller:
            assert caller.ask() == f"pod {OUTSIDE[version]}"

    def test_the_node_itself(self, site: Site, version: int) -> None:
        assert seen_as(site.node, NODE[version], HTTP) == NODE[version]
        assert seen_as(site.node, GATEWAYS[version], HTTP) == GATEWAYS[version]
        with calling(site.node, NODE[version], DNS) as caller:
            assert caller.ask() == f"pod {NODE[version]}"

    def test_a_pod_calls_itself(self, site: Site, version: int, filtered: bool) -> None:
        for target in (NODE[version], GATEWAYS[version]):
            assert seen_as(site.pods[0], target, HTTP) == GATEWAYS[version]
        with calling(site.pods[0], NODE[version], DNS) as caller:
            assert caller.ask() == f"pod {GATEWAYS[version]}"

    def test_a_neighbour_calls(self, site: Site, version: int, filtered: bool) -> None:
        own = address(site.results[1], version)
        # On a bridge the answer would go past the node, so the caller is hidden; else it need not.
        seen = GATEWAYS[version] if site.mode == "bridge" and not filtered else own
        assert seen_as(site.pods[1], NODE[version], HTTP) == seen
        assert seen_as(site.pods[1], GATEWAYS[version], HTTP) == seen
        with calling(site.pods[1], NODE[version], DNS) as caller:
            assert caller.ask() == f"pod {seen}"

    def test_a_host_ip_is_the_only_way_in(self, site: Site, version: int) -> None:
        assert seen_as(site.outside, SECOND[version], AT_SECOND) == OUTSIDE[version]
        assert seen_as(site.node, SECOND[version], AT_SECOND) in (NODE[version], SECOND[version])
        for place in (site.outside, site.node, site.pods[1]):
            assert seen_as(place, NODE[version], AT_SECOND, limit_s=0.5) == ""

    def test_what_is_for_others_passes(self, site: Site, version: int) -> None:
        """Another host's port of the same number, called from a pod, and from the node."""
        for place in (site.pods[1], site.node):
            assert seen_as(place, OUTSIDE[version], HTTP) in (NODE[version], SECOND[version])
        own = address(site.results[1], version)
        back = f"-{version} route add {SUBNETS[version]} via {NODE[version]}"
        site.outside.configure(back)
        try:
            with listening(site.pods[1], HTTP):
                assert seen_as(site.outside, own, HTTP) == OUTSIDE[version]
                assert seen_as(site.node, own, HTTP) == GATEWAYS[version]
        finally:
            site.outside.configure(back.replace(" add ", " del "))

    def test_another_port_and_protocol_lead_nowhere(self, site: Site, version: int) -> None:
        assert seen_as(site.outside, NODE[version], HTTP + 1, limit_s=0.5) == ""
        assert seen_as(site.outside, NODE[version], DNS, limit_s=0.5) == ""

    def test_loopback_leads_to_no_pod(self, site: Site, version: int) -> None:
        loopback = {4: "127.0.0.1", 6: "::1"}[version]
        assert seen_as(site.node, loopback, HTTP, limit_s=0.5) == ""
        with listening(site.node, HTTP):
            assert seen_as(site.node, loopback, HTTP) == loopback
            assert seen_as(site.outside, NODE[version], HTTP) == OUTSIDE[version]


def test_loopback_is_not_routed(site: Site) -> None:
    (shown,) = site.node.run(
        "sh", "-c", "cat /proc/sys/net/ipv4/conf/*/route_localnet | sort -u"
    ).stdout.split()
    assert shown == "0"


def test_check_is_content(site: Site) -> None:
    for pod in site.pods:
        site.network.check(pod)


def test_nft_shows_them_as_others_write_them(site: Site) -> None:
    own = address(site.results[0])
    shown = site.node.run("nft", "list", "table", "inet", "podwire").stdout
    link = host_end(site.results[0])
    assert f'tcp . {HTTP} comment "{link}" : {own} . {PORT}' in shown
    assert f'{SECOND[4]} . tcp . {AT_SECOND} comment "{link}" : {own} . {PORT}' in shown
    assert "dnat ip to ip daddr . meta l4proto . th dport map @hostports4_at" in shown
    assert "dnat ip6 to meta l4proto . th dport map @hostports6" in shown
    assert shown.count("fib daddr type local jump host-ports") == 2


# with others -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_service_with_the_same_port_keeps_it(node: Node, cni_bin: Path, mode: str) -> None:
    network = Runtime(node, conf(mode, **CAPABILITY))
    with cabled(node, cni_bin) as outside:
        chosen, other = node.pod(), node.pod()
        mapped(network, chosen, mapping(HTTP))
        target = address(network.add(other))
        rules = f"""
        table ip services {{
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat;
                ip daddr {NODE[4]} tcp dport {HTTP} dnat to {target}:9090
            }}
            chain nat-output {{
                type nat hook output priority -100;
                ip daddr {NODE[4]} tcp dport {HTTP} dnat to {target}:9090
            }}
        }}"""
        with listening(chosen):
            assert seen_as(outside, NODE[4], HTTP) == OUTSIDE[4]
            node.run("nft", "-f", "-", stdin=rules)
            for place in (outside, node):
                assert seen_as(place, NODE[4], HTTP, limit_s=0.5) == ""
            with listening(other, 9090):
                for place in (outside, node):
                    assert seen_as(place, NODE[4], HTTP) in (OUTSIDE[4], NODE[4])
            assert seen_as(outside, SECOND[4], HTTP) == OUTSIDE[4]  # which the Service has not


def test_all_in_one_plugin(node: Node, cni_bin: Path) -> None:
    """Masquerade, limits and ports together."""
    need.shaping()
    limits = {
        "ingressRate": 20_000_000, "ingressBurst": 400_000,
        "egressRate": 20_000_000, "egressBurst": 400_000,
    }  # fmt: skip
    capabilities = {"bandwidth": True, "portMappings": True}
    network = Runtime(node, conf("bridge", VERSIONS, ipMasq=True, capabilities=capabilities))
    with cabled(node, cni_bin) as outside:
        pod = node.pod()
        ports = [mapping(HTTP), mapping(DNS, protocol="udp")]
        network.add(pod, capabilities={"bandwidth": limits, "portMappings": ports})
        network.check(pod)
        with listening(pod), listening(outside):
            for version in VERSIONS:
                assert seen_as(outside, NODE[version], HTTP) == OUTSIDE[version]
                assert seen_as(pod, OUTSIDE[version]) in (NODE[version], SECOND[version])
        network.delete(pod)


def test_who_calls_the_pod_itself_is_not_hidden(node: Node) -> None:
    """From another network on the same bridge, so that the node routes it back to where it came
    from."""
    subnet = {"type": "podwire-ipam", "subnet": "10.244.9.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    network = Runtime(node, conf(**CAPABILITY))
    other = Runtime(node, conf(name="other", ipam=subnet))
    pod, caller = node.pod(), node.pod()
    target = address(mapped(network, pod, mapping(HTTP)))
    own = address(other.add(caller))
    with listening(pod):
        assert seen_as(caller, target) == own


def test_without_snat_nobody_is_hidden(node: Node) -> None:
    network, pod = Runtime(node, conf(snat=False, **CAPABILITY)), node.pod()
    mapped(network, pod, mapping(HTTP))
    with listening(pod):
        assert seen_as(node, GATEWAYS[4], HTTP) == GATEWAYS[4]
        assert seen_as(pod, GATEWAYS[4], HTTP, limit_s=0.5) == ""
    network.check(pod)


@pytest.mark.parametrize("mode", MODES)
def test_sctp(node: Node, mode: str) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        pytest.skip(f"this kernel has no SCTP: {error}")
    network, pod = Runtime(node, conf(mode, **CAPABILITY)), node.pod()
    mapped(network, pod, mapping(HTTP, protocol="sctp"))
    server = """
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
listener.bind(("0.0.0.0", 8080)); listener.listen()
print("ready", flush=True)
caller, peer = listener.accept()
caller.sendall(peer[0].encode())
"""
    client = f"""
import socket
call = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
call.settimeout(3); call.connect(("{GATEWAYS[4]}", {HTTP}))
print(call.recv(64).decode())
"""
    with running_python(pod, server):
        called = node.run(sys.executable, "-I", "-S", "-c", client)
        assert called.stdout.strip() == GATEWAYS[4]
    network.delete(pod)


# whose port it is --------------------------------------------------------------------------------

ANYWHERE, HERE, THERE = "", SECOND[4], NODE[4]
# (what one pod has, what another wants, whether it may)
PAIRS = {
    "the same": (mapping(80), mapping(80, 81), False),
    "everywhere, then at one address": (mapping(80), mapping(80, at=HERE), False),
    "at one address, then everywhere": (mapping(80, at=HERE), mapping(80), False),
    "at one address, then at all of IPv4": (mapping(80, at=HERE), mapping(80, at="0.0.0.0"), False),
    "at the same address": (mapping(80, at=HERE), mapping(80, at=HERE), False),
    "at two addresses": (mapping(80, at=HERE), mapping(80, at=THERE), True),
    "of two protocols": (mapping(80), mapping(80, protocol="udp"), True),
    "of two IP versions": (mapping(80, at="0.0.0.0"), mapping(80, at="::"), True),
    "of two numbers": (mapping(80), mapping(81), True),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_a_port_has_one_pod(node: Node, snapshot: Snap, pair: str) -> None:
    has, wants, may = PAIRS[pair]
    network = Runtime(node, conf("bridge", VERSIONS, **CAPABILITY))
    first, second = node.pod(), node.pod()
    result = mapped(network, first, has)
    before = snapshot()
    if may:
        mapped(network, second, wants)
        network.check(second)
        network.delete(second)
    else:
        with pytest.raises(Failed) as failure:
            mapped(network, second, wants)
        assert failure.value.code == 105
        message = failure.value.reply.json["msg"]
        assert message.startswith("host port 80/tcp of ")
        assert f"is taken by eth0 of {first.container_id} (network net, " in message
        assert host_end(result) in message
        assert second.links() == set()
    assert left(before, snapshot()) == []
    network.delete(second)  # as a runtime does after a failure
    assert left(before, snapshot()) == []
    network.check(first)
    network.delete(first)
    mapped(network, second, wants)
    network.check(second)


def test_a_port_whose_pod_died_says_so(node: Node) -> None:
    network = Runtime(node, conf(**CAPABILITY))
    first, second = node.pod(), node.pod()
    link = host_end(mapped(network, first, mapping(80)))
    first.remove()
    wait_until(lambda: node.link(link) is None, "the pair is gone with its namespace")
    with pytest.raises(Failed, match=f"is taken by link {link}, which is not there now"):
        mapped(network, second, mapping(80))
    network.delete(first)
    mapped(network, second, mapping(80))


@pytest.mark.parametrize(
    "wishes",
    [
        [mapping(80)] * 6,
        [mapping(80), mapping(80, at=HERE)] * 3,
        [mapping(80, at=HERE)] * 6,
    ],
    ids=["everywhere", "everywhere and at one address", "at one address"],
)
def test_of_many_at_once_exactly_one_has_it(node: Node, snapshot: Snap, wishes: list[Json]) -> None:
    network = Runtime(node, conf(**CAPABILITY))
    warm = node.pod()
    network.add(warm)
    before = snapshot()
    pods = [node.pod() for _ in wishes]
    with ThreadPoolExecutor(len(pods)) as pool:
        replies = list(
            pool.map(
                lambda pod, wish: node.plugin(
                    "podwire", env("ADD", pod),
                    network.config(
                        network.conflist["plugins"][0], {"portMappings": [wish]}, None
                    ),
                ),
                pods, wishes,
            )
        )  # fmt: skip
    codes = [reply.code for reply in replies]
    assert sorted(codes, key=str) == [*[105] * (len(pods) - 1), None]
    for pod in pods:
        network.delete(pod)
    assert left(before, snapshot()) == []


# what is remembered of connections ---------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("at", ["everywhere", "one address"])
def test_a_caller_that_goes_on_reaches_who_has_the_port(
    node: Node, cni_bin: Path, version: int, at: str
) -> None:
    network = Runtime(node, conf("bridge", VERSIONS, **CAPABILITY))
    host_ip = NODE[version] if at == "one address" else ""
    port = mapping(DNS, protocol="udp", at=host_ip)
    with cabled(node, cni_bin) as outside, calling(outside, NODE[version], DNS) as caller:
        with udp_listening(node, DNS, "node", NODE[version]):
            assert caller.ask() == f"node {OUTSIDE[version]}"
        for word in ("one", "two"):
            pod = node.pod()
            mapped(network, pod, port)
            with udp_listening(pod, word=word):
                assert caller.ask() == f"{word} {OUTSIDE[version]}"
            network.delete(pod)
        with udp_listening(node, DNS, "node", NODE[version]):
            assert caller.ask() == f"node {OUTSIDE[version]}"


_LATE = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 53))
print("ready", flush=True)
_, peer = server.recvfrom(64)
print("asked", flush=True)
sys.stdin.readline()
server.sendto(b"late", peer)
"""
_ASK = """
import socket
call = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
call.settimeout(20)
call.sendto(b"?", ("192.0.2.2", 53))
print("ready", flush=True)
print(call.recv(64).decode(), flush=True)
"""


def test_connections_of_others_are_kept(node: Node, cni_bin: Path) -> None:
    """A pod that asks a server outside, at a port of the same number."""
    network = Runtime(node, conf("bridge", ipMasq=True, **CAPABILITY))
    with cabled(node, cni_bin) as outside:
        asking, serving = node.pod(), node.pod()
        network.add(asking)
        with running_python(outside, _LATE) as server, running_python(asking, _ASK) as client:
            assert server.stdout is not None
            assert server.stdout.readline() == "asked\n"
            mapped(network, serving, mapping(DNS, protocol="udp"))
            network.delete(serving)
            server.communicate("\n", timeout=5)
            assert client.communicate(timeout=5)[0] == "late\n"


# CHECK and repair --------------------------------------------------------------------------------


class Scene:
    """A pod with host ports and its node."""

    def __init__(self, node: Node, mode: str = "bridge") -> None:
        self.node, self.pod = node, node.pod()
        self.network = Runtime(node, conf(mode, VERSIONS, **CAPABILITY))
        at = mapping(HTTP, at="::") | {"hostIP": "192.0.2.1"}
        self.result = mapped(self.network, self.pod, mapping(DNS, protocol="udp"), at)
        self.own = address(self.result)

    def nft(self, line: str) -> None:
        self.node.run("nft", *line.split())

    def whole(self) -> bool:
        try:
            self.network.check(self.pod)
        except Failed:
            return False
        return True


DAMAGE: dict[str, tuple[str, str]] = {
    "port removed": (
        "delete element inet podwire hostports4 { udp . 53 }",
        "missing: nft add element inet podwire hostports4 { udp . 53 : OWN . 8080 }",
    ),
    "port of one address removed": (
        "delete element inet podwire hostports4_at { 192.0.2.1 . tcp . 80 }",
        "missing: nft add element inet podwire hostports4_at { 192.0.2.1 . tcp . 80 : OWN . 8080 }",
    ),
    "hairpin removed": (
        "delete element inet podwire hairpin4 { OWN . OWN }",
        "missing: nft add element inet podwire hairpin4 { OWN . OWN }",
    ),
    "neighbour removed": (
        "delete element inet podwire near6 { cni0 . OWN6 }",
        "missing: nft add element inet podwire near6 { cni0 . OWN6 }",
    ),
    "rules flushed": (
        "flush chain inet podwire host-ports",
        "RuleChain inet host-ports: the rules are not the ones podwire writes",
    ),
    "hook removed": (
        "delete chain inet podwire host-ports-in",
        "missing: nft add chain inet podwire host-ports-in (1 rules)",
    ),
    "ruleset flushed": ("flush ruleset", "missing: nft add"),
}


def _happen(scene: Scene, damage: str) -> str:
    """Does it; what CHECK must name."""
    line, told = (
        text.replace("OWN6", address(scene.result, 6)).replace("OWN", scene.own)
        for text in DAMAGE[damage]
    )
    scene.nft(line)
    return told


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_names_what_is_missing(node: Node, damage: str) -> None:
    scene = Scene(node)
    assert scene.whole()
    told = _happen(scene, damage)
    with pytest.raises(Failed) as failure:
        scene.network.check(scene.pod)
    answer = failure.value.reply.json
    assert answer["code"] == 104
    assert told in f"{answer['msg']}; {answer['details']}"


def test_check_names_a_port_that_leads_elsewhere(node: Node) -> None:
    scene = Scene(node)
    scene.nft("delete element inet podwire hostports4 { udp . 53 }")
    scene.nft("add element inet podwire hostports4 { udp . 53 : 10.244.0.99 . 1 }")
    with pytest.raises(Failed, match=r"Element inet hostports4 udp/53: .*wanted.*10\.244\.0\.99"):
        scene.network.check(scene.pod)


@pytest.mark.parametrize("mode", MODES)
def test_the_agent_puts_them_back(node: Node, mode: str) -> None:
    with running(node) as agent:
        scene = Scene(node, mode)
        for damage in DAMAGE:
            if mode == "ptp" and damage == "neighbour removed":
                continue
            _happen(scene, damage)
            wait_until(scene.whole, f"whole again after: {damage}", REPAIRED_S)
        with udp_listening(scene.pod), calling(node, GATEWAYS[4], DNS) as caller:
            assert caller.ask() == f"pod {GATEWAYS[4]}"
        agent.stop()


def test_repair_takes_no_port_from_another(node: Node) -> None:
    """After a flush another pod was quicker: who has it keeps it, and the loss is told."""
    with running(node) as agent:
        scene, quicker = Scene(node), node.pod()
        agent.process.send_signal(19)
        try:
            scene.nft("flush ruleset")
            mapped(scene.network, quicker, mapping(DNS, protocol="udp"))
        finally:
            agent.process.send_signal(18)
        told = "host port 53/udp of every IPv4 address is taken by eth0 of"
        wait_until(lambda: any(told in line for line in agent.rounds("repair")), "told", REPAIRED_S)
        scene.network.check(quicker)
        scene.network.delete(scene.pod)
        scene.network.check(quicker)
        agent.stop()


def test_a_removal_that_is_begun_again_takes_no_port_from_another(node: Node) -> None:
    """The first one took the port away and was cut off; another pod was quicker than the second."""
    scene, quicker = Scene(node), node.pod()
    records = DiskRecords(str(node.path("/run/podwire")))
    record = records.load("net", Attachment(scene.pod.container_id, "eth0"))
    assert record is not None
    records.save(record._replace(phase=REMOVING))
    scene.nft("delete element inet podwire hostports4 { udp . 53 }")
    mapped(scene.network, quicker, mapping(DNS, protocol="udp", at="0.0.0.0"))
    scene.network.delete(scene.pod)
    scene.network.check(quicker)


# gone --------------------------------------------------------------------------------------------

GONE: dict[str, Callable[[Scene], None]] = {
    "nothing before": lambda _scene: None,
    "netns gone": lambda scene: scene.pod.remove(),
    "no record": lambda scene: shutil.rmtree(scene.node.path("/run/podwire")),
    "ruleset flushed": lambda scene: scene.nft("flush ruleset"),
}


@pytest.mark.parametrize("before", GONE)
@pytest.mark.parametrize("verb", ["DEL", "GC"])
@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_left(node: Node, snapshot: Snap, mode: str, verb: str, before: str) -> None:
    clean = snapshot()
    scene = Scene(node, mode)
    GONE[before](scene)
    if verb == "DEL":
        scene.network.delete(scene.pod, forget=True)
        scene.network.delete(scene.pod, forget=True)
    else:
        valid = {"cni.dev/valid-attachments": []}
        document = conf(mode, VERSIONS, **CAPABILITY) | valid
        node.plugin("podwire", {"CNI_COMMAND": "GC"}, document).ok()
    cached = r"|^files /var/lib/cni/results/"  # the runtime's, which it forgets by itself
    assert left(clean, snapshot(), kept=NODE_WIDE + cached) == []


def test_an_add_that_fails_later_leaves_nothing(node: Node, snapshot: Snap) -> None:
    clean, pod = snapshot(), node.pod()
    document = conf(sysctl={"net.ipv4.no_such_thing": "1"}, **CAPABILITY)
    document["runtimeConfig"] = {"portMappings": [mapping(HTTP), mapping(DNS, protocol="udp")]}
    assert node.plugin("podwire", env("ADD", pod), document).code == 103
    assert left(clean, snapshot()) == []


def test_as_many_as_there_may_be(node: Node, snapshot: Snap) -> None:
    clean = snapshot()
    network, pod = Runtime(node, conf("bridge", VERSIONS, **CAPABILITY)), node.pod()
    many = [mapping(1000 + index, protocol="udp") for index in range(128)]
    many += [mapping(1000 + index, at=SECOND[4]) for index in range(128)]
    mapped(network, pod, *many)
    network.check(pod)
    network.delete(pod)
    assert left(clean, snapshot()) == []


# refused -----------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, int, str]] = {
    "port 0": ([mapping(0)], 7, "runtimeConfig.portMappings[0].hostPort is 0"),
    "twice": (
        [mapping(80), mapping(80, 81)], 7, "runtimeConfig.portMappings[1].hostPort is 80",
    ),
    "another IP version": (
        [mapping(80), mapping(81, at="2001:db8::1")], 7,
        "runtimeConfig.portMappings[1].hostIP is 2001:db8::1",
    ),
    "loopback": (
        [mapping(80, at="127.0.0.1")], 2, 'runtimeConfig.portMappings[0].hostIP is "127.0.0.1"',
    ),
}  # fmt: skip


@pytest.mark.parametrize("asked", REFUSED)
def test_a_wrong_request_changes_nothing(node: Node, snapshot: Snap, asked: str) -> None:
    clean, pod = snapshot(), node.pod()
    mappings, code, told = REFUSED[asked]
    document = conf(**CAPABILITY) | {"runtimeConfig": {"portMappings": mappings}}
    reply = node.plugin("podwire", env("ADD", pod), document)
    assert reply.code == code
    assert told in json.dumps(reply.json, ensure_ascii=False).replace('\\"', '"')
    assert left(clean, snapshot()) == []
