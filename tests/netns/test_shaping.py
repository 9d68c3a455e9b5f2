"""Limits of bandwidth on a real kernel: measured, checked, put back, and gone with the pod."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.netns.kit import (
    GATEWAYS,
    MODES,
    NODE_WIDE,
    POD6,
    Json,
    address,
    conf,
    env,
    host_end,
    left,
)
from tests.support import need
from tests.support.agent import running
from tests.support.node import Node, Pod, wait_until
from tests.support.runtime import Failed, Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
RATE = 20_000_000  # bits per second
LIMITS = {
    "ingressRate": RATE, "ingressBurst": 400_000, "egressRate": RATE, "egressBurst": 400_000,
}  # fmt: skip
CAPABILITY = {"capabilities": {"bandwidth": True}}
SENT = 1_000_000  # bytes: 0.4 s at that rate, of which the burst is a twentieth
SLOW, FAST = 1.25 * RATE, 4 * RATE  # at most, at least; unlimited it is some 100 times the rate
REPAIRED_S = 3.0
PORT = "9000"

# Takes a connection, tells the bits per second at which its bytes came.
_SINK = """
import socket, sys, time
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6,
                                dualstack_ipv6=True)
print("ready", flush=True)
call = listener.accept()[0]
call.settimeout(20)
begun, taken = time.monotonic(), 0
while data := call.recv(1 << 16):
    taken += len(data)
print(taken, 8 * taken / (time.monotonic() - begun), flush=True)
"""
_SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20) as call:
    call.sendall(bytes(int(sys.argv[3])))
"""


@pytest.fixture(autouse=True)
def _kernel() -> None:
    need.shaping()


def rate(source: Node | Pod, sink: Node | Pod, target: str) -> float:
    """Bits per second of payload from one place to another, by TCP."""
    python = (sys.executable, "-I", "-S", "-c")
    taking = sink.spawn(*python, _SINK, PORT, stdout=subprocess.PIPE)
    try:
        assert taking.stdout is not None
        assert taking.stdout.readline() == "ready\n"
        source.run(*python, _SOURCE, target, PORT, str(SENT))
        taken, bits_s = taking.stdout.readline().split()
        assert int(taken) == SENT
        return float(bits_s)
    finally:
        taking.kill()
        taking.communicate()


class Limited:
    """A pod with limits and its node."""

    def __init__(self, node: Node, document: Json, **capabilities: Any) -> None:
        self.node, self.pod = node, node.pod()
        self.network = Runtime(node, document)
        self.result = self.network.add(self.pod, capabilities=capabilities)
        self.host = host_end(self.result)
        self.egress, self.ingress = (prefix + self.host[2:] for prefix in ("pe", "pi"))

    def gets(self, version: int = 4) -> float:
        return rate(self.node, self.pod, address(self.result, version))

    def sends(self, version: int = 4) -> float:
        return rate(self.pod, self.node, GATEWAYS[version])

    def tc(self, line: str) -> None:
        self.node.run("tc", *line.split())

    def whole(self) -> bool:
        try:
            self.network.check(self.pod)
        except Failed:
            return False
        return True


# measured ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_both_directions_have_their_rate(node: Node, mode: str) -> None:
    limited = Limited(node, conf(mode, (4, 6), **CAPABILITY), bandwidth=LIMITS)
    for measured in (limited.gets(), limited.sends(), limited.gets(6), limited.sends(6)):
        assert RATE / 4 < measured < SLOW
    assert limited.pod.ping(GATEWAYS[4])


@pytest.mark.parametrize("mode", MODES)
def test_a_direction_without_a_rate_is_not_limited(node: Node, mode: str) -> None:
    keys = {key: value for key, value in LIMITS.items() if "egress" in key}
    limited = Limited(node, conf(mode, **keys))
    assert limited.sends() < SLOW
    assert limited.gets() > FAST


@pytest.mark.parametrize(("key", "slow"), [("unshapedSubnets", 4), ("shapedSubnets", 6)])
@pytest.mark.parametrize("mode", MODES)
def test_the_lists_say_with_whom(node: Node, mode: str, key: str, slow: int) -> None:
    peer = f"{GATEWAYS[6]}/128"  # and not the pod, so that it matters whose address is looked at
    limited = Limited(node, conf(mode, (4, 6), **LIMITS, **{key: [peer]}))
    for measure in (limited.gets, limited.sends):
        assert RATE / 4 < measure(slow) < SLOW
        assert measure(10 - slow) > FAST
    limited.network.check(limited.pod)


