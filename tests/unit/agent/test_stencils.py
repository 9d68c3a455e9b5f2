"""When an ADD is worth trying the quick way."""

from __future__ import annotations

from cni_plugin.agent.stencils import KINDS_MAX, REST_CALLS, STUMBLES_MAX, Luck
from cni_plugin.agent.subject import Kind

ONE, OTHER = (1, Kind(64, "eth0")), (1, Kind(64, "net1"))


def test_after_some_stumbles_in_a_row_it_rests_and_tries_again() -> None:
    luck = Luck()
    for _ in range(2):
        for _ in range(STUMBLES_MAX):
            assert luck.may_try(ONE)
            luck.stumbled(ONE)
        assert [luck.may_try(ONE) for _ in range(REST_CALLS)] == [False] * REST_CALLS
        assert luck.may_try(OTHER)
    assert luck.may_try(ONE)


def test_what_went_well_starts_anew() -> None:
    luck = Luck()
    for _ in range(3 * STUMBLES_MAX):
        assert luck.may_try(ONE)
        luck.stumbled(ONE)
        luck.went_well(ONE)


def test_what_has_no_stencil_is_not_cut_at_every_call() -> None:
    luck = Luck()
    luck.hopeless(ONE)
    assert [luck.may_try(ONE) for _ in range(REST_CALLS + 1)] == [False] * REST_CALLS + [True]


def test_kinds_are_forgotten_before_they_are_many() -> None:
    luck = Luck()
    for number in range(3 * KINDS_MAX):
        luck.hopeless((number, ONE[1]))
    assert not luck.may_try((3 * KINDS_MAX - 1, ONE[1]))
    assert luck.may_try((0, ONE[1]))
