"""Death is to be seen twice, a minute apart, and nothing in between may doubt it."""

from __future__ import annotations

from cni_plugin.reconcile.decide import GRACE_S, GRACE_UNRECORDED_S, decide
from cni_plugin.reconcile.evidence import KernelFacts
from cni_plugin.reconcile.strikes import StrikeFile, dump, load

from .kit import LINK, evidence, record, subject

NOBODY = evidence()


def test_the_first_sighting_is_a_strike_and_frees_nothing() -> None:
    decision = decide(100.0, [subject()], NOBODY, {})
    assert decision.doomed == ()
    assert decision.strikes == {subject().incarnation: 100.0}
    assert decision.rulings[0].wait_s == GRACE_S
    assert decision.rulings[0].reason.endswith("; to be seen so again in 60 s or later")


def test_a_sighting_that_comes_early_neither_frees_nor_starts_again() -> None:
    strikes = {subject().incarnation: 100.0}
    decision = decide(100.0 + GRACE_S - 0.1, [subject()], NOBODY, strikes)
    assert (decision.doomed, decision.strikes) == ((), strikes)


def test_the_second_sighting_frees() -> None:
    strikes = {subject().incarnation: 100.0}
    assert decide(100.0 + GRACE_S, [subject()], NOBODY, strikes).doomed == (subject(),)


def test_a_sign_of_life_or_a_doubt_in_between_starts_again() -> None:
    strikes = {subject().incarnation: 100.0}
    for between in (evidence(KernelFacts({LINK: ""})), evidence(failure="absent")):
        assert decide(130.0, [subject()], between, strikes).strikes == {}


def test_another_incarnation_has_no_strikes() -> None:
    strikes = {subject().incarnation: 100.0}
    for other in (
        subject(since_ns=2),
        subject(record=record(netns_inode=5)),
        subject(record=record(netns="/run/netns/cni-2")),
        subject(record=None),
    ):
        seen = NOBODY._replace(netns={**NOBODY.netns, "/run/netns/cni-2": 0})
        assert decide(1000.0, [other], seen, strikes).doomed == ()


def test_without_a_record_the_wait_is_longer_than_an_add_may_take() -> None:
    bare = subject(record=None)
    strikes = {bare.incarnation: 100.0}
    assert not decide(100.0 + GRACE_UNRECORDED_S - 1, [bare], NOBODY, strikes).doomed
    assert decide(100.0 + GRACE_UNRECORDED_S, [bare], NOBODY, strikes).doomed == (bare,)


def test_a_strike_of_the_future_is_not_of_this_boot() -> None:
    decision = decide(100.0, [subject()], NOBODY, {subject().incarnation: 5000.0})
    assert decision.strikes == {subject().incarnation: 100.0}


def test_strikes_of_those_who_are_gone_are_forgotten() -> None:
    assert decide(100.0, [], NOBODY, {subject().incarnation: 10.0}).strikes == {}


def test_strikes_survive_between_passes(tmp_path) -> None:
    file = StrikeFile(str(tmp_path / "podwire"))
    assert file.read() == {}
    file.write({subject().incarnation: 12.5})
    assert file.read() == {subject().incarnation: 12.5}


def test_strikes_that_do_not_parse_are_none() -> None:
    good = dump({subject().incarnation: 12.5})
    assert load(good)
    for bad in (None, b"", b"[]", b"{}", good[:-9], b'{"version": 2, "strikes": []}'):
        assert load(bad) == {}
    nested = b'{"version": 1, "strikes": [{"seen_dead_at_s": 1, "key": [[1]]}]}'
    assert load(nested) == {}
