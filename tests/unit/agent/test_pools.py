"""The gauges of addresses: one series a range set, and never an old number for a new one."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cni_plugin.agent import metrics
from cni_plugin.agent.metrics import Pools
from cni_plugin.pools import Stat

STAT = Stat("net", "0", "10.244.0.0/24", 254, 3, 1)
NO_CONFIG = Stat("old", "", "no config", None, 2)


class Store:
    """Counts as told, and remembers the events that the collector tells of."""

    def __init__(self, *found: Stat | Exception) -> None:
        self.found = list(found)
        self.looks = 0
        self.events: list[Any] = []

    def count(self) -> list[Stat]:
        self.looks += 1
        for one in self.found:
            if isinstance(one, Exception):
                raise one
        return [one for one in self.found if isinstance(one, Stat)]

    def event(self, *what: Any) -> None:
        self.events.append(what)

    call = repaired = event


def scraped(store: Store, *, scrapes: int = 1) -> list[str]:
    """The series of the last scrape."""
    registry = CollectorRegistry()
    registry.register(Pools(store.count, store))
    text = ""
    for _ in range(scrapes):
        text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_a_range_set_and_a_network_without_config() -> None:
    assert scraped(Store(STAT, NO_CONFIG)) == [
        'podwire_ipam_size_addresses{network="net",set="0"} 254.0',
        'podwire_ipam_used_addresses{network="net",set="0"} 3.0',
        'podwire_ipam_used_addresses{network="old",set=""} 2.0',
        'podwire_ipam_cooling_addresses{network="net",set="0"} 1.0',
        'podwire_ipam_cooling_addresses{network="old",set=""} 0.0',
        'podwire_ipam_free_addresses{network="net",set="0"} 250.0',
    ]


def test_two_lists_of_one_network_are_one_series() -> None:
    """Prometheus refuses a whole scrape that holds a series twice."""
    assert scraped(Store(STAT, STAT._replace(used=9))) == scraped(Store(STAT))


def test_a_look_serves_several_scrapes() -> None:
    store = Store(STAT)
    scraped(store, scrapes=3)
    assert store.looks == 1


def test_the_next_look_is_not_far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "POOLS_KEPT_S", 0.0)
    store = Store(STAT)
    scraped(store, scrapes=3)
    assert store.looks == 3


def test_a_store_that_cannot_be_read_is_a_gap_and_an_event() -> None:
    store = Store(PermissionError(13, "Permission denied", "/var/lib/cni/networks"))
    assert scraped(store) == []
    ((level, message, _fields),) = store.events
    assert level == "warning"
    assert "Permission denied" in message