def test_a_burst_smaller_than_a_frame_lets_frames_pass(node: Node) -> None:
    tiny = dict.fromkeys(("ingressBurst", "egressBurst"), 1600)
    limited = Limited(node, conf(**LIMITS | tiny, mtu=600))  # below IPv6's least, too
    assert limited.pod.ping(GATEWAYS[4])
    assert limited.gets() < SLOW


@pytest.mark.parametrize("filled", [4294967295, 34359738359])
def test_a_burst_that_the_runtime_only_fills_in_lets_the_limit_bite_at_once(
    node: Node, filled: int
) -> None:
    asked = LIMITS | dict.fromkeys(("ingressBurst", "egressBurst"), filled)
    limited = Limited(node, conf(**CAPABILITY), bandwidth=asked)
    for measured in (limited.gets(), limited.sends()):
        assert RATE / 4 < measured < 2 * RATE  # a quarter of what is sent is the burst
    limited.network.check(limited.pod)


# as others see it --------------------------------------------------------------------------------


def test_tc_shows_what_was_asked(node: Node) -> None:
    limited = Limited(node, conf(**LIMITS | {"ingressBurst": 2_147_483_647}))
    shown = {
        qdisc["dev"]: qdisc for qdisc in node.json("tc", "-j", "qdisc") if qdisc["kind"] == "tbf"
    }
    assert {dev: qdisc["options"]["rate"] for dev, qdisc in shown.items()} == {
        limited.host: RATE // 8, limited.egress: RATE // 8,
    }  # fmt: skip
    assert shown[limited.egress]["options"]["burst"] == pytest.approx(50_000, rel=0.001)
    (filters,) = [
        one["options"]["actions"]
        for one in node.json("tc", "-j", "filter", "show", "dev", limited.host, "ingress")
        if "actions" in one.get("options", {})
    ]
    assert (filters[0]["kind"], filters[0]["to_dev"]) == ("mirred", limited.egress)
    link = node.link(limited.egress)
    assert link is not None
    assert link["linkinfo"]["info_kind"] == "ifb"
    assert link["ifalias"] == f"podwire-ifb net {limited.pod.container_id} eth0"
    assert node.addresses(limited.egress, link_local=True) == []
    limited.network.check(limited.pod)  # of kubelet's burst, the largest 32-bit number, the kernel
    # tells only a part: it takes longer than the 274 s that it can name


# CHECK -------------------------------------------------------------------------------------------

