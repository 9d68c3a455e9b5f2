"""A node with a root file system of its own, containerd in it, and pods started by its CRI.

    node = KindNode("a", root, state)  # folders: of hack/node_root.sh, and for its disk
    node.start_containerd()
    node.load_image(shell)             # of tests.support.kind.image: there is no registry
    pod = node.start_pod("web")
    pod.exec("ping", "-c1", ...)
    pod.stop(); pod.remove()
    node.reboot()                      # /run, processes, network gone; the disk stays

What a Node of tests.support.node can, it can: run, ip, path, snapshots. Its network, mounts,
processes, host name and IPC are its own; its cgroups are below one of its own.
"""

from __future__ import annotations

import functools
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import grpc

from tests.support.kind import containerd
from tests.support.kind.containerd import SOCKET
from tests.support.kind.cri import Cri
from tests.support.kind.pod import KindPod
from tests.support.node import Node, wait_until

CGROUPS = Path("/sys/fs/cgroup")
# The disk's part is below $2, which outlives the node: the rest of the root's changes, and what
# containerd keeps (an overlay cannot be the top of an overlay).
_HOLD = """
set -eu
root=$2/root
mkdir -p $root $2/upper $2/work $2/containerd
mount -t overlay -o lowerdir=$1,upperdir=$2/upper,workdir=$2/work podwire $root
cd $root
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 podwire run
mount -t tmpfs podwire tmp
mkdir -p run/netns run/lock var/lib/containerd
# As the first `ip netns add` would, which would cover the mounts of pods that run by then, and
# containerd 2 removes no namespace whose file is still a mount point below.
mount --bind run/netns run/netns
mount --bind $2/containerd var/lib/containerd
mkdir -p .old
pivot_root . .old
umount -l /.old
mount --make-rshared /
hostname $3
ip link set lo up
# As kind's node image has them.
sysctl() { echo $2 >/proc/sys/net/ipv4/conf/all/$1; echo $2 >/proc/sys/net/ipv4/conf/default/$1; }
sysctl rp_filter 1
sysctl route_localnet 1
echo 1 >/proc/sys/net/ipv4/ip_forward
# A link whose own address is still on trial asks for no neighbours, for a second or two.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
echo ready
cat
"""


class KindNode(Node):
    """One node. root: of hack/node_root.sh, never written to. state: a folder for its disk."""

    def __init__(self, name: str, root: Path, state: Path) -> None:
        self._lower, self.state = root, state
        self.cgroup = f"podwire-{uuid.uuid4().hex[:12]}"
        self._containerd: subprocess.Popen[str] | None = None
        self._cri: Cri | None = None
        state.mkdir(exist_ok=True)
        super().__init__(name, Path("/opt/cni/bin"))

    def __post_init__(self) -> None:
        self._holder = subprocess.Popen(
            [
                "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork",
                "--kill-child", "--propagation", "private", "sh", "-c", _HOLD, "sh",
                str(self._lower), str(self.state), self.name,
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise AssertionError(f"no node: {self._holder.stderr.read().decode()}")

    def _enter(self) -> list[str]:
        return [
            *self.enter_mounts(), "--net", "--uts", "--ipc",
            f"--pid=/proc/{self.pid}/ns/pid_for_children", "--wd=/", "--",
        ]  # fmt: skip

    # the runtime -------------------------------------------------------------------------------

    @property
    def cri(self) -> Cri:
        """The runtime that runs."""
        assert self._cri is not None
        return self._cri

    @property
    def containerd_log(self) -> Path:
        """On the state folder, of all its runs."""
        return self.state / "containerd.log"

    @functools.cached_property
    def generation(self) -> tuple[int, int]:
        """Of its containerd: major and minor version."""
        return containerd.generation(self.run("containerd", "--version").stdout)

    def start_containerd(self) -> None:
        """And until it answers."""
        self.path("/etc/containerd").mkdir(exist_ok=True)
        config = containerd.config(self.generation[0])
        self.path("/etc/containerd/config.toml").write_text(config)
        with self.containerd_log.open("a") as log:
            self._containerd = self.spawn("containerd", stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)  # fmt: skip
        socket = self.path(SOCKET)
        wait_until(socket.exists, "containerd's socket is there", 30)
        self._cri = Cri(socket)
        wait_until(lambda: self._answers("Status"), "containerd's CRI answers", 30)

    def _answers(self, method: str) -> bool:
        assert self._containerd is not None
        log = self.containerd_log.read_text(errors="replace")
        assert self._containerd.poll() is None, f"containerd ended: {log[-3000:]}"
        try:
            self.cri.call(method)
        except grpc.RpcError:
            return False
        return True

    def stop_containerd(self) -> None:
        """As systemd does: pods live on."""
        assert self._containerd is not None
        self.cri.close()
        self._cri = None
        for child in children(self._containerd.pid):
            os.kill(child, 15)
        self._containerd.wait(30)
        self._containerd = None
        self.path(SOCKET).unlink(missing_ok=True)

    def load_image(self, archive: Path) -> None:
        """Where a registry would be asked."""
        inside = self.path("/run") / archive.name
        inside.write_bytes(archive.read_bytes())
        self.run("ctr", "-a", SOCKET, "-n", "k8s.io", "images", "import", f"/run/{archive.name}",
                 limit_s=120)  # fmt: skip
        inside.unlink()

    def reboot(self) -> None:
        """As kind's node restarts: only the disk is as it was, and the kernel, with its boot id."""
        self.close()
        self.__post_init__()

    # pods --------------------------------------------------------------------------------------

    def new_pod(self, name: str, **config: Any) -> KindPod:
        """One that is still to be started. config: of PodSandboxConfig."""
        return KindPod(self, name, f"/{self.cgroup}", config)

    def start_pod(self, name: str, **config: Any) -> KindPod:
        """A sandbox, and a shell's container in it."""
        pod = self.new_pod(name, **config)
        pod.run_sandbox()
        pod.run_container()
        return pod

    def close(self) -> None:
        """All that is in it goes with it."""
        if self._cri is not None:
            self._cri.close()
            self._cri = None
        super().close()
        self.pods.clear()
        if self._containerd is not None:
            self._containerd.wait(10)
            self._containerd = None
        self._forget_cgroups()

    def _forget_cgroups(self) -> None:
        """Empty by now, but for what the kernel has not yet buried."""
        for top in CGROUPS.glob(f"*/{self.cgroup}"):
            folders = [path for path, _, _ in os.walk(top, topdown=False)]
            for folder in folders:
                wait_until(lambda folder=folder: _removed(folder), f"{folder} is empty")


def _removed(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def children(pid: int) -> list[int]:
    """Processes that `pid` started: a namespace's first one is its launcher's child."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return list(map(int, listed.split()))
