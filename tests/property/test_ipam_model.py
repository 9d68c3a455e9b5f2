"""The store against a model in memory, under arbitrary interleavings of what a node sees."""

from __future__ import annotations

import shutil
import tempfile
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ipam.errors import AddressInUse, PoolExhausted
from ipam.ranges import canonical, faults, is_usable, pool, range_spans, ring
from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations

NAMES = st.sampled_from([f"c{n}" for n in range(9)])
COOLDOWN_S = 30
V4 = [ip_address("10.244.1.0") + n for n in (2, 3, 4, 5, 6)]
V6 = [ip_address("2001:db8::") + n for n in range(2, 8)]


class StoreMachine(RuleBasedStateMachine):
    """held: owner to addresses, as they must be. released: when an address became free."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="podwire-ipam-"))
        self.node = FakeNode()
        self.conf = conf_of(self.folder, "10.244.1.0/29", "2001:db8::/125", cooldown_s=COOLDOWN_S)
        self.held = {}
        self.released = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def free(self, addresses: Any) -> Any:
        taken = {a for mine in self.held.values() for a in mine}
        return [a for a in addresses if a not in taken]

    def cooling(self, address: Any) -> Any:
        return self.node.now_s - self.released.get(address, -1e9) < COOLDOWN_S

    def let_go(self, name: str) -> None:
        for address in self.held.pop(name, ()):
            self.released[address] = self.node.now_s

    @rule(name=NAMES)
    def add(self, name: str) -> None:
        known, full = self.held.get(name), not (self.free(V4) and self.free(V6))
        before = reservations(self.folder)
        try:
            leases = self.node.store().reserve(self.conf, NETWORK, owner_of(name), ())
        except PoolExhausted:
            assert full
            assert not known
            assert reservations(self.folder) == before
            return
        got = [lease.address.ip for lease in leases]
        if known:
            assert got == known
            return
        for address, family in zip(got, (V4, V6), strict=True):
            free = self.free(family)
            assert address in free
            if self.cooling(address):
                oldest = min(free, key=lambda a: self.released.get(a, -1e9))
                assert all(map(self.cooling, free))
                assert self.released[address] == self.released[oldest]
        self.held[name] = got

    @rule(name=NAMES, wanted=st.sampled_from(V4))
    def add_requested(self, name: str, wanted: Any) -> None:
        known = self.held.get(name)
        asked = [ip_interface(wanted)]
        try:
            leases = self.node.store().reserve(self.conf, NETWORK, owner_of(name), asked)
        except AddressInUse:
            assert wanted not in self.free(V4) or (known and known[0] != wanted)
            return
        except PoolExhausted:
            assert not self.free(V6)
            return
        got = [lease.address.ip for lease in leases]
        assert got[0] == wanted
        assert not known or known == got
        self.held[name] = got

    @rule(name=NAMES, hinted=st.booleans())
    def delete(self, name: str, hinted: bool) -> None:
        hint = self.held.get(name, [V4[0]]) if hinted else ()
        freed = self.node.store().release(self.conf, NETWORK, owner_of(name), hint)
        assert list(freed) == self.held.get(name, [])
        self.let_go(name)

    @rule(valid=st.sets(NAMES))
    def collect(self, valid: Any) -> None:
        keys = {(name, "eth0") for name in valid}
        freed = self.node.store().retain(self.conf, NETWORK, keys)
        dead = [name for name in self.held if name not in valid]
        assert set(freed) == {a for name in dead for a in self.held[name]}
        for name in dead:
            self.let_go(name)

    @rule(seconds=st.integers(0, 40))
    def wait(self, seconds: int) -> None:
        self.node.now_s += seconds

    @rule()
    def reboot(self) -> None:
        self.node.boot += "x"
        self.node.now_s = 1.0
        self.held.clear()
        self.released.clear()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def tear(self, data: Any) -> None:
        """A live reservation's content is lost; GC brings it back."""
        name = data.draw(st.sampled_from(sorted(self.held)))
        (self.folder / NETWORK / str(self.held[name][0])).write_bytes(b"")
        keys = {(name, "eth0") for name in self.held}
        assert self.node.store().retain(self.conf, NETWORK, keys) == ()

    @precondition(lambda self: (self.folder / NETWORK).exists())
    @rule(what=st.sampled_from([".released", ".tmp", "last_reserved_ip.0", "last_reserved_ip.1"]))
    def garble_a_hint(self, what: str) -> None:
        (self.folder / NETWORK / what).write_bytes(b"\0garbage")
        if what == ".released":
            self.released.clear()

    @invariant()
    def the_folder_is_the_model(self) -> None:
        path = self.folder / NETWORK
        if not path.exists() or self.node.store().held(self.conf, NETWORK, owner_of("none")):
            return
        marker = path / ".boot_id"
        if marker.exists() and marker.read_text() == f"boot_id {self.node.boot}\n":
            expected = {
                str(a): f"{name}\r\neth0".encode() for name, mine in self.held.items() for a in mine
            }
            assert reservations(self.folder) == expected

    @invariant()
    def counts_add_up(self) -> None:
        for usage, family in zip(
            self.node.store().usage(self.conf, NETWORK), (V4, V6), strict=True
        ):
            assert usage.used + usage.cooling + usage.free == usage.total == len(family)
            assert usage.used == len(family) - len(self.free(family))


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def range_sets(draw: Any) -> Any:
    """Sets of one or two small IPv4 ranges with bounds and excludes."""
    made = []
    for index in range(draw(st.integers(1, 2))):
        subnet = ip_network(f"10.244.{index}.0/{draw(st.integers(26, 29))}")
        hosts = list(subnet.hosts())
        low, high = sorted(draw(st.lists(st.sampled_from(hosts), min_size=2, max_size=2)))
        gateway = draw(st.sampled_from(hosts))
        excluded = draw(st.lists(st.sampled_from(hosts), max_size=3))
        nets = [ip_network(a) for a in excluded]
        if not faults(subnet, low, high, gateway, nets):
            made.append(canonical(subnet, low, high, gateway, nets))
    return tuple(made)


@given(range_sets(), st.integers(0, 600))
def test_ring_and_counts_agree_with_enumeration(range_set: Any, last: Any) -> None:
    if not range_set:
        return
    of = pool(range_set)
    expected = {
        a
        for made in range_set
        for a in made.subnet.hosts()
        if made.start <= a <= made.end
        and a != made.gateway
        and not any(a in net for net in made.exclude)
    }
    got = list(ring(of, ip_address("10.244.0.0") + last))
    assert len(got) == len(set(got)) == of.total
    assert set(got) == expected
    assert {a for a in ip_network("10.244.0.0/23") if is_usable(of, a)} == expected


@pytest.mark.parametrize("step", [1, 7])
def test_following_the_ring_visits_all(step: int) -> None:
    made = canonical(ip_network("10.244.1.0/27"), exclude=[ip_network("10.244.1.8/30")])
    of, last, seen = pool((made,)), None, []
    for _ in range(of.total * step):
        last = next(ring(of, last))
        seen.append(last)
    assert set(seen[: of.total]) == set(seen)
    assert len(set(seen)) == sum(s.last - s.first + 1 for s in range_spans(made))
