"""podman with its CNI back end starts and stops containers whose network is podwire's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.networks import NETWORKS, addresses, conflist
from tests.support.node import Node
from tests.support.snapshot import Snapshot

STAYS = r"last_reserved_ip|/.released |/run/(podman|runc|crun|containers|libpod|user)"


@pytest.mark.parametrize("name", ["bridge", "ptp-dual"])
def test_a_container_gets_its_network_and_leaves_nothing(
    name: str,
    node: Node,
    install: Callable[..., None],
    podman: Callable[..., Any],
    snapshot: Callable[[], Snapshot],
) -> None:
    # Podman speaks no newer version than this.
    install(conflist(name, version="0.4.0"))
    with podman(f"net-{name}", "first") as container:
        container.end()
    before = snapshot()
    with podman(f"net-{name}", "second") as container:
        found = addresses(container.said)
        assert [address.partition("/")[2] for address in found] == NETWORKS[name].prefixes
        for address in found:
            assert node.ping(address.partition("/")[0]), container.said
        container.end()
    assert before.without(STAYS).diff(snapshot().without(STAYS)) == []
