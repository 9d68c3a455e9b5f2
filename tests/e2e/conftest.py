"""A real container runtime on a node, with podwire as its network. Root only."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import need
from tests.support.node import Node, wait_until

SOCKET = "/run/containerd/containerd.sock"
CONTAINERD_CONFIG = """
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
# What ctr run needs, without the rest's start-up time and warnings.
disabled_plugins = [
    "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "/run/containerd/containerd.sock"
"""
# Podman 4 (Debian 12) still has the back end that podman 5 dropped.
PODMAN_CONFIG = """
[containers]
# What an ordinary container engine's defaults ask for and a small machine may not grant.
default_ulimits = []
[engine]
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
"""
# The container tells what it sees, then lives until its standard input gets a line.
SHOW_AND_WAIT = "ip addr show eth0; ip route; ip -6 route; echo READY; read line"


@pytest.fixture
def real_root() -> None:
    """See need.real_root."""
    need.real_root()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A container's root file system: busybox, and no image or registry."""
    need.tool("busybox", "busybox-static")
    folder = tmp_path_factory.mktemp("rootfs")
    for name in ("proc", "sys", "dev", "etc", "tmp", "bin", "run", "var"):
        (folder / name).mkdir()
    busybox = folder / "bin" / "busybox"
    subprocess.run(["sh", "-c", f"cp $(command -v busybox) {busybox}"], check=True)
    for applet in ("sh", "ip", "ping", "ping6", "sleep", "cat", "nc", "httpd", "wget"):
        (folder / "bin" / applet).symlink_to("busybox")
    return folder


@pytest.fixture
def install(node: Node) -> Callable[[Mapping[str, Any]], None]:
    """Plugins into /opt/cni/bin and a config list into /etc/cni/net.d, as an installer would."""

    def do(conflist: Mapping[str, Any]) -> None:
        binaries, lists = node.path("/opt/cni/bin"), node.path("/etc/cni/net.d")
        for folder in (binaries, lists):
            folder.mkdir(exist_ok=True)
        for executable in node.cni_bin.iterdir():
            (binaries / executable.name).unlink(missing_ok=True)
            (binaries / executable.name).symlink_to(executable)
        (lists / f"10-{conflist['name']}.conflist").write_text(json.dumps(conflist))

    return do


@dataclass
class Container:
    """A running container; `said` is what SHOW_AND_WAIT printed."""

    process: subprocess.Popen[str]
    said: str

    def end(self) -> None:
        """Let it exit; AssertionError with the runtime's own words when that failed."""
        _, errors = self.process.communicate("\n", timeout=40)
        assert self.process.returncode == 0, errors


@contextmanager
def running(node: Node, *command: str | Path) -> Iterator[Container]:
    """A container started by `command`, which ends with the script's shell."""
    process = node.spawn(
        *command, "/bin/sh", "-c", SHOW_AND_WAIT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if line == "READY\n":
            break
        said.append(line)
    else:
        raise AssertionError(f"no container: {process.communicate()[1]}")
    container = Container(process, "".join(said))
    try:
        yield container
    finally:
        if process.poll() is None:
            process.communicate("\n", timeout=40)


@pytest.fixture
def containerd(
    real_root: None, node: Node, rootfs: Path, tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """`containerd(name)` is a context: a busybox container run by `ctr run --cni`."""
    need.tool("containerd")
    need.tool("runc")
    need.tool("ctr", "containerd")
    config = tmp_path / "containerd.toml"
    config.write_text(CONTAINERD_CONFIG)
    with ExitStack() as stack:
        log = stack.enter_context((tmp_path / "containerd.log").open("w+"))
        daemon = node.spawn("containerd", "--config", config, stdout=log, stderr=log)
        stack.callback(daemon.wait, timeout=20)
        stack.callback(daemon.terminate)

        def answers() -> bool:
            if daemon.poll() is not None:
                log.seek(0)
                raise AssertionError(f"containerd ended: {log.read()[-2000:]}")
            return node.run("ctr", "-a", SOCKET, "version", check=False).returncode == 0

        wait_until(answers, "containerd answers", limit_s=20)
        ctr = ("ctr", "-a", SOCKET, "run", "--rm", "--cni", "--rootfs", rootfs)
        yield lambda name: running(node, *ctr, name)


@pytest.fixture
def podman(real_root: None, node: Node, rootfs: Path, tmp_path: Path) -> Callable[..., Any]:
    """`podman(network, name)` is a context: a busybox container in that CNI network."""
    need.tool("podman")
    need.tool("conmon")
    config = tmp_path / "containers.conf"
    config.write_text(PODMAN_CONFIG)
    podman = (
        "env", f"CONTAINERS_CONF={config}", "podman", "--root=/run/podman/root",
        "--runroot=/run/podman/run", "--tmpdir=/run/podman/tmp", "--storage-driver=vfs",
        "--cgroup-manager=cgroupfs", "--events-backend=none",
    )  # fmt: skip
    for folder in ("/opt/cni/bin", "/etc/cni/net.d"):
        node.path(folder).mkdir(exist_ok=True)
    told = node.run(*podman, "info", "--format={{.Host.NetworkBackend}}", check=False)
    if told.stdout.strip() != "cni":
        pytest.skip(f"podman has no CNI back end here: {(told.stdout + told.stderr).strip()}")
    run = (*podman, "run", "--rm", "--interactive")
    return lambda network, name: running(
        node, *run, f"--network={network}", f"--name={name}", "--rootfs", rootfs
    )
