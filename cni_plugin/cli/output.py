"""How the command line speaks: colours only on a terminal, errors on stderr with a remedy."""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}


def paint(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour if stream has colours."""
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if has_colours(stream) else text


def has_colours(stream: TextIO) -> bool:
    """Whether stream is a terminal and the user did not refuse colours.

    Source: no-color.org for NO_COLOR; TERM=dumb is a terminal without colours.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream.isatty()


def printable(text: str) -> str:
    """Text of a foreign file made safe for a terminal: neither controls nor half surrogates."""
    if text.isprintable():
        return text
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return shown.encode(errors="backslashreplace").decode()


def one_line(text: str) -> str:
    """As `printable`, for a place where a line's end would begin somebody else's line."""
    return printable(text).replace("\n", "\\n")


def emit_json(document: object) -> None:
    """A document on stdout, indented."""
    print(json.dumps(document, indent=2))


def complain(message: str, remedy: str = "") -> None:
    """An error for the user on stderr."""
    label = paint("podwire:", "red", sys.stderr)
    print(f"{label} {printable(message)}", file=sys.stderr)
    if remedy:
        print(printable(remedy), file=sys.stderr)


def tell(line: str) -> None:
    """Progress for the user, on stderr."""
    print(f"podwire: {printable(line)}", file=sys.stderr, flush=True)
