"""A node with kubelet and kube-proxy: one as kind's, and the real programs on it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.support.kind.containerd import SOCKET
from tests.support.kind.image import SHELL_IMAGE
from tests.support.kind.node import CGROUPS, KindNode

PROGRAMS = ("kubeadm", "kubelet", "kube-proxy")
# What kubelet would set for the whole machine; files of its own tell it that it is so already.
# Source: kubernetes pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables.
TUNABLES = {
    "vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10",
    "kernel/panic_on_oops": "1", "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}  # fmt: skip
# As systemd's unit of Kubernetes' packages: started again until kubeadm has written the config.
_KUBELET = """
while [ ! -e /var/lib/kubelet/config.yaml ]; do sleep 0.2; done
. /var/lib/kubelet/kubeadm-flags.env
exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\
    --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml \\
    --cgroup-root=/$1 $KUBELET_KUBEADM_ARGS
"""
# Limits of connection tracking are the whole machine's.
_PROXY = (
    "kube-proxy", "--kubeconfig=/etc/kubernetes/admin.conf", "--conntrack-max-per-core=0",
    "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s",
    "--conntrack-tcp-timeout-close-wait=0s",
)  # fmt: skip


class KubeNode(KindNode):
    """programs: the folder of hack/kubernetes.sh."""

    def __init__(self, name: str, root: Path, state: Path, programs: Path) -> None:
        super().__init__(name, root, state)
        self._programs = programs
        self._running: list[subprocess.Popen[str]] = []

    def start_kubelet(self) -> None:
        """It waits for kubeadm."""
        for name in PROGRAMS:
            shutil.copy(self._programs / name, self.path("/usr/local/bin"))
        self.path("/run/tunables").mkdir()
        for number, (name, value) in enumerate(TUNABLES.items()):
            self.path(f"/run/tunables/{number}").write_text(f"{value}\n")
            self.run("mount", "--bind", f"/run/tunables/{number}", f"/proc/sys/{name}")
        self._make_cgroups()
        self._start("kubelet", "sh", "-c", _KUBELET, "sh", self.cgroup)

    def start_proxy(self, admin: str) -> None:
        """admin: a kubeconfig."""
        self.path("/etc/kubernetes/admin.conf").write_text(admin)
        self._start("kube-proxy", *_PROXY, "--hostname-override", self.name)

    def tag_shell(self, name: str) -> None:
        """The shell's image by another name too."""
        images = ("ctr", "-a", SOCKET, "-n", "k8s.io", "images", "tag")
        self.run(*images, SHELL_IMAGE, name)

    def sandbox_of(self, pod: str) -> tuple[str, str]:
        """The network's file in /run/netns and the runtime's id."""
        listed = self.cri.call("ListPodSandbox")["items"]
        sandbox = next(one["id"] for one in listed if one["metadata"]["name"] == pod)
        request = {"podSandboxId": sandbox, "verbose": True}
        told = json.loads(self.cri.call("PodSandboxStatus", request)["info"]["info"])
        spaces = told["runtimeSpec"]["linux"]["namespaces"]
        path = next(space["path"] for space in spaces if space["type"] == "network")
        return Path(path).name, sandbox

    def log(self, name: str) -> str:
        """Of kubelet or kube-proxy."""
        return (self.state / f"{name}.log").read_text(errors="replace")

    def close(self) -> None:
        super().close()
        for process in self._running:
            process.wait(10)
        self._running.clear()

    def _start(self, name: str, *command: str) -> None:
        with (self.state / f"{name}.log").open("w") as log:
            self._running.append(
                self.spawn(*command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )

    def _make_cgroups(self) -> None:
        """kubelet wants its root to be there."""
        for hierarchy in CGROUPS.iterdir():
            if hierarchy.is_symlink() or not (hierarchy / "tasks").exists():
                continue
            made = hierarchy / self.cgroup
            made.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (made / name).exists():
                    (made / name).write_text((hierarchy / name).read_text())
