"""Check config lists or single plugin objects; every problem is shown with its path.

Exit status: 0 all files are valid, 1 there are problems, 2 wrong usage. Warnings do not count.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cni_plugin.cli.output import emit_json, printable
from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import DecodeFailure, IoFailure
from cni_plugin.cni.problems import Problem

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


class Finding(NamedTuple):
    """One file's problems and warnings."""

    file: str
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    entries: tuple[dict[str, object], ...] = ()


def add_arguments(parser: ArgumentParser) -> None:
    """FILE... and -o."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="a .conflist or .conf; - is stdin")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="form of the answer"
    )


def run(args: Namespace) -> int:
    """Check all files, answer, tell by the exit status."""
    findings = [check(name) for name in args.files]
    if args.output == "json":
        emit_json([_as_json(finding) for finding in findings])
    else:
        for finding in findings:
            print(printable(_as_text(finding)))
    return 1 if any(finding.problems for finding in findings) else 0


def check(name: str) -> Finding:
    """Read and review one file; a file that cannot be read or decoded has one problem."""
    from cni_plugin.cni.conf_review import review

    shown = "<stdin>" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        document = decode_object(data, "the file")
    except OSError as error:
        return _broken(shown, f"cannot be read: {error.strerror}", IoFailure.code)
    except DecodeFailure as error:
        return _broken(shown, error.msg, error.code)
    found = review(document)
    return Finding(
        shown,
        tuple(str(problem) for problem in found.problems),
        found.warnings,
        tuple(_entry(problem) for problem in found.problems),
    )


def _broken(name: str, message: str, code: int) -> Finding:
    entry: dict[str, object] = {"path": "", "value": None, "accepted": "", "code": code}
    return Finding(name, (message,), (), (entry | {"message": message},))


def _entry(problem: Problem) -> dict[str, object]:
    return {
        "path": problem.path,
        "value": problem.value,
        "accepted": problem.accepted,
        "code": problem.code,
        "message": str(problem),
    }


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "file": finding.file,
        "valid": not finding.problems,
        "problems": list(finding.entries),
        "warnings": list(finding.warnings),
    }


def _as_text(finding: Finding) -> str:
    count = len(finding.problems)
    verdict = f"{count} problem{'s' if count > 1 else ''}" if count else "valid"
    head = f"{finding.file}: {verdict}"
    lines = [f"  error: {problem}" for problem in finding.problems]
    lines += [f"  warning: {warning}" for warning in finding.warnings]
    return "\n".join([head, *lines])
