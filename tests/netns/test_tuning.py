"""The pod's own settings: sysctls in its namespace, its interface's queue and switches."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.netns.kit import MODES, Json, conf, env
from tests.support.node import Node, Pod
from tests.support.runtime import Failed, Runtime

TUNED: Json = {
    "sysctl": {
        "net.core.somaxconn": "1234",
        "net/ipv4/conf/IFNAME/arp_filter": "1",
        "net.ipv4.ip_local_port_range": "20000 30000",
        "net.ipv6.conf.IFNAME.accept_ra": "2",
    },
    "txqueuelen": 77,
    "allmulti": True,
    "promisc": True,
}


@pytest.mark.parametrize("mode", MODES)
def test_the_pod_has_what_was_asked_and_the_node_has_not(node: Node, mode: str) -> None:
    before = node.sysctl("net/core/somaxconn")
    network, pod = Runtime(node, conf(mode, (4, 6), **TUNED)), node.pod()
    network.add(pod, "net1")
    assert pod.sysctl("net/core/somaxconn") == "1234"
    assert pod.sysctl("net/ipv4/conf/net1/arp_filter") == "1"
    assert pod.sysctl("net/ipv4/ip_local_port_range").split() == ["20000", "30000"]
    assert pod.sysctl("net/ipv6/conf/net1/accept_ra") == "2"
    assert node.sysctl("net/core/somaxconn") == before
    link = pod.link("net1")
    assert link is not None
    assert link["txqlen"] == 77
    assert {"ALLMULTI", "PROMISC"} <= set(link["flags"])
    network.check(pod, "net1")
    network.delete(pod, "net1")


def test_without_the_keys_the_interface_is_as_the_kernel_makes_it(node: Node) -> None:
    network, pod = Runtime(node, conf()), node.pod()
    network.add(pod)
    pod.configure("link set eth0 promisc on allmulticast on txqueuelen 5")
    network.check(pod)


DAMAGE: dict[str, tuple[Callable[[Pod], object], str]] = {
    "sysctl": (
        lambda pod: pod.run("sysctl", "-qw", "net.core.somaxconn=9"),
        "core/somaxconn: value wanted 1234, found 9",
    ),
    "one of two numbers": (
        lambda pod: pod.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=20000 30001"),
        "value wanted 20000 30000, found 20000 30001",
    ),
    "txqueuelen": (
        lambda pod: pod.configure("link set eth0 txqueuelen 5"),
        "Tuned pod eth0: queue_length wanted 77, found 5",
    ),
    "allmulti": (
        lambda pod: pod.configure("link set eth0 allmulticast off"),
        "Tuned pod eth0: allmulti wanted True, found False",
    ),
    "promisc": (
        lambda pod: pod.configure("link set eth0 promisc off"),
        "Tuned pod eth0: promisc wanted True, found False",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_names_what_differs(node: Node, damage: str) -> None:
    network, pod = Runtime(node, conf(**TUNED)), node.pod()
    network.add(pod)
    happen, told = DAMAGE[damage]
    happen(pod)
    with pytest.raises(Failed) as failure:
        network.check(pod)
    answer = failure.value.reply.json
    assert answer["code"] == 104
    assert told in f"{answer['msg']}; {answer['details']}"


@pytest.mark.parametrize("name", ["kernel.panic", "net/../kernel/panic", "net.core"])
def test_a_setting_of_the_node_is_refused_before_anything_is_made(node: Node, name: str) -> None:
    pod = node.pod()
    reply = node.plugin("podwire", env("ADD", pod), conf(sysctl={name: "1"}))
    assert reply.code == 7
    assert f'sysctl is "{name}", accepted: the name of a setting below net' in reply.json["msg"]
    assert node.links() == set()
