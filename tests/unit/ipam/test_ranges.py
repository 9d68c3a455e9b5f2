from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from itertools import islice
from typing import Any

import pytest

from ipam.errors import InvalidRanges
from ipam.ranges import (
    canonical,
    faults,
    is_usable,
    overlap,
    pool,
    range_spans,
    ring,
    set_faults,
)


def made(
    subnet: str, start: Any = None, end: Any = None, gateway: Any = None, exclude: Any = ()
) -> Any:
    def address(text: Any) -> Any:
        return None if text is None else ip_address(text)

    nets = tuple(ip_network(net) for net in exclude)
    return canonical(ip_network(subnet), address(start), address(end), address(gateway), nets)


def fault_keys(subnet: str, **keys: Any) -> Any:
    values = {
        key: tuple(map(ip_network, value)) if key == "exclude" else ip_address(value)
        for key, value in keys.items()
    }
    return [fault.key for fault in faults(ip_network(subnet), **values)]


def around(range_set: Any, last: Any = None) -> Any:
    return [str(a) for a in ring(pool(range_set), last and ip_address(last))]


class TestCanonical:
    def test_ipv4_defaults_leave_out_network_and_broadcast(self) -> None:
        got = made("10.244.1.0/24")
        bounds = ("10.244.1.1", "10.244.1.254", "10.244.1.1")
        assert (str(got.start), str(got.end), str(got.gateway)) == bounds

    def test_ipv6_has_no_broadcast(self) -> None:
        got = made("2001:db8::/126")
        assert (str(got.start), str(got.end)) == ("2001:db8::1", "2001:db8::3")

    @pytest.mark.parametrize("subnet", ["10.244.1.0/31", "10.244.1.0/32", "2001:db8::/127"])
    def test_a_subnet_without_room_for_gateway_and_pod_is_refused(self, subnet: str) -> None:
        with pytest.raises(InvalidRanges, match="at least 4 addresses"):
            made(subnet)

    def test_ipv4_mapped_is_refused(self) -> None:
        with pytest.raises(InvalidRanges, match="IPv4-mapped"):
            made("::ffff:10.244.1.0/120")

    @pytest.mark.parametrize(
        ("keys", "wrong"),
        [
            ({"start": "10.244.1.0"}, ["rangeStart"]),  # the network address
            ({"end": "10.244.1.255"}, ["rangeEnd"]),  # the broadcast address
            ({"start": "10.244.2.5"}, ["rangeStart"]),
            ({"start": "2001:db8::5"}, ["rangeStart"]),
            ({"gateway": "10.244.2.1"}, ["gateway"]),
            ({"gateway": "10.244.1.255"}, ["gateway"]),  # the kernel takes no route through it
            ({"exclude": ["10.245.0.0/24"]}, ["exclude"]),
            ({"exclude": ["2001:db8::/64"]}, ["exclude"]),
            ({"start": "10.244.1.9", "end": "10.244.1.5"}, ["rangeStart"]),
            ({"start": "10.244.1.1", "end": "10.244.1.1"}, ["subnet"]),  # the gateway alone
            ({"exclude": ["10.244.1.0/24"]}, ["subnet"]),
            ({"start": "10.244.1.0", "gateway": "10.245.0.1"}, ["rangeStart", "gateway"]),
            ({}, []),
        ],
    )
    def test_every_fault_names_its_key(self, keys: Any, wrong: Any) -> None:
        assert fault_keys("10.244.1.0/24", **keys) == wrong


class TestSpans:
    def test_gateway_and_excludes_cut_the_bounds(self) -> None:
        got = range_spans(made("10.244.1.0/28", exclude=("10.244.1.4/31", "10.244.1.5/32")))
        low = int(ip_address("10.244.1.0"))
        assert [(s.first - low, s.last - low) for s in got] == [(2, 3), (6, 14)]

    def test_an_exclude_at_both_ends(self) -> None:
        got = range_spans(made("10.244.1.0/29", exclude=("10.244.1.0/30", "10.244.1.6/31")))
        assert sum(s.last - s.first + 1 for s in got) == 2

    def test_counts_of_a_huge_range(self) -> None:
        got = pool((made("2001:db8::/64", exclude=("2001:db8::/65",)),))
        # The excluded half holds the gateway; ::0 is no host.
        assert (got.total, got.reserved) == (2**63, 2**63 - 1)

    def test_a_host_range_in_the_middle_does_not_lose_the_gateway_count(self) -> None:
        got = pool((made("10.244.1.0/24", "10.244.1.10", "10.244.1.20"),))
        assert (got.total, got.reserved) == (11, 0)

    def test_usable_is_inside_less_gateway(self) -> None:
        of = pool((made("10.244.1.0/29"),))
        usable = [n for n in range(8) if is_usable(of, ip_address("10.244.1.0") + n)]
        assert usable == [2, 3, 4, 5, 6]
        assert not is_usable(of, ip_address(int(ip_address("10.244.1.2")) + 2**96))


