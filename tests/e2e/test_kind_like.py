"""Nodes as kind has them: podwire's DaemonSet on a real containerd, pods by its CRI.

The scenes are those of `make test-node`, which plays more upgrades and shows what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.kind.scenes import SCENES, World
from tests.support.kind.world import opened

ROUNDS = 2  # upgrades: there and back

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two nodes with podwire."""
    with opened(tmp_path_factory.mktemp("kind"), ROUNDS) as made:
        yield made


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_on_nodes_as_kinds(scene: Callable[[World], str], world: World) -> None:
    scene(world)
