"""Nodes as kind has them: podwire's DaemonSet on a real containerd, pods by its CRI.

The scenes are those of `make test-node`, which plays more upgrades and shows what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.kind.scenes import SCENES, World, upgrades
from tests.support.kind.world import opened

ROUNDS = 2  # upgrades: there and back
NEWER = "forky"  # a Debian with containerd 2, whatever this machine's has
# The longest scene, which asks nothing else of a runtime than the others.
SHORT = [scene for scene in SCENES if scene is not upgrades]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two nodes with podwire."""
    with opened(tmp_path_factory.mktemp("kind"), ROUNDS) as made:
        yield made


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two nodes with podwire and containerd 2."""
    with opened(tmp_path_factory.mktemp("newer"), ROUNDS, suite=NEWER) as made:
        assert made.cluster.nodes[0].generation >= (2, 0)
        yield made


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_on_nodes_as_kinds(scene: Callable[[World], str], world: World) -> None:
    scene(world)


@pytest.mark.parametrize("scene", SHORT, ids=lambda scene: scene.__name__)
def test_on_nodes_with_containerd_2(scene: Callable[[World], str], newer: World) -> None:
    scene(newer)
