"""A cluster whose agents know of each other by a Kubernetes API, which can be made to fail.

    with KubeFabric(make_node, tmp_path) as fabric:
        a, b = fabric.join("a"), fabric.join("b")
        fabric.put(a); fabric.put(b)
        fabric.start(backend="host-gw", conflist={})
        fabric.ghost(7)                           # a node that exists in the API only
        fabric.api.do("down")                     # see tests.support.kube_api

The server is where the router is, reached by both networks, and asks for a token.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.cluster import POD_CIDRS, ROUTER, SUBNETS, Fabric, Json, Member
from tests.support.kube_api import KubeProcess, node_object
from tests.support.node import Node

ROOT = Path(__file__).parents[2]
ACCOUNT = "/run/account"  # where a kubelet would put the service account
STATE = "/var/lib/cni/podwire/nodes.json"
PORT = 6443
FIRST_GHOST = 100  # the host part of its address


class KubeFabric(Fabric):
    """As Fabric, with an API in place of the peers file."""

    def __init__(
        self, make_node: Callable[[str], Node], folder: Path, versions: Sequence[int] = (4, 6)
    ) -> None:
        super().__init__(make_node, folder, versions, versions)
        host = SUBNETS[1][versions[0]].format(ROUTER[versions[0]]).partition("/")[0]
        self.api = KubeProcess(self._spawn, host, PORT)
        self.token = ""
        self.rotate("first")

    def _spawn(self, command: list[str]) -> subprocess.Popen[str]:
        return self.hub.spawn(
            *command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def source(self) -> Json:
        """The server by an explicit address, credentials as in a pod."""
        return {
            "kubernetes": {
                "server": self.api.url,
                "serviceAccount": ACCOUNT,
                "stateFile": STATE,
            }
        }

    def join(self, name: str, subnet: int = 1) -> Member:
        """One node more, with its account; the API does not know it yet."""
        member = super().join(name, subnet)
        member.node.path(ACCOUNT).mkdir()
        member.node.path(f"{ACCOUNT}/ca.crt").write_text("")  # the server speaks HTTP
        self._give_token(member)
        return member

    def rotate(self, token: str, *, server_only: bool = False) -> None:
        """The server asks for another token, and the kubelets give it to the agents."""
        self.token = token
        self.api.do("set", "token", token)
        if not server_only:
            for member in self.members:
                self._give_token(member)

    def _give_token(self, member: Member) -> None:
        member.node.path(f"{ACCOUNT}/token").write_text(self.token)

    def put(self, member: Member, **more: Any) -> None:
        """Its Node object, with what it has; more: see node_object."""
        entry = member.entry()
        known: Json = {"pod_cidrs": entry["podCIDRs"], "addresses": entry["addresses"]}
        self.api.do("put", node_object(member.name, **{**known, **more}))

    def ghost(self, number: int, **more: Any) -> str:
        """A Node that nobody runs on; its IPv4 range. more: see node_object."""
        cidrs = [POD_CIDRS[version].format(number) for version in self.versions]
        addresses = [
            SUBNETS[1][version].format(FIRST_GHOST + number).partition("/")[0]
            for version in self.versions
        ]
        known: Json = {"pod_cidrs": cidrs, "addresses": addresses}
        self.api.do("put", node_object(f"ghost{number}", **{**known, **more}))
        return cidrs[0]

    def close(self) -> None:
        """The agents and the server."""
        super().close()
        self.api.close()
