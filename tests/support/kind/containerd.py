"""How a node's containerd is configured: what differs between its generations, in one place."""

from __future__ import annotations

import re

from tests.support.kind.image import SHELL_IMAGE

SOCKET = "/run/containerd/containerd.sock"
# restrict_oom_score_adj: what a machine without CAP_SYS_RESOURCE refuses otherwise.
_CONFIG = """
version = {version}
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "{socket}"
"""
_CRI = {
    2: """
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
# Debian 13 looks in /usr/lib/cni alone.
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
""",
    3: """
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
""",
}


def generation(told: str) -> tuple[int, int]:
    """Major and minor version, of what `containerd --version` prints."""
    found = re.search(r" (\d+)\.(\d+)\.\d", told)
    assert found, told
    return int(found[1]), int(found[2])


def config(major: int) -> str:
    """config.toml for that major version, in the form that is its own: 2.x would take the older
    one too, and translate it."""
    version = 3 if major >= 2 else 2
    text = _CONFIG + _CRI[version]
    return text.format(version=version, socket=SOCKET, image=SHELL_IMAGE)
