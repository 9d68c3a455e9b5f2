"""How the demo speaks: plain lines, colours on a terminal only, ASCII where the locale has no more.

The story goes to one stream (stderr when the summary on stdout is JSON)."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 80
_COLOURS = {"red": "31", "green": "32", "bold": "1", "faint": "2"}
_GLYPHS = {"ok": ("\u2713", "ok"), "bad": ("\u2717", "FAILED"), "rule": ("\u2500", "-")}


class Show:
    """Writes the story to a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colours = stream.isatty() and not refused
        self._unicode = _can_write(stream, "".join(pair[0] for pair in _GLYPHS.values()))

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colours else text

    def line(self, text: str = "") -> None:
        if not self._unicode:
            text = text.encode("ascii", "replace").decode()
        print(text, file=self._stream, flush=True)

    def title(self, text: str) -> None:
        """A scene begins."""
        rule = self._glyph("rule")
        self.line()
        self.line(self.paint(f"{rule * 2} {text} ".ljust(WIDTH, rule), "bold"))

    def outcome(self, good: bool, text: str) -> None:
        """A line that says whether something was as it should be."""
        glyph = self._glyph("ok" if good else "bad")
        self.line(f"  {self.paint(glyph, 'green' if good else 'red')} {text}")

    def quote(self, text: str) -> None:
        """Somebody else's words, whole."""
        for row in textwrap.wrap(text, WIDTH - 6, break_long_words=False, break_on_hyphens=False):
            self.line(f"      {self.paint(row, 'faint')}")

    def row(self, widths: Sequence[int], cells: Sequence[str], *, head: bool = False) -> None:
        """A row of a table: a negative width aligns to the right."""
        text = "  ".join(
            cell.rjust(-width) if width < 0 else cell.ljust(width)
            for width, cell in zip(widths, cells, strict=True)
        )
        text = text.rstrip()
        self.line(f"  {self.paint(text, 'bold') if head else text}")

    def _glyph(self, name: str) -> str:
        return _GLYPHS[name][0 if self._unicode else 1]


def _can_write(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
