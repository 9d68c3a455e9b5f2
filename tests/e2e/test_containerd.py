"""containerd starts and stops containers whose network is podwire's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.networks import NETWORKS, addresses, conflist
from tests.support import need
from tests.support.node import Node
from tests.support.snapshot import Snapshot

# Different after each container by their purpose: the address to start from, the runtime's own.
STAYS = r"last_reserved_ip|/.released |/run/containerd|/run/runc"


@pytest.mark.parametrize("name", NETWORKS)
def test_a_container_gets_its_network_and_leaves_nothing(
    name: str,
    node: Node,
    install: Callable[..., None],
    containerd: Callable[..., Any],
    snapshot: Callable[[], Snapshot],
) -> None:
    need.reference_plugin("loopback")
    wanted = NETWORKS[name]
    install(conflist(name))
    with containerd("first") as container:
        container.end()
    before = snapshot()
    with containerd("second") as container:
        found = addresses(container.said)
        assert [address.partition("/")[2] for address in found] == wanted.prefixes
        assert re.search(r"^default via \S+ dev eth0", container.said, re.MULTILINE)
        for address in found:
            assert node.ping(address.partition("/")[0]), container.said
        container.end()
    assert before.without(STAYS).diff(snapshot().without(STAYS)) == []
