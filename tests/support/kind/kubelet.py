"""What kubelet does of a DaemonSet's pod: from its spec to the runtime's messages.

Only what podwire's own manifest has; anything else in a spec is an error, so that nothing of it
goes untested without a word. Volumes' contents are what the API server would have given.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.kind.cri import Json
from tests.support.kind.image import SHELL_IMAGE
from tests.support.kind.node import KindNode
from tests.support.kind.pod import KindPod
from tests.support.node import wait_until

EXITED = 2  # ContainerState of api.proto
POD, CONTAINER, NODE = 0, 1, 2  # NamespaceMode
RUNTIME_DEFAULT, UNCONFINED = 0, 1  # SecurityProfile.ProfileType
PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
# Source: kubernetes pkg/securitycontext/util.go, for procMount Default.
MASKED = [
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
]  # fmt: skip
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
POD_KEYS = {
    "automountServiceAccountToken", "containers", "dnsPolicy", "hostNetwork", "initContainers",
    "nodeSelector", "priorityClassName", "restartPolicy", "securityContext", "serviceAccountName",
    "terminationGracePeriodSeconds", "tolerations", "volumes",
}  # fmt: skip
CONTAINER_KEYS = {
    "args", "command", "env", "image", "imagePullPolicy", "livenessProbe", "name",
    "readinessProbe", "resources", "securityContext", "startupProbe", "volumeMounts",
}  # fmt: skip
SECURITY_KEYS = {
    "allowPrivilegeEscalation", "capabilities", "readOnlyRootFilesystem", "seccompProfile",
    "privileged", "runAsNonRoot", "runAsUser",
}  # fmt: skip
UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
CFS_PERIOD_US = 100_000


class DaemonPod:
    """One of a DaemonSet's pods on a node. files: of ConfigMaps and projected volumes, by the
    volume's name. environ: what kubelet adds. image: in place of the spec's."""

    def __init__(
        self,
        node: KindNode,
        name: str,
        spec: Mapping[str, Any],
        image: str,
        files: Mapping[str, Mapping[str, str]],
        environ: Mapping[str, str],
    ) -> None:
        _known("pod", spec, POD_KEYS)
        assert spec["hostNetwork"], "the runtime's own network is what this pod makes"
        self.node, self.spec, self.image = node, spec, image
        self._environ = environ
        security = {"namespaceOptions": {"network": NODE, "pid": CONTAINER, "ipc": POD}}
        # No host name of its own: kubelet gives none where the network is the node's.
        self.pod: KindPod = node.new_pod(name, hostname="", linux={"securityContext": security})
        self._home = Path("/var/lib/kubelet/pods") / self.pod.config["metadata"]["uid"]
        self._volumes = {each["name"]: self._volume(each, files) for each in spec["volumes"]}
        self.containers: dict[str, str] = {}

    def start(self) -> None:
        """Init containers, one after the other; then the containers. AssertionError when one of the
        former fails, with its log."""
        self.begin()
        self.go_on()

    def begin(self) -> None:
        """The first of its containers is started."""
        self.pod.run_sandbox()
        for container in self.spec.get("initContainers", self.spec["containers"])[:1]:
            self._start(container)

    def go_on(self) -> None:
        """The others, each init container when the one before has ended."""
        for container in self.spec.get("initContainers", []):
            if container["name"] not in self.containers:
                self._start(container)
            self.wait(container["name"])
        for container in self.spec["containers"]:
            if container["name"] not in self.containers:
                self._start(container)

    def wait(self, name: str, status: int = 0) -> None:
        """Until it has exited with that status."""
        wait_until(lambda: self.state(name)["state"] == EXITED, f"{name} has ended", 60)
        found = self.state(name)["exitCode"]
        assert found == status, f"{name}: exit status {found}: {self.log(name)}"

    def state(self, name: str) -> Json:
        """Of a container, as the runtime tells it."""
        answer = self.node.cri.call("ContainerStatus", {"containerId": self.containers[name]})
        return dict(answer["status"])

    def log(self, name: str) -> str:
        """What it has written so far. Each line begins with time, stream and a tag: the CRI's
        format."""
        text = self.node.path(f"{self.pod.config['logDirectory']}/{name}.log")
        lines = text.read_text().splitlines() if text.exists() else []
        return "\n".join(line.split(" ", 3)[-1] for line in lines)

    def stop(self) -> None:
        """As a rolling update does: SIGTERM, the grace period, and all of it is removed."""
        grace = self.spec.get("terminationGracePeriodSeconds", 30)
        for container in self.spec["containers"]:
            request = {"containerId": self.containers[container["name"]], "timeout": grace}
            self.node.cri.call("StopContainer", request)
        self.pod.stop()
        self.pod.remove()
        shutil.rmtree(self.node.path(self._home), ignore_errors=True)

    # inside ------------------------------------------------------------------------------------

    def _volume(self, volume: Mapping[str, Any], files: Mapping[str, Mapping[str, str]]) -> str:
        """Its path on the node."""
        if "hostPath" in volume:
            return self._host_path(**volume["hostPath"])
        folder = self._home / volume["name"]
        inside = self.node.path(folder)
        inside.mkdir(parents=True)
        if "emptyDir" not in volume:
            for name, text in files[volume["name"]].items():
                (inside / name).write_text(text)
        return str(folder)

    def _host_path(self, path: str, type: str = "") -> str:  # noqa: A002  the API's name
        there = self.node.path(path)
        if type == "DirectoryOrCreate":
            there.mkdir(parents=True, exist_ok=True)
        elif type == "FileOrCreate":
            there.touch()
        kinds = {"Directory": there.is_dir, "DirectoryOrCreate": there.is_dir,
                 "File": there.is_file, "FileOrCreate": there.is_file}  # fmt: skip
        assert type == "" or kinds[type](), f"{path} is no {type}"
        return path

    def _start(self, container: Mapping[str, Any]) -> None:
        _known(container["name"], container, CONTAINER_KEYS)
        name = container["name"]
        # Of podwire's own there is one here; any other's part is to be there.
        image = self.image if container["image"].startswith("podwire") else SHELL_IMAGE
        config: Json = {
            "metadata": {"name": name},
            "image": {"image": image},
            "command": container.get("command", []),
            "args": container.get("args", []),
            "envs": self._envs(container.get("env", [])),
            "mounts": [self._mount(mount) for mount in container.get("volumeMounts", [])],
            "logPath": f"{name}.log",
            "linux": {
                "resources": _resources(container.get("resources", {})),
                "securityContext": self._security(container["securityContext"]),
            },
        }
        self.node.path(self.pod.config["logDirectory"]).mkdir(parents=True, exist_ok=True)
        self.containers[name] = self.pod.start(config)

    def _envs(self, listed: list[Mapping[str, Any]]) -> list[Json]:
        fields = {"spec.nodeName": self.node.name, "status.hostIP": ""}
        given = dict(self._environ)
        for env in listed:
            source = env.get("valueFrom")
            given[env["name"]] = fields[source["fieldRef"]["fieldPath"]] if source else env["value"]
        return [{"key": key, "value": value} for key, value in given.items()]

    def _mount(self, mount: Mapping[str, Any]) -> Json:
        _known("volumeMount", mount, {"name", "mountPath", "readOnly", "mountPropagation"})
        return {
            "containerPath": mount["mountPath"],
            "hostPath": self._volumes[mount["name"]],
            "readonly": mount.get("readOnly", False),
            "propagation": PROPAGATION[mount.get("mountPropagation", "None")],
        }

    def _security(self, own: Mapping[str, Any]) -> Json:
        wanted = {**self.spec.get("securityContext", {}), **own}
        _known("securityContext", wanted, SECURITY_KEYS)
        profile = wanted.get("seccompProfile", {"type": "Unconfined"})["type"]
        capabilities = wanted.get("capabilities", {})
        user = {"runAsUser": {"value": wanted["runAsUser"]}} if "runAsUser" in wanted else {}
        return {
            **user,
            "capabilities": {
                "addCapabilities": capabilities.get("add", []),
                "dropCapabilities": capabilities.get("drop", []),
            },
            "privileged": wanted.get("privileged", False),
            "namespaceOptions": {"network": NODE, "pid": CONTAINER, "ipc": POD},
            "readonlyRootfs": wanted.get("readOnlyRootFilesystem", False),
            "noNewPrivs": not wanted.get("allowPrivilegeEscalation", True),
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": {
                "profileType": RUNTIME_DEFAULT if profile == "RuntimeDefault" else UNCONFINED
            },
        }


def _known(what: str, given: Mapping[str, Any], keys: set[str]) -> None:
    unknown = given.keys() - keys
    assert not unknown, f"{what} has {sorted(unknown)}, which this kubelet does not know"


def _resources(wanted: Mapping[str, Any]) -> Json:
    """Limits as kubelet gives them to a runtime."""
    limits, found = wanted.get("limits", {}), {}
    if "memory" in limits:
        number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", limits["memory"]).groups("")  # type: ignore[union-attr]
        found["memoryLimitInBytes"] = int(number) * UNITS[unit]
    if "cpu" in limits:
        text = str(limits["cpu"])
        cores = int(text[:-1]) / 1000 if text.endswith("m") else float(text)
        found |= {"cpuPeriod": CFS_PERIOD_US, "cpuQuota": round(cores * CFS_PERIOD_US)}
    return found
