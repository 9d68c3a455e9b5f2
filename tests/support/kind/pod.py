"""A pod as kubelet asks a node's runtime for it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.kind.cri import Json
from tests.support.kind.image import SHELL_IMAGE
from tests.support.node import Pod

if TYPE_CHECKING:
    from tests.support.kind.node import KindNode


class KindPod:
    """A pod as kubelet asks for it. id: of its sandbox; addresses: as the runtime reports them."""

    def __init__(self, node: KindNode, name: str, cgroup: str, config: Mapping[str, Any]) -> None:
        self.node = node
        self.name = name
        uid = str(uuid.uuid4())
        self.config: Json = {
            "metadata": {"name": name, "uid": uid, "namespace": "default"},
            "hostname": name,
            "logDirectory": f"/var/log/pods/{uid}",
            **config,
        }
        self.config["linux"] = {"cgroupParent": f"{cgroup}/pod{uid}", **config.get("linux", {})}
        self.id = ""
        self.container = ""
        self.addresses: list[str] = []

    def run_sandbox(self) -> None:
        """RunPodSandbox; grpc.RpcError with the plugin's message."""
        answer = self.node.cri.call("RunPodSandbox", {"config": self.config})
        self.id = answer["podSandboxId"]
        network = self.status()["network"]
        self.addresses = [network["ip"], *(ip["ip"] for ip in network["additionalIps"])]

    def status(self) -> Json:
        """Of the sandbox."""
        answer = self.node.cri.call("PodSandboxStatus", {"podSandboxId": self.id})
        return dict(answer["status"])

    def inside(self) -> Inside:
        """Its network with this machine's programs."""
        request = {"podSandboxId": self.id, "verbose": True}
        answer = self.node.cri.call("PodSandboxStatus", request)
        spaces = json.loads(answer["info"]["info"])["runtimeSpec"]["linux"]["namespaces"]
        path = next(space["path"] for space in spaces if space["type"] == "network")
        return Inside(self.node, Path(path).name, self.id)

    def run_container(self) -> None:
        """A shell's, that waits."""
        self.container = self.start(
            {"metadata": {"name": "shell"}, "image": {"image": SHELL_IMAGE}}
        )

    def start(self, container: Mapping[str, Any]) -> str:
        """A container of the pod; its id."""
        request = {"podSandboxId": self.id, "config": container, "sandboxConfig": self.config}
        made = self.node.cri.call("CreateContainer", request)["containerId"]
        self.node.cri.call("StartContainer", {"containerId": made})
        return str(made)

    def exec(self, *command: str, check: bool = True) -> tuple[int, str]:
        """Exit status and what it said, by ExecSync."""
        request = {"containerId": self.container, "cmd": list(command), "timeout": 30}
        answer = self.node.cri.call("ExecSync", request)
        said = b"".join(base64.b64decode(answer[key]) for key in ("stdout", "stderr"))
        assert not check or answer["exitCode"] == 0, (command, said)
        return answer["exitCode"], said.decode(errors="replace")

    def reaches(self, *addresses: str) -> bool:
        """By one echo each, with a limit of two seconds."""
        return all(
            self.exec("ping", "-c", "1", "-W", "2", "-q", address, check=False)[0] == 0
            for address in addresses
        )

    def stop(self) -> None:
        """Its processes and its network."""
        self.node.cri.call("StopPodSandbox", {"podSandboxId": self.id})

    def remove(self) -> None:
        """The rest."""
        self.node.cri.call("RemovePodSandbox", {"podSandboxId": self.id})


class Inside(Pod):
    """A pod's network for programs of this machine: the node's own file system has few."""

    def _enter(self) -> list[str]:
        return ["nsenter", f"--net={self.node.path(self.netns)}", "--"]
