"""The world that scenes are played in: two nodes, with podwire installed as users install it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import need
from tests.support.kind.cluster import KindCluster
from tests.support.kind.release import ROOT, build_content, of_commit, of_image, release, renamed
from tests.support.kind.scenes import World, install
from tests.support.node import open_node

NODE_ROOT = ROOT / "build" / "node-root"
LATER = "99.0.0"  # the other version's name


@contextmanager
def opened(
    folder: Path,
    rounds: int,
    commit: str = "",
    suite: str = "",
    image: str = "",
) -> Iterator[World]:
    """folder: for images and the nodes' disks. rounds: how many upgrades. commit: the first version
    is its code, and the other one this; otherwise both are this. suite: the Debian that nodes
    have, otherwise this machine's. image: an archive of what `make image` built, otherwise the same
    content without a base. Skips with the reason where a node cannot be had."""
    root = NODE_ROOT.with_name(f"{NODE_ROOT.name}-{suite}") if suite else NODE_ROOT
    need.real_root()
    need.node_root(root)
    need.tool("busybox", "busybox-static")
    need.tool("gcc")
    content = build_content(folder / "this")
    this = of_image(Path(image)) if image else release(content, folder / "this.tar")
    if commit:
        old = of_commit(content, folder / "other", commit)
        first, other = release(old, folder / "other.tar"), this
    else:
        later = renamed(content, folder / "other", LATER)
        first, other = this, release(later, folder / "other.tar")
    with open_node("hub", folder) as hub, KindCluster(hub, root, folder) as cluster:
        for name in ("a", "b"):
            cluster.join(name)
        world = World(cluster, first, other, rounds, alike=not commit)
        install(world)
        yield world
