"""The world that scenes are played in: a cluster by kubeadm, podwire's images on its nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import need
from tests.support.kind.release import ROOT, build_content, release, renamed
from tests.support.kind.world import LATER, NODE_ROOT
from tests.support.kubernetes.cluster import KUBECTL, KubeCluster
from tests.support.kubernetes.scenes import World
from tests.support.node import open_node

PROGRAMS = ROOT / "build" / "kubernetes"


@contextmanager
def opened(folder: Path) -> Iterator[World]:
    """folder: for images and the nodes' disks. Skips with the reason where there can be none."""
    need.real_root()
    need.node_root(NODE_ROOT)
    if not PROGRAMS.is_dir() or not KUBECTL.exists():
        pytest.skip(f"{PROGRAMS} or {KUBECTL} is missing: run `make test-kubernetes`")
    need.tool("busybox", "busybox-static")
    content = build_content(folder / "this")
    # As users have it: `make image` names it so.
    this = release(content, folder / "this.tar", "docker.io/library/podwire")
    later = renamed(content, folder / "other", LATER)
    other = release(later, folder / "other.tar", "docker.io/library/podwire")
    with (
        open_node("hub", folder) as hub,
        KubeCluster(hub, NODE_ROOT, PROGRAMS, folder) as cluster,
    ):
        cluster.start()
        for node in cluster.nodes:
            for one in (this, other):
                node.load_image(one.archive)
        yield World(cluster, this, other)
