"""Quick ADDs of pods that ask for ports and limits: as other ADDs, with numbers of their own."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from difflib import unified_diff
from typing import Any

import pytest

from cni_plugin.agent.stencils import KINDS_MAX, PORTS_MAX
from tests.agent.conftest import Call
from tests.agent.test_swift import ALONE, OFF, quick, settled
from tests.netns.kit import MODES, address, conf, host_end, ipam, left, listening, seen_as
from tests.support.agent import Agent, running
from tests.support.node import Node, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
Json = dict[str, Any]
CAPABLE = {"capabilities": {"portMappings": True, "bandwidth": True}}
LIMITS = {"ingressRate": 10**8, "ingressBurst": 10**7, "egressRate": 10**7, "egressBurst": 10**6}
WEB = 8080
NODE = {4: "192.0.2.1", 6: "2001:db8:1::1"}


def asking(document: Json, *ports: tuple[int, int, str], limits: Json | None = None) -> Json:
    """The config with what a runtime asks for one pod. ports: (host's, pod's, protocol)."""
    mappings = [{"hostPort": h, "containerPort": c, "protocol": p} for h, c, p in ports]
    asked = {"portMappings": mappings, **({"bandwidth": limits} if limits else {})}
    return {**document, "runtimeConfig": asked}


@pytest.mark.parametrize("versions", [(4,), (4, 6)])
@pytest.mark.parametrize("mode", MODES)
def test_each_has_its_own_port_and_nothing_is_left(
    node: Node, agent: Agent, call: Call, snapshot: Snap, mode: str, versions: tuple[int, ...]
) -> None:
    document = conf(mode, versions, ipMasq=True, **CAPABLE)
    for version in versions:
        node.configure(f"address add {NODE[version]} dev lo")
    for port in (7000, 7100):  # the second of a kind is worth a stencil
        settled(agent, node, asking(document, (port, WEB, "tcp"), limits=LIMITS))
    before = snapshot()
    pods = [node.pod(), node.pod()]
    wishes = [
        asking(document, (7001 + number, WEB + number, "tcp"), limits=LIMITS) for number in (0, 1)
    ]
    results = [agent.run("ADD", *one) for one in zip(pods, wishes, strict=True)]
    assert quick(agent, 4) == [False, False, True, True]
    for number, pod in enumerate(pods):
        with_result = {**wishes[number], "prevResult": results[number]}
        agent.run("CHECK", pod, with_result)
        call("CHECK", pod, with_result, **OFF).ok()
        with listening(pod, WEB + number):
            for version in versions:
                assert seen_as(node, NODE[version], 7001 + number) == NODE[version]
    call("DEL", pods[0], wishes[0], **OFF).ok()
    agent.run("DEL", pods[1], wishes[1])
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")


def test_a_quick_one_and_another_make_the_same(node: Node, agent: Agent, call: Call) -> None:
    """But for who they are for: queues, filters, elements, the answer and the record."""
    document = conf(versions=(4, 6), ipMasq=True, **CAPABLE)
    ports = ((53, 5353, "tcp"), (7000, WEB, "tcp"))
    wish = asking(document, *ports, limits={**LIMITS, "unshapedSubnets": ["192.0.2.0/24"]})
    pod = node.pod()
    found = []
    for environ in ({}, {}, {}, OFF):
        result = call("ADD", pod, wish, **environ).ok().json
        found.append(_shown(node, result))
        agent.run("DEL", pod, wish)
    assert quick(agent, 3) == [False, False, True]
    for other in found[1:]:
        assert [*unified_diff(found[0], other, n=0)] == []


# What no two links and records have in common, and what follows from the order of what was made.
_OWN = re.compile(
    r'^\d+: |@if\d+|ifindex \d+|link-netnsid \d+|"request":"\w*"|\bfh \S+|key ht \S+'
    r"|filter parent .*|index \d+ ref|\bht \S+|tbf \w+: |link/ether \S+"
)


def _shown(node: Node, result: Json) -> list[str]:
    """All there is of the only pod, line by line."""
    link = host_end(result)
    commands = (
        "sh -c cat%/run/podwire/attachments/net/*", "nft list ruleset", "tc qdisc show",
        f"tc filter show dev {link} ingress", f"tc filter show dev {link} egress",
        "ip -d link show type ifb",
    )  # fmt: skip
    shown = [str(result)]
    for command in commands:
        words = [word.replace("%", " ") for word in command.split()]
        shown += sorted(_OWN.sub("", line) for line in node.run(*words).stdout.splitlines())
    text = "\n".join(shown)
    for number, ip in enumerate(result["ips"]):
        own = ip["address"].partition("/")[0]
        text = re.sub(rf"{re.escape(own)}\b", f"ADDRESS{number}", text)
    return text.splitlines()


def test_limits_of_another_rate_are_another_kind(node: Node, agent: Agent) -> None:
    document = conf(**CAPABLE)
    settled(agent, node, asking(document, limits=LIMITS))
    for rate in (10**8, 10**9, 10**8, 10**9):
        pod = node.pod()
        result = agent.run("ADD", pod, asking(document, limits={**LIMITS, "ingressRate": rate}))
        shown = node.run("tc", "qdisc", "show", "dev", host_end(result)).stdout
        assert {10**8: "rate 100Mbit", 10**9: "rate 1Gbit"}[rate] in shown
    assert quick(agent, 5)[1:] == [False, False, True, True]


def test_a_port_whose_connections_have_to_follow_is_none_of_its_business(
    node: Node, agent: Agent
) -> None:
    document = conf(**CAPABLE)
    settled(agent, node, asking(document, (53, 5353, "udp")))
    for port, protocol in ((54, "udp"), (55, "tcp"), (56, "tcp")):
        agent.run("ADD", node.pod(), asking(document, (port, 5353, protocol)))
    assert quick(agent, 4) == [False, False, False, True]


def _descriptors(agent: Agent) -> int:
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))


def test_many_kinds_and_many_ports_go_the_general_way(node: Node, agent: Agent) -> None:
    document = conf(**CAPABLE)
    wishes = [asking(document, limits={**LIMITS, "ingressRate": 10**6 * n}) for n in range(1, 41)]
    pod = node.pod()
    settled(agent, node, document)
    before = _descriptors(agent)
    for wish in wishes * 3:
        agent.run("ADD", pod, wish)
        agent.run("DEL", pod, wish)
    told = quick(agent, 121)[1:]
    assert told[:40] == [False] * 40
    assert told[80:] == [True] * KINDS_MAX + [False] * (40 - KINDS_MAX)
    assert _descriptors(agent) - before < KINDS_MAX // 2, "all of them listen for the one bridge"
    many = [asking(document, *((7000 + n, WEB, "tcp") for n in range(PORTS_MAX + 1)))] * 3
    for wish in many:
        agent.run("ADD", pod, wish)
        agent.run("DEL", pod, wish)
    assert quick(agent, 124)[121:] == [False] * 3


def test_a_port_that_is_taken_costs_no_address(
    node: Node, agent: Agent, call: Call, snapshot: Snap
) -> None:
    document = conf(**CAPABLE)
    for port in (7000, 7100):
        settled(agent, node, asking(document, (port, WEB, "tcp")))
    first = agent.run("ADD", node.pod(), asking(document, (7001, WEB, "tcp")))
    before = snapshot()
    wish, late = asking(document, (7001, WEB, "tcp")), node.pod()
    for _ in range(3):
        answers = [call("ADD", late, wish, **environ) for environ in ({}, OFF)]
        assert [answer.returncode for answer in answers] == [1, 1]
        assert answers[0].json == answers[1].json
        assert "host port 7001/tcp" in answers[0].json["msg"]
    assert left(before, snapshot()) == []
    assert quick(agent, 6)[2:] == [True, False, False, False]
    assert address(first) == "10.244.0.4"


def test_a_wrong_wish_is_told_as_ever(node: Node, agent: Agent, call: Call, snapshot: Snap) -> None:
    document = conf(**CAPABLE)
    settled(agent, node, asking(document, (7000, WEB, "tcp")))
    before = snapshot()
    for wish in (
        asking(document, (70000, WEB, "tcp")),
        asking(document, (7001, WEB, "icmp")),
        asking(document, limits={"ingressRate": 1000}),
        {**document, "runtimeConfig": {"portMappings": {"hostPort": 1}}},
        {**document, "runtimeConfig": []},
    ):
        pod = node.pod()
        answers = [call("ADD", pod, wish, **environ) for environ in ({}, OFF)]
        assert [answer.returncode for answer in answers] == [1, 1], wish
        assert answers[0].json == answers[1].json
    assert left(before, snapshot()) == []


def test_of_many_at_once_each_has_its_port(node: Node, agent: Agent) -> None:
    document = conf(**CAPABLE)
    settled(agent, node, asking(document, (7000, WEB, "tcp"), limits=LIMITS))
    pods = [node.pod() for _ in range(24)]
    wishes = [asking(document, (7100 + n, WEB, "tcp"), limits=LIMITS) for n in range(24)]
    with ThreadPoolExecutor(12) as crowd:
        results = [*crowd.map(lambda one: agent.run("ADD", *one), zip(pods, wishes, strict=True))]
    rules = node.run("nft", "list", "map", "inet", "podwire", "hostports4").stdout
    for number, result in enumerate(results):
        assert f"tcp . {7100 + number} " in rules
        assert f": {address(result)} . {WEB}" in rules
    assert len({address(result) for result in results}) == 24


def test_what_stumbles_again_and_again_goes_the_general_way(node: Node, call: Call) -> None:
    """A second interface that wants a route which the pod has by its first one; and no address is
    lost to what was tried."""
    one = conf()
    other = conf(name="other", bridge="cni1", ipam=ipam("10.245.0.0/24"))
    with running(node, ALONE) as agent:
        for document in (one, other):
            settled(agent, node, document)
        for number in range(6):
            pod = node.pod()
            agent.run("ADD", pod, one)
            result = agent.run("ADD", pod, other, ifname="net1")
            assert address(result) == f"10.245.0.{number + 3}"
        assert quick(agent, 14)[2:] == [True, False] * 6
