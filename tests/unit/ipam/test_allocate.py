from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from ipam.allocate import assign, candidates, cooling, exhausted, lease, require_usable
from ipam.errors import InvalidRanges
from ipam.ranges import canonical, pool

SET = (canonical(ip_network("10.244.1.0/29")),)  # usable .2 to .6
SET6 = (canonical(ip_network("2001:db8::/64")),)


def order(last: Any = None, released: Any = (), cool: Any = (), sticky: Any = ()) -> Any:
    """Last numbers of the candidates, without repetitions."""

    def name(n: Any) -> Any:
        return f"10.244.1.{n}"

    got = candidates(
        pool(SET),
        last and ip_address(name(last)),
        {name(n): at for n, at in dict(released).items()},
        {name(n): at for n, at in dict(cool).items()},
        [name(n) for n in sticky],
    )
    return list(dict.fromkeys(int(str(a).rpartition(".")[2]) for a in got))


def interfaces(*addresses: Any) -> Any:
    return [ip_interface(text) for text in addresses]


class TestCandidates:
    def test_round_robin(self) -> None:
        assert order(last=4) == [5, 6, 2, 3, 4]

    def test_cooling_ones_come_last_oldest_first(self) -> None:
        assert order(last=2, cool={3: 50.0, 4: 20.0}) == [5, 6, 2, 4, 3]

    def test_rested_ones_come_before_a_long_walk(self) -> None:
        assert order(last=2, released={6: 1.0}) == [3, 4, 6, 5, 2]

    def test_sticky_beats_everything_even_cooling(self) -> None:
        assert order(last=2, cool={5: 50.0}, sticky=[5]) == [5, 3, 4, 6, 2]

    def test_a_sticky_address_of_an_old_range_is_no_candidate(self) -> None:
        assert order(sticky=[99]) == [2, 3, 4, 5, 6]

    def test_garbled_texts_are_skipped(self) -> None:
        got = candidates(pool(SET), None, {"10.244.1.x": 1.0}, {"": 2.0}, ["", "::"])
        assert len(set(got)) == 5


class TestCooling:
    def test_only_the_young_cool(self) -> None:
        released = {"10.244.1.2": 70.1, "10.244.1.3": 70.0, "10.244.1.4": float("-inf")}
        assert list(cooling(released, 100.0, 30)) == ["10.244.1.2"]

    def test_a_time_of_another_boot_is_ignored(self) -> None:
        assert cooling({"10.244.1.2": 100.1}, 100.0, 30) == {}

    def test_no_cooldown_cools_nothing(self) -> None:
        assert cooling({"10.244.1.2": 100.0}, 100.0, 0) == {}


class TestAssign:
    def test_each_request_goes_to_its_set(self) -> None:
        got = assign((SET, SET6), interfaces("2001:db8::5/64", "10.244.1.4"))
        assert got == (ip_address("10.244.1.4"), ip_address("2001:db8::5"))

    def test_nothing_requested(self) -> None:
        assert assign((SET, SET6), ()) == (None, None)

    def test_the_same_address_twice_is_one_request(self) -> None:
        assert assign((SET,), interfaces("10.244.1.4", "10.244.1.4/29"))[0] is not None

    def test_two_for_one_set_are_refused(self) -> None:
        with pytest.raises(InvalidRanges, match=r"10\.244\.1\.4 and 10\.244\.1\.5"):
            assign((SET,), interfaces("10.244.1.4", "10.244.1.5"))

    def test_outside_of_every_range_is_refused(self) -> None:
        with pytest.raises(InvalidRanges, match=r"10\.244\.1\.7 is outside"):
            assign((SET,), interfaces("10.244.1.7"))

    def test_the_gateway_is_refused(self) -> None:
        with pytest.raises(InvalidRanges, match="is the gateway"):
            require_usable(pool(SET), ip_address("10.244.1.1"))

    def test_an_excluded_address_is_refused(self) -> None:
        made = canonical(ip_network("10.244.1.0/29"), exclude=[ip_network("10.244.1.4/31")])
        with pytest.raises(InvalidRanges, match="excluded"):
            require_usable(pool((made,)), ip_address("10.244.1.5"))


def test_a_lease_has_prefix_and_gateway_of_its_own_range() -> None:
    range_set = (*SET, canonical(ip_network("10.244.2.0/24")))
    got = lease(range_set, 0, ip_address("10.244.2.9"))
    assert (str(got.address), str(got.gateway)) == ("10.244.2.9/24", "10.244.2.1")


def test_exhaustion_says_all_counts() -> None:
    error = exhausted(pool(SET), used=4, cool=1)
    assert (error.code, error.temporary) == (100, True)
    assert error.details.startswith("used 4, cooling 1, reserved 1, total 5")
