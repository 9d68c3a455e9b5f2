"""Rules for ids, link names and plugin types; how a refused value is shown."""

from __future__ import annotations

import pytest

from cni_plugin.cni.names import id_fault, ifname_fault, shown, type_fault

BAD_IDS = ["", "-a", ".a", "_a", "a b", "a/b", "a\n", "ä", "a\0", "٣", "a" * 256, "a:b", "../a"]
BAD_IFNAMES = [
    *["", ".", "..", "a/b", "a:b", "eth%d", "a b", "a\t", "eth0\n", "a\0", "a\x7f", "a\x85"],
    *["a\u2003b", "a\u00a0b", "x" * 16, "ü" * 8, "all", "default", "\udcff"],
]
BAD_TYPES = ["", ".", "..", "a/b", "/bin/sh", "..\\a", "a b", "a\n", "-rf", ".hidden", "a\0"]


@pytest.mark.parametrize("text", ["a", "0", "a_b.c-d", "A" * 255, "0a1b" * 16])
def test_good_ids(text: str) -> None:
    assert id_fault(text) is None


@pytest.mark.parametrize("text", BAD_IDS)
def test_bad_ids(text: str) -> None:
    assert "a-z A-Z 0-9" in id_fault(text)


@pytest.mark.parametrize("text", ["eth0", "x" * 15, "net1.100", "a@b", "ü" * 7, "-", "..."])
def test_good_ifnames(text: str) -> None:
    assert ifname_fault(text) is None


@pytest.mark.parametrize("text", BAD_IFNAMES)
def test_bad_ifnames(text: str) -> None:
    assert "1 to 15 bytes" in ifname_fault(text)


@pytest.mark.parametrize("text", ["podwire", "host-local", "a+b", "_x", "bridge.v2", "8021q"])
def test_good_types(text: str) -> None:
    assert type_fault(text) is None


@pytest.mark.parametrize("text", BAD_TYPES)
def test_bad_types(text: str) -> None:
    assert "path separator" in type_fault(text)


def test_shown_is_json_and_short() -> None:
    assert shown("a\n") == '"a\\n"'
    assert shown({"a": [True, None]}) == '{"a": [true, null]}'
    assert shown("x" * 100) == f'"{"x" * 78}… (102 characters)'