# (what happens, what CHECK must name)
DAMAGE: dict[str, tuple[Callable[[Limited], None], Callable[[Limited], str]]] = {
    "queue to the pod removed": (
        lambda it: it.tc(f"qdisc del dev {it.host} root"),
        lambda it: f"missing: tc qdisc add dev {it.host} root tbf rate {RATE}bit",
    ),
    "queue to the pod of another kind": (
        lambda it: it.tc(f"qdisc replace dev {it.host} root pfifo"),
        lambda it: f"missing: tc qdisc add dev {it.host} root tbf",
    ),
    "rate changed": (
        lambda it: it.tc(
            f"qdisc change dev {it.egress} root tbf rate 8mbit burst 50000b limit 112500b"
        ),
        lambda it: f"Tbf {it.egress}: rate wanted {RATE // 8}, found 1000000",
    ),
    "burst changed": (
        lambda it: it.tc(
            f"qdisc change dev {it.egress} root tbf rate {RATE}bit burst 60000b limit 112500b"
        ),
        lambda it: f"Tbf {it.egress}: burst wanted 50000, found 60000",
    ),
    "link from the pod removed": (
        lambda it: it.node.configure(f"link del {it.egress}"),
        lambda it: f"missing: ip link add {it.egress} type ifb",
    ),
    "link from the pod down": (
        lambda it: it.node.configure(f"link set {it.egress} down"),
        lambda it: f"missing: ip link set {it.egress} up",
    ),
    "filters removed": (
        lambda it: it.tc(f"filter del dev {it.host} ingress"),
        lambda it: f"missing: tc filter add dev {it.host} ingress match all",
    ),
    "hooks removed": (
        lambda it: it.tc(f"qdisc del dev {it.host} clsact"),
        lambda it: f"missing: tc filter add dev {it.host} ingress match all",
    ),
    "filter of another's link": (
        lambda it: it.tc(
            f"filter replace dev {it.host} ingress pref 28786 handle 800::800 protocol all"
            " u32 match u32 0 0 action mirred egress redirect dev lo"
        ),
        lambda it: f"Redirect {it.host} ingress: to wanted {it.egress}, found lo",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_names_what_differs(node: Node, damage: str) -> None:
    limited = Limited(node, conf(**LIMITS))
    limited.network.check(limited.pod)
    happen, told = DAMAGE[damage]
    happen(limited)
    with pytest.raises(Failed) as failure:
        limited.network.check(limited.pod)
    answer = failure.value.reply.json
    assert answer["code"] == 104
    assert told(limited) in f"{answer['msg']}; {answer['details']}"


def test_check_names_a_network_that_is_no_longer_left_out(node: Node) -> None:
    limited = Limited(node, conf(**LIMITS, unshapedSubnets=["192.0.2.0/24", POD6]))
    limited.tc(f"filter del dev {limited.host} ingress pref 28785")
    with pytest.raises(Failed, match=f"Redirect {limited.host} ingress: unshaped wanted"):
        limited.network.check(limited.pod)


# put back ----------------------------------------------------------------------------------------


@pytest.fixture
def watched(node: Node) -> Iterator[Limited]:
    """A limited pod on a node with an agent."""
    with running(node) as agent:
        yield Limited(node, conf(**LIMITS))
        agent.stop()


HEARD = [name for name in DAMAGE if "changed" not in name and "another's" not in name]


@pytest.mark.parametrize("damage", HEARD)
def test_the_agent_puts_it_back(watched: Limited, damage: str) -> None:
    DAMAGE[damage][0](watched)
    wait_until(watched.whole, f"whole again after: {damage}", REPAIRED_S)
    assert watched.sends() < SLOW
    assert watched.gets() < SLOW


# gone --------------------------------------------------------------------------------------------

GONE: dict[str, Callable[[Limited], None]] = {
    "nothing before": lambda _limited: None,
    "netns gone": lambda limited: limited.pod.remove(),
    "no record": lambda limited: shutil.rmtree(limited.node.path("/run/podwire")),
    "pair and record gone": lambda limited: (
        shutil.rmtree(limited.node.path("/run/podwire")),
        limited.node.configure(f"link del {limited.host}"),
    )[-1],
}


@pytest.mark.parametrize("before", GONE)
@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_nothing_is_left(node: Node, snapshot: Snap, verb: str, before: str) -> None:
    clean = snapshot()
    document = conf(**LIMITS, unshapedSubnets=[POD6])
    limited = Limited(node, document)
    assert {limited.egress, limited.ingress} < node.links()
    GONE[before](limited)
    if verb == "DEL":
        limited.network.delete(limited.pod)
    else:
        valid = {"cni.dev/valid-attachments": []}
        node.plugin("podwire", {"CNI_COMMAND": "GC"}, document | valid).ok()
    cached = r"|^files /var/lib/cni/results/"  # the runtime's, which it forgets by itself
    assert left(clean, snapshot(), kept=NODE_WIDE + cached) == []


def test_an_add_that_fails_leaves_nothing(node: Node, snapshot: Snap) -> None:
    """The pod's namespace is the last to be worked on: all that is on the host was there."""
    clean, pod = snapshot(), node.pod()
    document = conf(**LIMITS, sysctl={"net.ipv4.no_such_thing": "1"})
    reply = node.plugin("podwire", env("ADD", pod), document)
    assert reply.code == 103
    assert "sysctl -w net/ipv4/no_such_thing=1" in reply.json["msg"]
    assert left(clean, snapshot()) == []
    assert pod.links() == set()


def test_a_queue_whose_pair_is_gone_is_told_of(node: Node) -> None:
    limited = Limited(node, conf(**LIMITS))

    def told() -> list[str]:
        said = node.run(node.cni_bin / "podwire", "ipam", "check", "-o", "json", check=False).stdout
        return [one["where"] for one in json.loads(said) if one["code"] == "queue-without-link"]

    assert told() == []
    limited.pod.remove()
    wait_until(lambda: node.link(limited.host) is None, "the pair is gone with its namespace")
    assert told() == [limited.egress]
    limited.network.delete(limited.pod)
    assert told() == []
