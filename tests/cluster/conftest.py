"""A cluster: see tests.support.cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import need
from tests.support.cluster import Fabric
from tests.support.node import Node


@pytest.fixture
def make_fabric(
    make_node: Callable[[str], Node], tmp_path: Path
) -> Iterator[Callable[..., Fabric]]:
    """Makes two networks and a router, with no nodes yet."""
    need.link_kind("vxlan")
    with ExitStack() as made:
        yield lambda **options: made.enter_context(Fabric(make_node, tmp_path, **options))


@pytest.fixture
def fabric(make_fabric: Callable[..., Fabric]) -> Fabric:
    """The same, for IPv4 and IPv6."""
    return make_fabric()
