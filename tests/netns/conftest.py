"""Nodes that have seen the configs of earlier tests before, as a node has after its first pod.

Reading a config for the first time loads pydantic: 0.3 s, three quarters of a test's time. What
a node has validated (/run/podwire/configs) is handed on to the next; nothing else is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.node import Node

CONFIGS = "/run/podwire/configs"


@pytest.fixture(scope="session")
def seen_configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validated configs of all tests so far."""
    return tmp_path_factory.mktemp("configs")


@pytest.fixture
def make_node(
    make_node: Callable[[str], Node], seen_configs: Path
) -> Iterator[Callable[[str], Node]]:
    """As in tests/conftest.py, with the configs handed on."""
    nodes: list[Node] = []

    def make(name: str) -> Node:
        node = make_node(name)
        folder = node.path(CONFIGS)
        folder.parent.mkdir(mode=0o700)
        shutil.copytree(seen_configs, folder)
        folder.chmod(0o700)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        with suppress(FileNotFoundError, NotADirectoryError):
            for seen in node.path(CONFIGS).glob("[!.]*"):
                shutil.copy2(seen, seen_configs)
