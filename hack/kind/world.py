"""What the test puts into the cluster, and where it is then: addresses by name."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, NamedTuple

from tools import Failed, Tools

# Kubernetes' own test image: `netexec` tells its host's name and its caller's address; has curl.
IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"
NAMESPACE = "podwire-smoke"
OUTSIDE = "podwire-smoke-outside"
PORT, HOST_PORT, NODE_PORT = 8080, 8089, 31089


class Peer(NamedTuple):
    """A pod, or what else has addresses. node: its name."""

    name: str
    node: str
    addresses: tuple[str, ...]

    def address(self, version: int) -> str:
        """The first of that IP version. Raises Failed."""
        found = (one for one in self.addresses if ipaddress.ip_address(one).version == version)
        address = next(found, None)
        if address is None:
            has = ", ".join(self.addresses) or "none"
            raise Failed(f"{self.name} has no IPv{version} address: it has {has}")
        return address


class World(NamedTuple):
    """What was found in the cluster."""

    nodes: tuple[Peer, ...]
    servers: tuple[Peer, ...]
    clients: tuple[Peer, ...]
    service: Peer
    outside: Peer


def objects() -> list[dict[str, Any]]:
    """What is applied for it."""
    port = {"containerPort": PORT, "hostPort": HOST_PORT}
    ports = [{"port": PORT, "nodePort": NODE_PORT}]
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _daemonset("server", ["netexec", f"--http-port={PORT}"], [port]),
        _daemonset("client", ["pause"], []),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "server", "namespace": NAMESPACE},
            "spec": {
                "type": "NodePort",
                "ipFamilyPolicy": "PreferDualStack",
                "selector": {"app": "server"},
                "ports": ports,
            },
        },
    ]


def _daemonset(name: str, args: list[str], ports: list[dict[str, int]]) -> dict[str, Any]:
    container = {"name": name, "image": IMAGE, "args": args, "ports": ports}
    spec = {
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def look(tools: Tools) -> World:
    """Nodes, pods, the service, and the container outside."""
    nodes = json.loads(tools.kubectl("get", "nodes", "-o", "json").stdout)["items"]
    found = json.loads(tools.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json").stdout)["items"]
    service = json.loads(
        tools.kubectl("-n", NAMESPACE, "get", "service", "server", "-o", "json").stdout
    )
    networks = json.loads(tools.run("docker", "inspect", OUTSIDE).stdout)[0]["NetworkSettings"]
    kind = networks["Networks"]["kind"]
    outside = [one for one in (kind["IPAddress"], kind["GlobalIPv6Address"]) if one]
    return World(
        tuple(Peer(n["metadata"]["name"], n["metadata"]["name"], _of_node(n)) for n in nodes),
        *(tuple(_pod(one) for one in found if _app(one) == app) for app in ("server", "client")),
        Peer("server", "", tuple(service["spec"]["clusterIPs"])),
        Peer(OUTSIDE, "", tuple(outside)),
    )


def _of_node(node: dict[str, Any]) -> tuple[str, ...]:
    listed = node["status"]["addresses"]
    return tuple(one["address"] for one in listed if one["type"] == "InternalIP")


def _app(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"]["app"])


def _pod(pod: dict[str, Any]) -> Peer:
    addresses = tuple(one["ip"] for one in pod["status"].get("podIPs", ()))
    return Peer(pod["metadata"]["name"], pod["spec"]["nodeName"], addresses)


def versions(world: World) -> tuple[int, ...]:
    """The IP versions that pods have."""
    found = {ipaddress.ip_address(one).version for pod in world.servers for one in pod.addresses}
    return tuple(sorted(found))
