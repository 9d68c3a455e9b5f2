"""DELs that are done together: each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ipam.files import LOCK
from tests.agent.conftest import Call
from tests.agent.test_swift import OFF
from tests.agent.test_swift_asked import CAPABLE, LIMITS, WEB, asking
from tests.netns.kit import address, conf, host_end, ipam, left
from tests.support.agent import Agent
from tests.support.node import Node, Pod, Reply, wait_until
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
Json = dict[str, Any]
CROWD = 24


def swept(agent: Agent, wanted: int) -> list[bool]:
    """Of each DEL in the agent's log, whether its record was enough: the others read the config."""

    def found() -> list[bool]:
        calls = [line for line in agent.log() if line["message"] == "call"]
        return ["config_ms" not in line for line in calls if line["verb"] == "DEL"]

    wait_until(lambda: len(found()) >= wanted, "each DEL is told")
    return found()


def at_once(agent: Agent, pods: list[Pod], documents: list[Json]) -> None:
    """DEL of all."""
    with ThreadPoolExecutor(len(pods)) as crowd:
        for _ in crowd.map(lambda one: agent.run("DEL", *one), zip(pods, documents, strict=True)):
            pass


def answers(call: Call, pods: list[Pod], documents: list[Json]) -> list[Reply]:
    """DEL of all by launchers, with their answers."""
    with ThreadPoolExecutor(len(pods)) as crowd:
        pairs = zip(pods, documents, strict=True)
        return list(crowd.map(lambda one: call("DEL", *one), pairs))


@pytest.mark.parametrize("asks", [False, True])
def test_a_crowd_leaves_nothing(node: Node, agent: Agent, snapshot: Snap, asks: bool) -> None:
    """Of two networks, with the results of their ADDs, as runtimes send them."""
    networks = [
        conf(versions=(4, 6), ipMasq=True, **CAPABLE),
        conf("ptp", name="other", ipam=ipam("10.245.0.0/24"), **CAPABLE),
    ]
    before = snapshot()
    pods = [node.pod() for _ in range(CROWD)]
    documents = [networks[number % 2] for number in range(CROWD)]
    if asks:
        documents = [
            asking(one, (7000 + number, WEB, "tcp"), limits=LIMITS)
            for number, one in enumerate(documents)
        ]
    results = [agent.run("ADD", *one) for one in zip(pods, documents, strict=True)]
    chained = [
        {**one, "prevResult": result} for one, result in zip(documents, results, strict=True)
    ]
    at_once(agent, pods, chained)
    assert swept(agent, CROWD) == [True] * CROWD
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")
    again = [agent.run("ADD", *one) for one in zip(pods, documents, strict=True)]
    assert not {*map(address, again)} & {*map(address, results)}, "they cool down"


def test_one_that_is_not_as_ever_keeps_nobody(
    node: Node, agent: Agent, call: Call, snapshot: Snap
) -> None:
    document = conf(ipMasq=True)
    broken = conf("ptp", name="broken", ipam=ipam("10.245.0.0/24"))
    before = snapshot()
    pods = [node.pod() for _ in range(8)]
    documents = [document] * 5 + [broken] * 3
    results = [agent.run("ADD", *one) for one in zip(pods, documents, strict=True)]
    lock = f"/var/lib/cni/networks/broken/{LOCK}"
    node.run("sh", "-c", f"rm {lock} && mkdir {lock}")
    node.run("ip", "link", "delete", host_end(results[0]))  # gone already
    node.run("sh", "-c", f"rm /run/podwire/attachments/net/*{pods[1].container_id}*")
    node.run("sh", "-c", f"nft delete element inet podwire masq4 {{ {address(results[2])} }}")
    told = answers(call, pods, documents)
    assert [answer.returncode for answer in told] == [0] * 5 + [1] * 3
    assert lock in told[5].json["msg"] + told[5].json.get("details", "")
    assert told[5].json == call("DEL", pods[5], broken, **OFF).json
    node.run("rmdir", lock)
    assert [one.returncode for one in answers(call, pods[5:], documents[5:])] == [0] * 3
    wait_until(lambda: left(before, snapshot()) == [], "nothing is left")


def test_a_second_del_and_one_of_nobody_are_success(node: Node, agent: Agent, call: Call) -> None:
    document = conf()
    pods = [node.pod() for _ in range(4)]
    for pod in pods[:2]:
        agent.run("ADD", pod, document)
    for _ in range(2):
        assert [one.returncode for one in answers(call, pods, [document] * 4)] == [0] * 4


def test_what_is_wrong_is_told_as_ever(node: Node, agent: Agent, call: Call) -> None:
    document = conf()
    pod = node.pod()
    agent.run("ADD", pod, document)
    for wrong in ({**document, "cniVersion": "9.0.0"}, {**document, "name": ".."}):
        assert call("DEL", pod, wrong).json == call("DEL", pod, wrong, **OFF).json
    for environ in ({"CNI_IFNAME": "a/b"}, {"CNI_CONTAINERID": ""}):
        shown = [call("DEL", pod, document, **environ, **more) for more in ({}, OFF)]
        assert shown[0].json == shown[1].json
        assert shown[0].returncode == 1


def test_a_del_and_an_add_of_one_attachment_keep_their_order(
    node: Node, agent: Agent, call: Call
) -> None:
    document = conf()
    pods = [node.pod() for _ in range(6)]
    for pod in pods:
        agent.run("ADD", pod, document)
    with ThreadPoolExecutor(2 * len(pods)) as crowd:
        gone = [crowd.submit(agent.run, "DEL", pod, document) for pod in pods]
        added = [crowd.submit(call, "ADD", pod, document) for pod in pods]
    for one in gone:
        one.result()
    for answer in (one.result() for one in added):
        assert answer.returncode == 0 or "exists already" in answer.json["msg"]
    at_once(agent, pods, [document] * len(pods))
    assert "type veth" not in node.run("ip", "-d", "link").stdout
    assert not [*node.path("/var/lib/cni/networks/net").glob("10.*")]
