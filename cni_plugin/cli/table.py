"""Tables for people: columns as wide as their cells, the head in bold on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from cni_plugin.cli.output import has_colours, one_line, paint

GAP = "  "
Painter = Callable[[str, str], str]  # (column's head, padded cell) -> cell as printed


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[str] = (),
    painter: Painter | None = None,
) -> str:
    """The lines of a table. right: heads of columns of numbers. An empty cell is a dash."""
    cells = [[one_line(cell) or "-" for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    aligned = "".join(">" if name in set(right) else "<" for name in head)
    if not has_colours(sys.stdout):  # the whole row at once: there may be thousands
        form = GAP.join(f"{{:{a}{width}}}" for a, width in zip(aligned, widths, strict=True))
        return "\n".join(form.format(*row).rstrip() for row in (head, *cells))
    sides = [str.rjust if a == ">" else str.ljust for a in aligned]
    lines = [_line(head, widths, sides, lambda _name, cell: paint(cell, "bold", sys.stdout), head)]
    show = painter or (lambda _name, cell: cell)
    lines += [_line(row, widths, sides, show, head) for row in cells]
    return "\n".join(lines)


def _line(
    cells: Sequence[str],
    widths: Sequence[int],
    sides: Sequence[Callable[[str, int], str]],
    show: Painter,
    head: Sequence[str],
) -> str:
    padded = [side(cell, width) for cell, width, side in zip(cells, widths, sides, strict=True)]
    padded[-1] = padded[-1].rstrip()
    return GAP.join(show(name, cell) for name, cell in zip(head, padded, strict=True))
