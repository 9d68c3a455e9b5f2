"""Quick ADDs: they leave what other ADDs leave, and what is not as always is met by those."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from cni_plugin.kernel.host import RECENT_S
from tests.agent.conftest import Call
from tests.netns.kit import MODES, POD4, address, conf, host_end, ipam, left
from tests.support.agent import Agent, running
from tests.support.node import Node, Pod, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
OFF = {"PODWIRE_AGENT": "off"}
# What a test takes away is not to be put back before the next ADD meets it.
ALONE = "metrics: 'off'\nrepair: false\nlog: {format: json, level: debug}\n"


def quick(agent: Agent, wanted: int) -> list[bool]:
    """Of each ADD in the agent's log, whether it was quick: the others read the config first."""

    def found() -> list[bool]:
        calls = [line for line in agent.log() if line["message"] == "call"]
        return ["config_ms" not in line for line in calls if line["verb"] == "ADD"]

    wait_until(lambda: len(found()) == wanted, "each ADD is told")
    return found()


def settled(agent: Agent, node: Node, document: dict[str, Any]) -> None:
    """The bridge and the rules are there, the config is known."""
    first = node.pod()
    agent.run("ADD", first, document)


@pytest.mark.parametrize("masq", [False, True])
@pytest.mark.parametrize("versions", [(4,), (6,), (4, 6)])
@pytest.mark.parametrize("mode", MODES)
def test_it_passes_check_talks_and_leaves_nothing(
    node: Node,
    agent: Agent,
    call: Call,
    snapshot: Snap,
    mode: str,
    versions: tuple[int, ...],
    masq: bool,
) -> None:
    document = conf(mode, versions, ipMasq=masq)
    settled(agent, node, document)
    before = snapshot()
    one, other = node.pod(), node.pod()
    results = {pod.name: agent.run("ADD", pod, document) for pod in (one, other)}
    assert quick(agent, 3)[1:] == [True, True]
    for pod in (one, other):
        with_result = {**document, "prevResult": results[pod.name]}
        agent.run("CHECK", pod, with_result)
        call("CHECK", pod, with_result, **OFF).ok()
    for version in versions:
        assert one.ping(address(results[other.name], version))
    call("DEL", one, document, **OFF).ok()
    agent.run("DEL", other, document)
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")


def test_a_quick_one_and_another_make_the_same(
    node: Node, agent: Agent, call: Call, snapshot: Snap
) -> None:
    """But for who they are for."""
    document = conf(versions=(4, 6), ipMasq=True)
    settled(agent, node, document)
    pod = node.pod()
    quick_one = agent.run("ADD", pod, document)
    assert quick(agent, 2)[1]
    seen = _of(pod, quick_one)
    agent.run("DEL", pod, document)
    other = call("ADD", pod, document, **OFF).ok().json
    assert _of(pod, other) == _with(seen, quick_one, other)


def _of(pod: Pod, result: Any) -> str:
    """What the pod's namespace holds, and the answer, as text."""
    commands = ("-d link show eth0", "address show dev eth0", "route", "-6 route", "neigh")
    shown = (pod.run("ip", *command.split()).stdout for command in commands)
    return re.sub(
        r"(?m)eth0@if\d+|^\d+:|link-netnsid \d+|cni-[0-9a-f-]+",
        "",
        "\n".join((*shown, str(result))),
    )


def _with(text: str, old: Any, new: Any) -> str:
    for was, now in zip(old["ips"], new["ips"], strict=True):
        text = text.replace(was["address"].partition("/")[0], now["address"].partition("/")[0])
    return text


@pytest.mark.parametrize(
    "damage",
    [
        "ip link delete cni0",
        "ip address flush dev cni0",
        "ip link set cni0 down",
        "ip link set cni0 mtu 1400",
        "nft flush ruleset",
        "nft flush chain bridge podwire ip-guard",
        "nft delete chain bridge podwire prerouting",
        "nft add table inet other",
        "sysctl -w net.ipv4.ip_forward=0",
        "rm -r /var/lib/cni/networks/net",
        "rm -r /run/podwire/locks /run/podwire/attachments",
    ],
)
def test_what_is_not_as_it_was_is_put_right_by_the_next(
    node: Node, call: Call, damage: str
) -> None:
    document = conf(versions=(4,), ipMasq=True)
    with running(node, ALONE) as agent:
        settled(agent, node, document)
        agent.run("ADD", node.pod(), document)
        node.run("sh", "-c", damage)
        if "ip_forward" in damage:
            time.sleep(RECENT_S)  # nobody tells of a setting: it is read once a second
        pod = node.pod()
        result = agent.run("ADD", pod, document)
        call("CHECK", pod, {**document, "prevResult": result}, **OFF).ok()
        assert pod.ping("10.244.0.1")
        agent.run("DEL", pod, document)


def test_a_former_gateway_address_is_taken_away_by_the_general_way(node: Node) -> None:
    """Which is no error of the agent's."""
    document = conf(versions=(4,), forceAddress=True)
    with running(node, ALONE) as agent:
        settled(agent, node, document)
        node.run("sh", "-c", "ip address flush dev cni0; ip address add 10.244.0.77/24 dev cni0")
        agent.run("ADD", node.pod(), document)
        assert "10.244.0.77" not in node.run("ip", "address", "show", "cni0").stdout
        assert quick(agent, 2) == [False, False]
        assert [line for line in agent.log() if line["level"] == "error"] == []


