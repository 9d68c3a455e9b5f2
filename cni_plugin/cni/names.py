"""What the SPEC says about names, and how a refused value is shown to a person.

Each `*_fault` function answers None when the text is fine, otherwise what is accepted. Sets of
characters rather than regular expressions: they need no compiling in a cold interpreter, and
there is no `$` that would let a trailing newline in.
"""

from __future__ import annotations

import json

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = "0123456789"
_ALNUM = frozenset(_LETTERS + _DIGITS)
_ID_CHARACTERS = _ALNUM | frozenset("_.-")
_TYPE_CHARACTERS = _ID_CHARACTERS | frozenset("+")

NAME_MAX = 255  # bytes in a file name, linux/limits.h; ids and names become file names
IFNAME_MAX = 15  # bytes, IFNAMSIZ - 1 of linux/if.h
SHOWN_MAX = 80  # characters of a refused value that a message repeats

ID_ACCEPTED = "1 to 255 of the characters a-z A-Z 0-9 _ . - (ASCII), the first a letter or a digit"
IFNAME_ACCEPTED = (
    "1 to 15 bytes, without / : % whitespace or control characters, and not one of"
    " '.', '..', 'all', 'default'"
)
TYPE_ACCEPTED = (
    "a plugin's file name: letters, digits and _ . + - (no path separator),"
    " the first a letter, a digit or _"
)


def id_fault(text: str) -> str | None:
    """Rule for container ids and network names.

    Source: SPEC 1.1.0 section 2, CNI_CONTAINERID; section 1, `name`.
    """
    if 0 < len(text) <= NAME_MAX and text[0] in _ALNUM and _ID_CHARACTERS.issuperset(text):
        return None
    return ID_ACCEPTED


def ifname_fault(text: str) -> str | None:
    """Rule for the name of a link, in the pod and on the host.

    Beyond SPEC 1.1.0 (CNI_IFNAME): `%` because the kernel expands `%d` in a new link's name,
    `all` and `default` because they are folders of net.ipv4.conf (the kernel refuses them too),
    control characters, and the length in bytes rather than in characters.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # the environment held bytes that are not UTF-8
        return IFNAME_ACCEPTED
    if not 0 < size <= IFNAME_MAX or text in (".", "..", "all", "default"):
        return IFNAME_ACCEPTED
    if any(c in "/:%\x7f" or c < " " or c.isspace() or "\x80" <= c <= "\x9f" for c in text):
        return IFNAME_ACCEPTED
    return None


def type_fault(text: str) -> str | None:
    """Rule for `type` and `ipam.type`: a file name that is looked up in CNI_PATH.

    Source: SPEC 1.1.0 section 1, `type`; CVE-2021-20206 (path traversal through `type`).
    """
    if not 0 < len(text) <= NAME_MAX or text[0] not in _ALNUM | {"_"}:
        return TYPE_ACCEPTED
    return None if _TYPE_CHARACTERS.issuperset(text) else TYPE_ACCEPTED


def shown(value: object) -> str:
    """A refused value as JSON for a message, shortened to 80 characters."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):  # it refers to itself, as YAML can
        text = repr(value)
    if len(text) <= SHOWN_MAX:
        return text
    return f"{text[: SHOWN_MAX - 1]}… ({len(text)} characters)"
