"""Who is looked at in a pass, and who must wait."""

from __future__ import annotations

from cni_plugin.reconcile.turns import BACKOFF_MAX_S, BUSY_S, PERIOD_S, SAMPLE, Turns

ALL = [f"pod{number:02}" for number in range(3 * SAMPLE)]


def _choose(turns: Turns[str], now_s: float, *suspects: str, everything: bool = False) -> list[str]:
    return turns.choose(ALL, suspects, now_s, everything=everything)


def test_all_have_their_turn_before_one_has_it_again() -> None:
    turns: Turns[str] = Turns()
    rounds = [turns.sample(ALL, number * PERIOD_S) for number in range(4)]
    assert [len(chosen) for chosen in rounds] == [SAMPLE] * 4
    assert sorted(rounds[0] + rounds[1] + rounds[2]) == ALL
    assert rounds[3] == rounds[0]


def test_who_was_looked_at_meanwhile_has_its_turn_later() -> None:
    turns: Turns[str] = Turns()
    turns.looked(ALL[0], 1.0, failed=False)
    assert turns.sample(ALL, 2.0) == ALL[1 : SAMPLE + 1]


def test_nobody_has_a_turn_until_a_period_has_passed() -> None:
    turns: Turns[str] = Turns()
    assert turns.sample(ALL, 5.0)
    assert turns.sample(ALL, 5.0 + PERIOD_S - 0.1) == []
    assert turns.sample(ALL, 5.0 + PERIOD_S)


def test_only_suspects_are_looked_at_or_all() -> None:
    turns: Turns[str] = Turns()
    assert _choose(turns, 1.0) == []
    assert _choose(turns, 2.0, "pod20", "pod10", "stranger") == ["pod10", "pod20"]
    assert _choose(turns, 3.0, everything=True) == ALL


def test_a_failure_waits_twice_as_long_each_time_up_to_a_minute() -> None:
    turns: Turns[str] = Turns()
    now_s, waits = 0.0, []
    for _ in range(9):
        assert turns.choose(["pod"], ["pod"], now_s, everything=False) == ["pod"]
        turns.looked("pod", now_s, failed=True)
        wait_s = turns.again_s(now_s)
        assert wait_s is not None
        assert turns.choose(["pod"], ["pod"], now_s + wait_s - 0.01, everything=True) == []
        waits.append(wait_s)
        now_s += wait_s
    assert waits == [1, 2, 4, 8, 16, 32, BACKOFF_MAX_S, BACKOFF_MAX_S, BACKOFF_MAX_S]


def test_who_was_busy_is_asked_for_again_without_being_a_suspect() -> None:
    turns: Turns[str] = Turns()
    turns.busy("pod29", 1.0)
    assert turns.again_s(1.0) == BUSY_S
    assert _choose(turns, 1.0 + BUSY_S) == ["pod29"]
    turns.looked("pod29", 2.0, failed=False)
    assert turns.again_s(2.0) is None


def test_a_failure_is_not_forgotten_because_somebody_was_busy_meanwhile() -> None:
    turns: Turns[str] = Turns()
    turns.looked("pod", 0.0, failed=True)
    turns.busy("pod", 1.0)
    turns.looked("pod", 2.0, failed=True)
    assert turns.again_s(2.0) == 2.0


def test_who_is_gone_does_not_wait_any_more() -> None:
    turns: Turns[str] = Turns()
    turns.looked("gone", 0.0, failed=True)
    turns.choose(ALL, (), 1.0, everything=False)
    assert turns.again_s(1.0) is None
