"""Reasons to skip: what a test needs of the machine and this one lacks. Nothing is assumed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REFERENCE = "/usr/lib/cni"  # where Debian's containernetworking-plugins lie
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_LINK_ARGUMENTS = {
    "vlan": ["link", "lo", "name", "probe", "type", "vlan", "id", "1"],
    "macvlan": ["link", "base", "name", "probe", "type", "macvlan"],
    "ipvlan": ["link", "base", "name", "probe", "type", "ipvlan"],
    "vxlan": ["name", "probe", "type", "vxlan", "id", "1", "dstport", "8472"],
    "geneve": ["name", "probe", "type", "geneve", "id", "1", "remote", "192.0.2.1"],
    "vrf": ["name", "probe", "type", "vrf", "table", "10"],
}


def _in_scratch_network(*command: str) -> bool:
    made = ["unshare", "--net", "sh", "-c", 'ip link add base type bridge; exec "$@"', "sh"]
    return subprocess.run([*made, *command], capture_output=True, check=False).returncode == 0


@functools.cache
def has_link_kind(kind: str) -> bool:
    """Whether the kernel makes a link of this kind (tried in a namespace of its own)."""
    arguments = _LINK_ARGUMENTS.get(kind, ["name", "probe", "type", kind])
    return _in_scratch_network("ip", "link", "add", *arguments)


@functools.cache
def has_bridge_vlan() -> bool:
    """Whether the kernel's bridge filters VLANs (CONFIG_BRIDGE_VLAN_FILTERING)."""
    return _in_scratch_network("ip", "link", "set", "base", "type", "bridge", "vlan_filtering", "1")


def link_kind(kind: str) -> None:
    """Skip the test unless the kernel has links of this kind."""
    if not has_link_kind(kind):
        pytest.skip(f"this kernel has no {kind} links")


@functools.cache
def has_shaping() -> bool:
    """Whether the kernel has what limits of bandwidth need: ifb, tbf, clsact, u32, mirred."""
    lines = (
        "ip link add probe type ifb",
        "tc qdisc add dev probe root tbf rate 1mbit burst 10k latency 25ms",
        "tc qdisc add dev base clsact",
        "tc filter add dev base ingress u32 match u32 0 0 action mirred egress redirect dev probe",
    )
    return _in_scratch_network("sh", "-ec", "; ".join(lines))


def shaping() -> None:
    """Skip the test unless the kernel can limit bandwidth."""
    tool("tc", "iproute2")
    if not has_shaping():
        pytest.skip("this kernel lacks one of ifb, tbf, clsact, u32, mirred")


def tool(command: str, package: str = "") -> None:
    """Skip the test unless the command is on this machine."""
    if shutil.which(command, path=f"{os.environ.get('PATH', '')}:{_SBIN}") is None:
        pytest.skip(f"{command} is missing; apt-get install {package or command}")


def real_root() -> None:
    """Skip in a user namespace: devices, cgroups and mounts of a container need the real root."""
    inside, outside, _ = Path("/proc/self/uid_map").read_text().split()
    if (inside, outside) != ("0", "0"):
        pytest.skip("a container runtime needs root; run as root")


def reference_plugin(name: str) -> None:
    """Skip the test unless the reference plugin is on this machine."""
    if not os.access(f"{REFERENCE}/{name}", os.X_OK):
        pytest.skip(f"{REFERENCE}/{name} is missing; apt-get install containernetworking-plugins")


def node_root(folder: Path) -> None:
    """Skip the test unless a node's root file system was made (hack/node_root.sh)."""
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: `make test` makes it as root, with debootstrap")
