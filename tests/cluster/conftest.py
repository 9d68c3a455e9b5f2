"""A cluster: see tests.support.cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import need
from tests.support.cluster import Fabric
from tests.support.node import Node


@pytest.fixture
def fabric(make_node: Callable[[str], Node], tmp_path: Path) -> Iterator[Fabric]:
    """Two networks and a router, with no nodes yet."""
    need.link_kind("vxlan")
    with Fabric(make_node, tmp_path) as made:
        yield made
