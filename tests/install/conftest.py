"""A node without Python on which podwire can be installed as on any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.bare import BareRoot, variant
from tests.support.node import Node


@pytest.fixture
def bare(node: Node) -> BareRoot:
    """A root file system with busybox alone, on a node."""
    return BareRoot(node)


@pytest.fixture(scope="session")
def release(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The tree as the release of a version."""
    made: dict[str, Path] = {}

    def of(version: str) -> Path:
        if version not in made:
            made[version] = variant(tree, version, tmp_path_factory.mktemp("tree") / version)
        return made[version]

    return of
