"""The reference's meta plugins work after podwire, called as a runtime calls a chain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.e2e.networks import DUAL, bridge
from tests.support import need
from tests.support.node import Node, Pod, wait_until
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot

MODES: dict[str, dict[str, Any]] = {
    "bridge": bridge(DUAL, ipMasq=True),
    "ptp": {"type": "podwire", "mode": "ptp", "ipMasq": True, "ipam": DUAL},
}
META: list[dict[str, Any]] = [
    {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
    {"type": "firewall", "backend": "iptables"},
]
# Which address comes next, not what is held.
PASSING = r"last_reserved_ip|/.released "
CAPABILITIES = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "bandwidth": {
        "ingressRate": 80_000_000, "ingressBurst": 8_000_000,
        "egressRate": 40_000_000, "egressBurst": 4_000_000,
    },
}  # fmt: skip
ANSWER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("listening", flush=True)
client, peer = server.accept()
client.sendall(peer[0].encode())
client.close()
"""
ASK = """
import socket
with socket.create_connection(("192.0.2.1", 8080), timeout=5) as client:
    print(client.makefile().read())
"""


def answered_through_the_host_port(pod: Pod, outside: Node) -> bool:
    """A connection from outside to the node's port 8080 reaches the pod's port 80."""
    server = pod.spawn(sys.executable, "-c", ANSWER, stdout=-1)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        return outside.run(sys.executable, "-c", ASK, check=False).returncode == 0
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("mode", MODES)
def test_meta_plugins_after_podwire_serve_the_pod_and_leave_nothing(
    mode: str,
    make_node: Callable[[str], Node],
    node: Node,
    runtime: Callable[[Mapping[str, Any]], Runtime],
    snapshot: Callable[[], Snapshot],
) -> None:
    need.tool("iptables")
    for plugin in META:
        need.reference_plugin(plugin["type"])
    outside = make_node("outside")
    node.connect(outside, ["192.0.2.1/24"], ["192.0.2.2/24"])
    network = runtime({"cniVersion": "1.0.0", "name": "net", "plugins": [MODES[mode], *META]})
    first, pod = node.pod(), node.pod()
    # The first attachment makes what is the network's own: chains, the bridge, the table.
    network.add(first, capabilities=CAPABILITIES)
    network.delete(first)
    before = snapshot()

    result = network.add(pod, capabilities=CAPABILITIES)
    # portmap 1.1.1 looks for its IPv4 rules in the IPv6 chain and fails its own CHECK.
    network.check(pod, skip=("portmap",))
    host_link = next(
        link["name"]
        for link in result["interfaces"]
        if not link.get("sandbox") and link["name"] != "cni0"
        and not link["name"].startswith(("bwp", "ifb"))
    )  # fmt: skip
    assert "tbf" in node.run("tc", "qdisc", "show", "dev", host_link).stdout
    assert pod.sysctl("net/core/somaxconn") == "500"
    wait_until(lambda: answered_through_the_host_port(pod, outside), "hostPort answers")
    assert pod.ping("192.0.2.2")

    network.delete(pod)
    assert before.without(PASSING).diff(snapshot().without(PASSING)) == []