def test_what_the_store_says_is_said_by_a_quick_one_too(
    node: Node, agent: Agent, call: Call
) -> None:
    document = conf()
    settled(agent, node, document)
    agent.run("ADD", node.pod(), document)
    said = []
    for environ in ({}, OFF):
        node.run("sh", "-c", "rm -r /var/lib/cni/networks/net")
        answer = call("ADD", node.pod(), document, **environ)
        lines = answer.stderr.splitlines()
        said.append([line for line in lines if "without a reservation" in line])
    assert said[0]
    assert said[0] == said[1][: len(said[0])]
    assert quick(agent, 3) == [False, True, True]


def test_a_link_in_the_way_is_a_conflict_and_nothing_is_left(
    node: Node, agent: Agent, call: Call, snapshot: Snap
) -> None:
    document = conf()
    settled(agent, node, document)
    pod = node.pod()
    pod.configure("link add eth0 type bridge")
    before = snapshot()
    answers = [call("ADD", pod, document), call("ADD", pod, document, **OFF)]
    assert answers[0].returncode == 1
    assert answers[0].json == answers[1].json
    assert left(before, snapshot()) == []


def test_a_second_add_of_a_live_pod_is_refused_whatever_was_lost(
    node: Node, agent: Agent, call: Call
) -> None:
    document = conf()
    settled(agent, node, document)
    pod = node.pod()
    result = agent.run("ADD", pod, document)
    for lost in ("true", "rm -r /run/podwire/attachments", "rm -r /var/lib/cni/networks/net"):
        node.run("sh", "-c", lost)
        again = call("ADD", pod, document)
        assert again.returncode == 1, lost
        assert "exists already" in again.json["msg"]
        assert node.run("ip", "link", "show", host_end(result)).returncode == 0
        assert pod.ping("10.244.0.1")


def test_what_an_element_in_the_way_costs_is_undone_and_done_anew(
    node: Node, agent: Agent, snapshot: Snap
) -> None:
    """The transaction is refused when the record and the lease are there already."""
    document = conf()
    settled(agent, node, document)
    pod = node.pod()
    result = agent.run("ADD", pod, document)
    link = host_end(result)
    agent.run("DEL", pod, document)
    before = snapshot()
    node.run("nft", "add", "element", "bridge", "podwire", "ports", f'{{ "{link}" }}')
    result = agent.run("ADD", pod, document)
    assert quick(agent, 3) == [False, True, False]
    agent.run("CHECK", pod, {**document, "prevResult": result})
    agent.run("DEL", pod, document)
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")


def test_a_networks_first_pod_brings_its_chain_and_the_last_takes_it(
    node: Node, agent: Agent, call: Call
) -> None:
    document = conf(ipMasq=True)
    for _ in range(3):
        pods = [node.pod(), node.pod()]
        for pod in pods:
            result = agent.run("ADD", pod, document)
            call("CHECK", pod, {**document, "prevResult": result}, **OFF).ok()
        for pod in pods:
            agent.run("DEL", pod, document)
        assert "masq-" not in node.run("nft", "list", "ruleset").stdout
    assert quick(agent, 6) == [False, *[True] * 5]


def test_a_full_range_is_told_as_ever(node: Node, agent: Agent, call: Call, snapshot: Snap) -> None:
    document = conf(ipam=ipam("10.244.0.0/29"))
    pods = [node.pod() for _ in range(6)]
    for pod in pods[:5]:
        agent.run("ADD", pod, document)
    before = snapshot()
    full = call("ADD", pods[5], document)
    assert full.returncode == 1
    assert full.json == call("ADD", pods[5], document, **OFF).json
    assert left(before, snapshot()) == []


def test_an_address_in_use_without_a_reservation_is_not_given(node: Node, agent: Agent) -> None:
    document = conf()
    settled(agent, node, document)
    taken = set()
    for _ in range(2):
        taken.add(address(agent.run("ADD", node.pod(), document)))
    node.run("sh", "-c", "rm -r /var/lib/cni/networks/net")
    for _ in range(3):
        got = address(agent.run("ADD", node.pod(), document))
        assert got not in taken, POD4
        taken.add(got)


def test_what_another_networks_add_has_seen_counts_for_that_one_alone(
    node: Node, call: Call
) -> None:
    """The quick ADDs share the number of the rules that they count on."""
    document = conf()
    other = conf("ptp", name="other", ipam=ipam("10.245.0.0/24"))
    with running(node, ALONE) as agent:
        for one in (document, other):
            for _ in range(2):
                agent.run("ADD", node.pod(), one)
        pods = [node.pod() for _ in range(3)]
        time.sleep(RECENT_S)
        agent.run("ADD", pods[0], document)
        node.run("nft", "flush chain bridge podwire prerouting")
        agent.run("ADD", pods[1], other)
        result = agent.run("ADD", pods[2], document)
        call("CHECK", pods[2], {**document, "prevResult": result}, **OFF).ok()
        assert quick(agent, 7)[4:] == [True, True, False]


def test_a_policy_that_drops_is_seen_though_a_chain_of_ours_went_too(
    node: Node, call: Call
) -> None:
    document = conf(ipMasq=True)
    hook = "type filter hook forward priority 0; policy %s;"
    drops = f"add table ip filter; add chain ip filter FORWARD {{ {hook} }}"
    with running(node, ALONE) as agent:
        node.run("nft", drops % "accept")
        for _ in range(2):
            last = node.pod()
            agent.run("ADD", last, document)
            agent.run("DEL", last, document)
        first, second = node.pod(), node.pod()
        time.sleep(RECENT_S)
        agent.run("ADD", first, document)
        node.run("nft", drops % "drop")
        agent.run("DEL", first, document)
        result = agent.run("ADD", second, document)
        call("CHECK", second, {**document, "prevResult": result}, **OFF).ok()
