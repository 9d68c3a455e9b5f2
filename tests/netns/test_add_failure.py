"""A refused ADD: the right code, a word on the remedy, and the node and the pod as before."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.netns.kit import GATEWAY4, MODES, SHARED, Json, address, conf, env, ipam, left
from tests.support import need
from tests.support.node import Node, Pod
from tests.support.runtime import Failed, Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]


def _refused(node: Node, pod: Pod, document: Json) -> Json:
    """The error of an ADD."""
    with pytest.raises(Failed) as refusal:
        Runtime(node, document).add(pod)
    answer: Json = refusal.value.reply.json
    return answer


@pytest.mark.parametrize("mode", MODES)
def test_a_foreign_interface_of_that_name_is_refused_and_kept(
    node: Node, snapshot: Snap, mode: str
) -> None:
    pod = node.pod()
    pod.configure("link add eth0 type veth peer name other")
    before = snapshot()
    answer = _refused(node, pod, conf(mode))
    assert answer["code"] == 102
    assert "'eth0' exists already" in answer["msg"]
    assert left(before, snapshot(), kept=SHARED) == []
    assert pod.links() == {"eth0", "other"}


@pytest.mark.parametrize("mode", MODES)
def test_an_exhausted_range_is_refused(node: Node, snapshot: Snap, mode: str) -> None:
    document = conf(mode, ipam=ipam("10.244.0.0/30"))  # the gateway and one pod
    Runtime(node, document).add(node.pod())
    pod, before = node.pod(), snapshot()
    answer = _refused(node, pod, document)
    assert answer["code"] == 100
    assert left(before, snapshot(), kept=SHARED) == []
    assert pod.links() == set()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("versions", "route"),
    [
        ((4,), {"dst": "203.0.113.0/24", "gw": "192.0.2.99"}),
        ((6,), {"dst": "2001:db8:9::/64", "gw": "2001:db8:77::99"}),
    ],
    ids=["v4", "v6"],
)
def test_a_next_hop_that_is_not_reached_is_refused(
    node: Node, snapshot: Snap, mode: str, versions: tuple[int, ...], route: Json
) -> None:
    document = conf(mode, versions)
    document["ipam"] |= {"routes": [route]}
    pod, before = node.pod(), snapshot()
    answer = _refused(node, pod, document)
    assert answer["code"] == 103
    assert route["gw"] in answer["msg"]
    assert left(before, snapshot(), kept=SHARED) == []
    assert pod.links() == set()


def test_a_bridge_name_of_another_kind_of_link_is_refused(node: Node, snapshot: Snap) -> None:
    node.configure("link add cni0 type veth peer name other")
    pod, before = node.pod(), snapshot()
    answer = _refused(node, pod, conf())
    assert answer["code"] == 102
    assert "cni0" in answer["msg"]
    assert left(before, snapshot(), kept=SHARED) == []


def test_a_bridge_with_another_address_is_refused_without_force_address(
    node: Node, snapshot: Snap
) -> None:
    node.configure("link add cni0 type bridge")
    node.configure("addr add 10.244.0.254/24 dev cni0")
    pod, before = node.pod(), snapshot()
    answer = _refused(node, pod, conf())
    assert answer["code"] == 102
    assert "10.244.0.254/24" in answer["msg"]
    assert "forceAddress" in answer["details"]
    assert left(before, snapshot(), kept=SHARED) == []


def test_a_bridge_whose_old_range_is_in_use_is_refused(node: Node) -> None:
    network, live = Runtime(node, conf()), node.pod()
    network.add(live)
    answer = _refused(node, node.pod(), conf(ipam=ipam("10.244.0.0/16", dataDir="/run/other")))
    assert answer["code"] == 102
    network.check(live)


def test_a_vlan_without_kernel_support_leaves_nothing(node: Node, snapshot: Snap) -> None:
    if need.has_bridge_vlan():
        pytest.skip("this kernel's bridge filters VLANs")
    pod, before = node.pod(), snapshot()
    assert _refused(node, pod, conf(vlan=100))["code"] == 103
    assert left(before, snapshot(), kept=SHARED) == []


def test_a_record_that_cannot_be_written_is_refused(node: Node, snapshot: Snap) -> None:
    shutil.rmtree(node.path("/run/podwire"))
    node.path("/run/podwire").write_text("")
    pod, before = node.pod(), snapshot()
    assert _refused(node, pod, conf())["code"] == 5
    assert left(before, snapshot(), kept=SHARED) == []
    assert pod.links() == set()


def test_a_failed_add_leaves_the_bridge_to_the_pods_that_use_it(node: Node) -> None:
    network, live = Runtime(node, conf()), node.pod()
    target = address(network.add(live))
    document = conf(name="other")
    document["ipam"] = ipam("10.244.0.0/24", routes=[{"dst": "203.0.113.0/24", "gw": "192.0.2.9"}])
    _refused(node, node.pod(), document)
    network.check(live)
    assert node.ping(target)


@pytest.mark.parametrize("mode", MODES)
def test_a_repeated_add_is_refused_and_the_live_attachment_stays_whole(
    node: Node, snapshot: Snap, mode: str
) -> None:
    network, pod = Runtime(node, conf(mode, ipMasq=True)), node.pod()
    network.add(pod)
    before = snapshot()
    reply = node.plugin("podwire", env("ADD", pod), conf(mode, ipMasq=True))
    assert reply.code == 102
    assert "run DEL first" in reply.json["details"]
    assert before.diff(snapshot()) == []
    network.check(pod)
    assert pod.ping(GATEWAY4)


@pytest.mark.parametrize("mode", MODES)
def test_after_a_failed_add_delete_and_another_add_work(node: Node, mode: str) -> None:
    network, pod = Runtime(node, conf(mode)), node.pod()
    pod.configure("link add eth0 type veth peer name other")
    with pytest.raises(Failed):
        network.add(pod)
    network.delete(pod)
    pod.configure("link del eth0")
    network.add(pod)
    network.check(pod)


# invalid namespaces ------------------------------------------------------------------------------

NETNS: dict[str, Callable[[Node], str]] = {
    "missing": lambda node: "/run/netns/no-such",
    "a plain file": lambda node: "/etc/hostname",
    "a folder": lambda node: "/run",
    "the node's own": lambda node: node.netns,
    "the node's own by another name": lambda node: "/proc/self/ns/net",
    "a user namespace": lambda node: "/proc/self/ns/user",
    "a mount namespace": lambda node: "/proc/self/ns/mnt",
}


@pytest.mark.parametrize("kind", NETNS)
def test_what_is_no_pods_namespace_is_refused_before_anything_changes(
    node: Node, snapshot: Snap, kind: str
) -> None:
    pod, before = node.pod(), snapshot()
    path = NETNS[kind](node)
    reply = node.plugin("podwire", env("ADD", pod, CNI_NETNS=path), conf())
    assert reply.code == 4
    assert path in reply.json["msg"]
    kept = r"^files /run/podwire/configs/"
    assert left(before, snapshot(), kept=kept) == []
