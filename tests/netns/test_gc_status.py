"""GC takes what the runtime does not list and nothing else; STATUS says whether ADD can work."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cni_plugin.model.names import digest
from tests.netns.kit import MODES, Json, conf, ipam, left
from tests.support.node import Node
from tests.support.runtime import Failed, Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
STATUS = {"CNI_COMMAND": "STATUS"}


def _leases(node: Node, network: str = "net") -> set[str]:
    """The reserved addresses."""
    folder: Path = node.path(f"/var/lib/cni/networks/{network}")
    return {path.name for path in folder.iterdir() if path.name.startswith(("10.", "2001:"))}


@pytest.mark.parametrize("mode", MODES)
def test_gc_removes_the_stale_and_keeps_the_valid(node: Node, snapshot: Snap, mode: str) -> None:
    network = Runtime(node, conf(mode, ipMasq=True))
    stays, goes = node.pod(), node.pod()
    network.add(stays)
    before = snapshot()
    network.add(goes)
    network.gc([(stays.container_id, "eth0")])
    assert left(before, snapshot().without("/var/lib/cni/results/.*" + goes.container_id)) == []
    assert goes.links() == set()
    network.check(stays)


def test_gc_without_a_list_removes_nothing(node: Node, snapshot: Snap) -> None:
    network, pod = Runtime(node, conf(ipMasq=True)), node.pod()
    network.add(pod)
    before = snapshot()
    network.gc(None)
    assert before.diff(snapshot()) == []
    network.check(pod)


@pytest.mark.parametrize("mode", MODES)
def test_gc_with_an_empty_list_removes_everything(node: Node, snapshot: Snap, mode: str) -> None:
    before = snapshot()
    network = Runtime(node, conf(mode, (4, 6), ipMasq=True))
    for _ in range(3):
        network.add(node.pod())
    network.gc([])
    assert left(before, snapshot().without("/var/lib/cni/results/")) == []


def test_gc_leaves_an_attachment_that_a_call_works_on(node: Node) -> None:
    network, pod = Runtime(node, conf()), node.pod()
    network.add(pod)
    lock = node.path(f"/run/podwire/locks/{digest('net', pod.container_id, 'eth0')}")
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        network.gc([])
        assert len(_leases(node)) == 1
        network.check(pod)
    network.gc([])
    assert _leases(node) == set()


def test_gc_takes_the_locks_of_killed_calls_away(node: Node) -> None:
    network, pod = Runtime(node, conf()), node.pod()
    network.add(pod)
    locks = node.path("/run/podwire/locks")
    (locks / "of-a-killed-call").touch(mode=0o600)
    with (locks / "of-a-call-under-way").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        network.gc([(pod.container_id, "eth0")])
        assert [path.name for path in locks.iterdir()] == ["of-a-call-under-way"]
    network.check(pod)


def test_gc_finds_attachments_whose_record_is_lost(node: Node, snapshot: Snap) -> None:
    before = snapshot()
    network = Runtime(node, conf(ipMasq=True))
    network.add(node.pod())
    shutil.rmtree(node.path("/run/podwire"))
    network.gc([])
    assert left(before, snapshot().without("/var/lib/cni/results/")) == []


def test_gc_frees_addresses_that_nothing_else_speaks_for(node: Node) -> None:
    """250 dead reservations, as after years of crashes."""
    network, pod = Runtime(node, conf()), node.pod()
    network.add(pod)
    folder = node.path("/var/lib/cni/networks/net")
    for last in range(3, 253):
        (folder / f"10.244.0.{last}").write_bytes(f"dead{last}\r\neth0".encode())
    network.gc([(pod.container_id, "eth0")])
    assert _leases(node) == {"10.244.0.2"}
    network.check(pod)


def test_gc_of_a_pod_whose_namespace_is_gone(node: Node, snapshot: Snap) -> None:
    before = snapshot()
    network, pod = Runtime(node, conf("ptp", ipMasq=True)), node.pod()
    network.add(pod)
    pod.remove()
    network.gc([])
    assert left(before, snapshot().without("/var/lib/cni/results/")) == []


def test_gc_tells_one_interface_of_a_container_from_another(node: Node) -> None:
    network, pod = Runtime(node, conf(ipam=ipam("10.244.0.0/24", routes=[]))), node.pod()
    network.add(pod, "eth0")
    network.add(pod, "net1")
    network.gc([(pod.container_id, "net1")])
    assert pod.links() == {"net1"}
    network.check(pod, "net1")


def test_gc_leaves_other_networks_alone(node: Node) -> None:
    one, pod = Runtime(node, conf(name="one")), node.pod()
    bare = ipam("10.244.1.0/24", routes=[])
    other = Runtime(node, conf(name="other", bridge="cni1", ipam=bare))
    one.add(pod, "eth0")
    other.add(pod, "net1")
    one.gc([])
    assert pod.links() == {"net1"}
    other.check(pod, "net1")


def test_gc_spares_foreign_links(node: Node) -> None:
    node.configure("link add foreign type veth peer name other")
    node.configure("link set foreign alias podwire-like")
    Runtime(node, conf()).gc([])
    assert node.links() == {"foreign", "other"}


# STATUS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_status_of_a_node_that_can_serve_says_nothing(node: Node, mode: str) -> None:
    reply = node.plugin("podwire", STATUS, conf(mode)).ok()
    assert (reply.stdout, reply.stderr) == (b"", "")


def test_status_of_an_exhausted_range_is_50_with_the_counts(node: Node) -> None:
    network = Runtime(node, conf(ipam=ipam("10.244.0.0/29")))
    for _ in range(5):
        network.add(node.pod())
    with pytest.raises(Failed) as refusal:
        network.status()
    answer: Json = refusal.value.reply.json
    assert answer["code"] == 50
    assert "10.244.0.0/29 has no free address" in answer["msg"]
    assert "used 5" in answer["details"]
    assert "total 5" in answer["details"]


def test_status_is_well_again_after_a_delete(node: Node) -> None:
    network, pod = Runtime(node, conf(ipam=ipam("10.244.0.0/30"))), node.pod()
    network.add(pod)
    network.delete(pod)
    network.status()


@pytest.mark.parametrize("verb", ["ADD", "STATUS"])
def test_bridge_mode_warns_when_bridged_packets_pass_no_iptables(node: Node, verb: str) -> None:
    node.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    pod = node.pod()
    call = {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "eth0",
    }
    reply = node.plugin("podwire", call, conf()).ok()
    assert "bridge-nf-call-iptables" in reply.stderr


def test_ptp_mode_needs_no_bridge_netfilter(node: Node) -> None:
    node.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    assert node.plugin("podwire", STATUS, conf("ptp")).ok().stderr == ""


def test_an_exhausted_bridge_network_tells_of_bridge_netfilter_too(node: Node) -> None:
    node.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    network = Runtime(node, conf(ipam=ipam("10.244.0.0/30")))
    network.add(node.pod())
    with pytest.raises(Failed) as refusal:
        network.status()
    assert "br_netfilter" in refusal.value.reply.json["details"]
