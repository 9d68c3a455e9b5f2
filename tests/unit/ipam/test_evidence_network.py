"""The store asks for evidence by network: two networks that never meet may share a range."""

from __future__ import annotations

from pathlib import Path

from ipam.disk import DiskLeases
from tests.unit.ipam.kit import conf_of, owner_of


def test_an_address_in_use_in_one_network_is_free_in_another(tmp_path: Path) -> None:
    live = {("one", "10.244.1.2")}
    store = DiskLeases(lambda network, address: (network, str(address)) in live)
    conf = conf_of(tmp_path, "10.244.1.0/24")
    given = {
        network: str(store.reserve(conf, network, owner_of("c1"), ())[0].address.ip)
        for network in ("one", "two")
    }
    assert given == {"one": "10.244.1.3", "two": "10.244.1.2"}
