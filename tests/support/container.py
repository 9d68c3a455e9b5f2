"""A container as a DaemonSet asks for it, run by runc on a node without a kubelet.

    with Container(node, tmp_path, daemonset(), {"config": {"agent.yaml": ...}}) as agent:
        ...                                   # launchers on the node find its socket
    Container(..., name="install", image=of_tree(tree)).done()
    Container(..., without=("SYS_ADMIN",))    # less a capability

The spec is read out of the manifest, not repeated: capabilities, read-only root, no new privileges,
mounts with their propagation, the command's arguments. Beside it stands what a runtime adds by
itself: a process, mount and IPC namespace, read-only and masked paths of /proc, the seccomp
profile. The machine's Python, or podwire's relocatable tree, stands for the image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from tests.support import need
from tests.support.manifest import Json, capabilities, container_of
from tests.support.node import PLUGIN_PATH, Node, wait_until
from tests.support.seccomp import seccomp

ROOT = Path(__file__).resolve().parents[2]
RUNC = "/run/runc"
LIMIT_S = 30.0
# Of containerd's default spec (oci/spec_opts.go, populateDefaultUnixSpec).
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
]  # fmt: skip
PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}


class Image(NamedTuple):
    """What stands for the image. places: paths of this machine by where they are in it."""

    program: str
    places: Mapping[str, str]
    env: tuple[str, ...] = ()


def of_machine(node: Node) -> Image:
    """The machine's Python with podwire, and its iptables."""
    link = node.cni_bin / "podwire"
    places = {"/usr", "/etc/alternatives", "/etc/ld.so.cache", sys.prefix, sys.base_prefix}
    places |= {str(ROOT), str(node.cni_bin), str(link.resolve().parent)}
    kept = sorted(one for one in places if one == "/usr" or not one.startswith("/usr/"))
    return Image(str(link.resolve()), {one: one for one in kept if os.path.exists(one)})


def of_tree(tree: Path) -> Image:
    """podwire's own tree and nothing else, where the image has it."""
    at = "/usr/lib/podwire"
    return Image(f"{at}/bin/podwire", {at: str(tree)}, (f"PODWIRE_PYTHON={at}/bin/python3",))


class Container:
    """One that runs on a node. files: of its ConfigMaps and projected volumes, by volume and name.
    env: more than the spec has, as a kubelet gives it."""

    def __init__(
        self,
        node: Node,
        folder: Path,
        spec: Json,
        files: Mapping[str, Mapping[str, str]],
        name: str = "agent",
        *,
        without: Iterable[str] = (),
        image: Image | None = None,
        env: Iterable[str] = (),
    ) -> None:
        need.tool("runc")
        self.node = node
        self._id = f"{node.name}-{name}"
        self._folder = folder / f"container-{self._id}"
        self._spec, self._name, self._without = spec, name, tuple(without)
        self._image, self._env = image or of_machine(node), tuple(env)
        self._rootfs = self._folder / "rootfs"
        self._log = self._folder / "log"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._make_rootfs()
        self._volumes = self._make_volumes(files)
        (self._folder / "config.json").write_text(json.dumps(self._oci(), indent=1))
        self._start()

    # what a kubelet does

    def _make_volumes(self, files: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """By volume its place on the node, made where `type` says so."""
        made = {}
        for volume in self._spec["spec"]["template"]["spec"]["volumes"]:
            name = volume["name"]
            if "hostPath" in volume:
                made[name] = volume["hostPath"]["path"]
                self._make(made[name], volume["hostPath"]["type"])
                continue
            place = self._folder / name
            place.mkdir()
            made[name] = str(place)
            for key, text in files.get(name, {}).items():
                (place / key).write_text(text)
        return made

    def _make(self, path: str, kind: str) -> None:
        if kind == "DirectoryOrCreate":
            self.node.run("mkdir", "-p", "-m", "755", path)
        elif kind == "FileOrCreate":
            self.node.run("touch", path)
        else:
            self.node.run("test", "-d", path)

    # what a runtime does

    def _make_rootfs(self) -> None:
        for name in ("usr", "etc", "proc", "sys", "dev", "run", "tmp", "var/lib", "opt", "host"):
            (self._rootfs / name).mkdir(parents=True)
        (self._rootfs / "var/run").symlink_to("/run")
        for name in ("bin", "sbin", "lib", "lib64"):
            (self._rootfs / name).symlink_to(f"usr/{name}")

    def _oci(self) -> Json:
        container = container_of(self._spec, self._name)
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        held = [f"CAP_{c}" for c in capabilities(self._spec, self._name) if c not in self._without]
        sets = dict.fromkeys(("bounding", "effective", "permitted"), held)
        places = self._image.places.items()
        image = [_bind(source, at, ["ro", "rprivate"]) for at, source in places]
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs", "readonly": context["readOnlyRootFilesystem"]},
            "process": {
                "args": [self._image.program, *container["args"]],
                "env": [
                    f"PATH={PLUGIN_PATH}",
                    *self._image.env,
                    *(self._variable(one) for one in container.get("env", ())),
                    *self._env,
                ],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": sets,
                "noNewPrivileges": not context["allowPrivilegeEscalation"],
            },
            "mounts": [*image, *_of_runtime(), *self._mounts(container)],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc")],
                "readonlyPaths": READ_ONLY,
                "maskedPaths": MASKED,
                "seccomp": seccomp(held),
                "rootfsPropagation": "rslave",
            },
        }

    def _variable(self, variable: Json) -> str:
        assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}, variable
        return f"{variable['name']}={self.node.name}"

    def _mounts(self, container: Json) -> list[Json]:
        found = []
        for mount in container["volumeMounts"]:
            options = ["ro" if mount.get("readOnly") else "rw"]
            options.append(PROPAGATION[mount.get("mountPropagation", "None")])
            found.append(_bind(self._volumes[mount["name"]], mount["mountPath"], options))
        return found

    def _start(self) -> None:
        with self._log.open("wb") as log:
            self.process = self.node.spawn(
                "runc", "--root", RUNC, "run", "--no-pivot",
                "--bundle", str(self._folder), self._id, stdout=log, stderr=log,
            )  # fmt: skip

    def serves(self) -> Self:
        """Itself, once it does; AssertionError with what it said otherwise."""

        def settled() -> bool:
            return "podwire's agent serves" in self.log() or self.process.poll() is not None

        wait_until(settled, "the agent's container serves", LIMIT_S)
        assert self.process.poll() is None, self.log()
        return self

    def execute(self, *arguments: str) -> str:
        """What the image's program says to these arguments, as by `kubectl exec`."""
        words = (self._image.program, *arguments)
        return self.node.run("runc", "--root", RUNC, "exec", self._id, *words).stdout

    def done(self) -> str:
        """What it has said, once it has ended well; AssertionError otherwise."""
        status = self.process.wait(LIMIT_S)
        assert status == 0, self.log()
        return self.log()

    def log(self) -> str:
        """What it and runc have said."""
        return self._log.read_text()

    def end(self) -> None:
        """As at a kubelet's order."""
        self.process.terminate()
        try:
            self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(LIMIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.end()


def _bind(source: str, destination: str, options: list[str]) -> Json:
    return {
        "source": source,
        "destination": destination,
        "type": "bind",
        "options": ["rbind", *options],
    }


def _of_runtime() -> list[Json]:
    """Of containerd's default spec."""
    plain = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": plain},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*plain, "ro"]},
    ]
