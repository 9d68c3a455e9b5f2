"""The key `sysctl`: names and values of settings in the pod's network namespace. Pure.

Source: sysctl(8), reference plugin `tuning` (IFNAME stands for the interface's name).
"""

from __future__ import annotations

from collections.abc import Mapping

from cni_plugin.cni.problems import Problem
from ipam.lean_typing import Any

IFNAME = "IFNAME"
VALUE_MAX = 255  # characters
NAME_ACCEPTED = (
    "the name of a setting below net, such as net.core.somaxconn or net.ipv4.conf.IFNAME.arp_filter"
    " (or with / in place of the dots)"
)
VALUE_ACCEPTED = f"a string of 1 to {VALUE_MAX} printable ASCII characters"
# Not a regular expression: `re` would cost the direct path two milliseconds.
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:@+-")
_PARTS = (3, 8)  # net/core/somaxconn; nothing below net is deeper


def review(asked: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], list[Problem]]:
    """(path below /proc/sys, value) of each, and what is wrong. Of two spellings of one name the
    last counts."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for name, value in asked.items():
        path = _path(name)
        if path is None:
            problems.append(Problem("sysctl", name, NAME_ACCEPTED))
        elif not value.strip() or len(value) > VALUE_MAX or not _printable(value):
            problems.append(Problem(f"sysctl.{name}", value, VALUE_ACCEPTED))
        else:
            found[path] = " ".join(value.split())
    return tuple(found.items()), problems


def _path(name: str) -> str | None:
    """sysctl(8): whichever of dot and slash comes first separates, so that a link's name may have
    the other one in it."""
    separator = next((letter for letter in name if letter in "./"), ".")
    parts = name.split(separator)
    fine = all(part.strip(".") and _LETTERS.issuperset(part) for part in parts)
    if not fine or parts[0] != "net" or not _PARTS[0] <= len(parts) <= _PARTS[1]:
        return None
    return "/".join(parts)


def _printable(value: str) -> bool:
    return all(letter == "\t" or (letter.isascii() and letter.isprintable()) for letter in value)


def path_of_pod(path: str, ifname: str) -> tuple[str, ...]:
    """The parts below net of a reviewed path, for one interface."""
    return tuple(ifname if part == IFNAME else part for part in path.split("/")[1:])


JSON_SCHEMA: dict[str, Any] = {
    "type": ["object", "null"],
    "propertyNames": {"pattern": r"^net[./]"},
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": VALUE_MAX},
}