class TestRing:
    def test_starts_at_the_beginning(self) -> None:
        assert around((made("10.244.1.0/29"),)) == [f"10.244.1.{n}" for n in (2, 3, 4, 5, 6)]

    def test_goes_on_after_the_last_and_wraps(self) -> None:
        got = around((made("10.244.1.0/29"),), "10.244.1.4")
        assert got == [f"10.244.1.{n}" for n in (5, 6, 2, 3, 4)]

    def test_a_last_inside_an_exclude_goes_on_behind_it(self) -> None:
        got = around((made("10.244.1.0/29", exclude=("10.244.1.4/31",)),), "10.244.1.4")
        assert got == [f"10.244.1.{n}" for n in (6, 2, 3)]

    def test_ranges_follow_in_the_order_of_the_config(self) -> None:
        range_set = (made("10.244.9.0/30"), made("10.244.1.0/29"))
        got = around(range_set, "10.244.1.5")
        assert got == ["10.244.1.6", "10.244.9.2", *(f"10.244.1.{n}" for n in (2, 3, 4, 5))]

    def test_a_last_outside_starts_over(self) -> None:
        assert around((made("10.244.1.0/29"),), "10.9.9.9")[0] == "10.244.1.2"

    def test_a_slash_64_is_never_enumerated(self) -> None:
        got = islice(ring(pool((made("2001:db8::/64"),)), ip_address("2001:db8::ffff:1")), 2)
        assert [str(a) for a in got] == ["2001:db8::ffff:2", "2001:db8::ffff:3"]


class TestSets:
    def test_bounds_decide_about_overlap_not_subnets(self) -> None:
        low = made("10.244.1.0/24", end="10.244.1.99")
        high = made("10.244.1.0/24", start="10.244.1.100")
        assert not overlap(low, high)
        assert overlap(low, made("10.244.1.64/26"))

    def test_overlap_between_sets_names_both(self) -> None:
        sets = ((made("10.244.1.0/24"),), (made("10.244.2.0/24"), made("10.244.1.128/25")))
        assert [(f.key, "ranges[0][0]" in f.accepted) for f in set_faults(sets)] == [
            ("ranges[1][1]", True)
        ]

    def test_one_family_in_a_set(self) -> None:
        sets = ((made("10.244.1.0/24"), made("2001:db8::/64")), (made("2001:db8:1::/64"),))
        assert [f.key for f in set_faults(sets)] == ["ranges[0][1]"]

    def test_a_sweep_finds_what_comparing_every_pair_finds(self) -> None:
        dice = random.Random(7)
        for _ in range(300):
            sets = tuple((a_range(dice),) for _ in range(dice.randint(1, 7)))
            flat = [range_set[0] for range_set in sets]
            pairs = [
                (i, j) for j in range(len(flat)) for i in range(j) if overlap(flat[i], flat[j])
            ]
            found = set_faults(sets)
            assert bool(found) == bool(pairs)
            named = {(f.accepted.split()[4], f.key) for f in found}
            assert named <= {(f"ranges[{i}][0]", f"ranges[{j}][0]") for i, j in pairs}

    @pytest.mark.parametrize("apart", [True, False])
    def test_ten_thousand_ranges_are_not_compared_pair_by_pair(
        self, monkeypatch: pytest.MonkeyPatch, apart: bool
    ) -> None:
        calls = []

        def counted(one: Any, other: Any) -> bool:
            calls.append(None)
            return overlap(one, other)

        monkeypatch.setattr("ipam.ranges.overlap", counted)
        subnets = [f"10.{i // 256}.{i % 256}.0/24" for i in range(10_000 if apart else 1)]
        sets = tuple((made(subnet),) for subnet in subnets) * (1 if apart else 10_000)
        assert len(set_faults(sets)) == (0 if apart else 9_999)
        assert len(calls) < 10_000


def a_range(dice: random.Random) -> Any:
    bounds = sorted(dice.randint(2, 60) for _ in range(2))
    if dice.random() < 0.3:
        return made("2001:db8::/120", *(f"2001:db8::{b:x}" for b in bounds))
    return made("10.244.1.0/24", *(f"10.244.1.{b}" for b in bounds))


class TestSubnetsForNobody:
    @pytest.mark.parametrize(
        ("subnet", "why"),
        [
            ("127.0.0.0/8", "loopback"),
            ("127.1.2.0/24", "loopback"),
            ("64.0.0.0/2", "loopback"),
            ("224.0.0.0/4", "multicast"),
            ("239.1.0.0/16", "multicast"),
            ("240.0.0.0/4", "reserved"),
            ("255.255.255.0/24", "reserved"),
            ("0.0.0.0/8", "unspecified"),
            ("0.0.0.0/0", "all of IPv4"),
            ("::/0", "all of IPv6"),
            ("::/64", "unspecified"),
            ("fe80::/64", "link-local"),
            ("fe00::/8", "link-local"),
            ("ff00::/8", "multicast"),
            ("ff02::/64", "multicast"),
            ("::ffff:0:0/96", "IPv4-mapped"),
        ],
    )
    def test_no_pod_can_have_their_addresses(self, subnet: str, why: str) -> None:
        (fault,) = faults(ip_network(subnet))
        assert (fault.key, fault.value, why in fault.accepted) == ("subnet", subnet, True)
        with pytest.raises(InvalidRanges, match=why):
            made(subnet)

    @pytest.mark.parametrize(
        "subnet",
        [
            "1.0.0.0/8",
            "126.0.0.0/8",
            "128.0.0.0/8",
            "223.0.0.0/8",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
            "2000::/3",
            "64:ff9b::/96",
            "fec0::/10",
            "::1:0:0:0/80",
        ],
    )
    def test_their_neighbours_are_taken(self, subnet: str) -> None:
        assert faults(ip_network(subnet)) == ()
