"""What somebody keeps undoing is put back less and less often, and told once a change."""

from __future__ import annotations

from cni_plugin.reconcile.paces import CALM_S, FREE, MAX_S, Paces

LINK = "ip link add cni0"


def _fought(paces: Paces[str], times: int) -> tuple[list[float], list[str], float]:
    """Undone at once and put back as soon as it may be: the waits, the sentences, the end."""
    now_s, waits, told = 0.0, [], []
    for _ in range(times):
        told += [line for line in (paces.repaired("cni0", LINK, now_s),) if line]
        paces.begin(now_s)
        if paces.due({"cni0"}, now_s):
            waits.append(0.0)
            continue
        wait_s = paces.again_s(now_s)
        assert wait_s is not None
        assert not paces.due({"cni0"}, now_s + wait_s - 0.01)
        assert paces.due({"cni0"}, now_s + wait_s)
        waits.append(wait_s)
        now_s += wait_s
    return waits, told, now_s


def test_the_wait_doubles_up_to_a_minute_and_each_change_is_told_once() -> None:
    waits, told, _end_s = _fought(Paces(), FREE + 8)
    assert waits == [0.0] * FREE + [2, 4, 8, 16, 32, MAX_S, MAX_S, MAX_S]
    start = f"{LINK}: somebody undoes it again and again, so it is done every"
    assert told == [f"{start} {wait} s now" for wait in (2, 4, 8, 16, 32, 60)]


def test_one_that_is_left_in_peace_is_put_back_at_once_again() -> None:
    paces: Paces[str] = Paces()
    waits, _told, end_s = _fought(paces, FREE + 2)
    repaired_s = end_s - waits[-1]
    assert paces.begin(repaired_s + waits[-1] + CALM_S) == []
    assert paces.begin(repaired_s + waits[-1] + CALM_S + 1) == [
        f"{LINK}: nobody undoes it any more"
    ]
    assert paces.repaired("cni0", LINK, end_s + CALM_S + 2) == ""
    assert paces.due({"cni0"}, end_s + CALM_S + 2) == {"cni0"}


def test_one_object_does_not_slow_another() -> None:
    paces: Paces[str] = Paces()
    _waits, _told, now_s = _fought(paces, FREE + 1)
    paces.repaired("cni0", LINK, now_s)
    assert paces.due({"cni0", "other"}, now_s) == {"other"}


def test_what_is_taken_away_once_a_minute_is_put_back_at_once() -> None:
    paces: Paces[str] = Paces()
    for minute in range(10):
        now_s = minute * (CALM_S + 1)
        paces.begin(now_s)
        assert paces.due({"cni0"}, now_s) == {"cni0"}
        assert paces.repaired("cni0", LINK, now_s) == ""


def test_nothing_withheld_nothing_to_wait_for() -> None:
    paces: Paces[str] = Paces()
    _fought(paces, FREE + 3)
    paces.begin(0.0)
    assert paces.again_s(0.0) is None
