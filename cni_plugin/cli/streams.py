"""The command line's standard streams, of which any may be closed, full, or read by nobody.

Without this Python has None in a closed one's place, its number goes to the next file that is
opened, and what is printed for a person may land in it.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDIN, STDOUT, STDERR = 0, 1, 2


class Undelivered(Exception):
    """stdout cannot be written to. No OSError: no command may take it for one of its files."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"stdout cannot be written: {cause.strerror}")
        self.reader_left = isinstance(cause, BrokenPipeError)


class _Output(io.FileIO):
    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise Undelivered(error) from error


class _Complaints(io.FileIO):
    def write(self, data: ReadableBuffer) -> int:
        try:
            return super().write(data)
        except OSError:  # and where else could that be said
            return memoryview(data).nbytes


def take_streams() -> None:
    """Puts ours in the place of the interpreter's. A closed stream is taken by one that refuses;
    what is said on a closed stderr is lost."""
    for descriptor, flags in (
        (STDIN, os.O_WRONLY),
        (STDOUT, os.O_RDONLY),
        (STDERR, os.O_WRONLY),
    ):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = open(STDIN, closefd=False)  # noqa: SIM115  as long as the process
    sys.stdout = _writer(_Output(STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _writer(_Complaints(STDERR, "w", closefd=False), sys.stderr, by_line=True)


def _writer(raw: io.FileIO, before: TextIO | None, *, by_line: bool = False) -> TextIO:
    """A text stream with the coding of the one before it."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else None,
        errors=before.errors if before else "backslashreplace",
        line_buffering=by_line or raw.isatty(),
    )


def drop_output() -> None:
    """What is still to be written to stdout goes nowhere: it cannot be written as Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
