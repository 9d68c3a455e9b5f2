"""A network taken over from the reference plugins: pods they made are deleted by podwire."""

from __future__ import annotations

from tests.support import need
from tests.support.node import Node

IPAM = {"type": "host-local", "subnet": "10.244.1.0/24", "routes": [{"dst": "0.0.0.0/0"}]}


def conf(kind: str) -> dict[str, object]:
    return {
        "cniVersion": "1.0.0",
        "name": "mynet",
        "type": kind,
        "bridge": "cni0",
        "isGateway": True,
        "ipam": IPAM,
    }


def environ(command: str, container: str, netns: str) -> dict[str, str]:
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": "eth0",
    }


def test_del_removes_the_interface_before_the_address_is_free(node: Node) -> None:
    need.reference_plugin("bridge")
    need.reference_plugin("host-local")
    pod = node.pod()
    node.plugin("bridge", environ("ADD", "c1", pod.netns), conf("bridge")).ok()
    assert "eth0" in pod.links()
    node.plugin("podwire", environ("DEL", "c1", pod.netns), conf("podwire")).ok()
    assert "eth0" not in pod.links()
    assert not node.path("/var/lib/cni/networks/mynet/10.244.1.2").exists()


def test_del_after_a_refused_add_leaves_a_foreign_interface_alone(node: Node) -> None:
    pod = node.pod()
    pod.configure("link add eth0 type veth peer name other")
    refused = node.plugin("podwire", environ("ADD", "c1", pod.netns), conf("podwire"))
    assert refused.code == 102
    node.plugin("podwire", environ("DEL", "c1", pod.netns), conf("podwire")).ok()
    assert "eth0" in pod.links()
