from __future__ import annotations

from ipam.logs import (
    NEVER_S,
    PAST_MAX,
    format_released,
    given_line,
    is_loggable,
    parse_released,
    parse_sticky,
    released_line,
    sticky_addresses,
    sticky_lines,
    worth_keeping,
)


def test_released_is_a_queue_without_what_was_given_again() -> None:
    log = released_line("a", 1) + released_line("b", 2) + released_line("a", 3) + given_line("b")
    assert parse_released((log + released_line("c", NEVER_S)).encode()) == {"a": 3.0, "c": NEVER_S}


def test_the_order_is_that_of_the_latest_release() -> None:
    log = released_line("a", 1) + released_line("b", 2) + released_line("a", 3)
    assert list(parse_released(log.encode())) == ["b", "a"]


def test_released_survives_formatting() -> None:
    released = {"10.244.1.2": 12.5, "2001:db8::2": NEVER_S}
    assert parse_released(format_released(released)) == released


def test_of_those_that_need_not_cool_the_latest_are_kept() -> None:
    released = {str(n): float(n) for n in range(PAST_MAX + 3)}
    kept = worth_keeping(released, {"0"})
    assert list(kept) == ["0", *map(str, range(3, PAST_MAX + 3))]
    assert worth_keeping(kept, {"0"}) == kept


def test_torn_lines_are_skipped() -> None:
    assert parse_released(b"\0\0\0\n10.244.1.2 1\xff\n10.244.1.3 2.0\n10.244") == {
        "10.244.1.3": 2.0
    }


def test_sticky_is_the_latest_pod_of_an_address() -> None:
    log = sticky_lines("ns/a", ["10.244.1.2"]) + sticky_lines("ns/b", ["10.244.1.2"])
    assert parse_sticky(log) == {"10.244.1.2": "ns/b"}
    assert sticky_addresses(log, "ns/a") == ()


def test_sticky_addresses_latest_first() -> None:
    log = sticky_lines("ns/a", ["10.244.1.2", "10.244.1.3"]) + b"torn"
    assert sticky_addresses(log, "ns/a") == ("10.244.1.3", "10.244.1.2")


def test_names_that_would_break_a_line_are_not_logged() -> None:
    assert [is_loggable(pod) for pod in ("ns/a", "", "ns/a b", "ns/a\nns/b")] == [
        True,
        False,
        False,
        False,
    ]
