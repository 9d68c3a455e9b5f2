"""make test-faults: the whole fault campaign, and its counts as a table.

Run as `make test-faults ARGS='--plugin both --json counts.json'`, which is inside hack/sandbox.sh.
Status 1 when podwire lost anything, 0 otherwise: what the reference loses is shown, not judged.
What this machine cannot do is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults.campaign import (  # noqa: E402
    PLUGINS,
    SCENARIOS,
    Piece,
    Scenario,
    pieces,
    run,
    why_not,
)
from tests.faults.counts import LOSSES, Counts  # noqa: E402

SEED = 20261101
Row = tuple[str, str]  # scenario, plugin
HEADS = {
    "runs": "runs", "struck": "struck", "leaks": "leaks", "failed_del": "DEL failed",
    "failed_add": "ADD failed", "duplicates": "duplicates", "unusable": "unusable",
    "torn": "torn", "wrong": "wrong", "bystander": "bystander", "check": "check", "seconds": "s",
}  # fmt: skip


def main() -> int:
    """The campaign that was asked for."""
    arguments = _arguments()
    if os.environ.get("PODWIRE_SANDBOX") in {None, str(Path("/proc/self/ns/net").readlink())}:
        sys.exit("podwire: run it as `make test-faults`: it must not touch this machine")
    started = time.monotonic()
    plugins = PLUGINS if arguments.plugin == "both" else (arguments.plugin,)
    chosen = [one for one in SCENARIOS if arguments.only in one.name]
    if not chosen:
        sys.exit(f"podwire: no scenario is named like {arguments.only!r}")
    skipped = {(one.name, plugin): why_not(one, plugin) for one in chosen for plugin in plugins}
    todo = list(_todo(chosen, plugins, skipped, arguments))
    rows: dict[Row, Counts] = {}
    for counts in _run_all(todo, arguments.jobs):
        rows = {row: counts[row] for row in skipped if row in counts}
        if arguments.json:  # after each piece: a campaign that is cut off has not been in vain
            _write_json(Path(arguments.json), rows, skipped, time.monotonic() - started)
    print("\n".join(table(rows, skipped)))
    print("\n".join(_said(rows)))
    print(_machine(time.monotonic() - started))
    lost = [name for (name, plugin), one in rows.items() if plugin == "podwire" and one.losses]
    return 1 if lost else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-faults", description=__doc__.split("\n")[0])
    parser.add_argument("--plugin", choices=(*PLUGINS, "both"), default="podwire")
    parser.add_argument("--json", metavar="FILE", help="write the counts there as well")
    parser.add_argument(
        "--only", metavar="TEXT", default="", help="scenarios with that in the name"
    )
    parser.add_argument("--short", action="store_true", help="the short form, as in make test")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="nodes at a time")
    parser.add_argument("--seed", type=int, default=SEED, help="of the random moments")
    return parser.parse_args()


def _todo(
    chosen: Sequence[Scenario],
    plugins: Sequence[str],
    skipped: dict[Row, str],
    arguments: argparse.Namespace,
) -> Iterator[Piece]:
    for scenario in chosen:
        for plugin in plugins:
            if skipped[scenario.name, plugin]:
                continue
            runs = scenario.short if arguments.short else scenario.full
            yield from pieces(scenario, plugin, runs, arguments.seed)


def _run_all(todo: Sequence[Piece], jobs: int) -> Iterator[dict[Row, Counts]]:
    """Pieces side by side, each on a node of its own; the counts by row, after each piece."""
    counts: dict[Row, Counts] = {}
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        under_way = {pool.submit(run, piece): piece for piece in todo}
        for done, future in enumerate(as_completed(under_way), start=1):
            piece = under_way[future]
            found = future.result()
            counts.setdefault((piece.scenario.name, piece.plugin), Counts()).add(found)
            _progress(done, len(todo), piece, found, time.monotonic() - started)
            yield counts


def _progress(done: int, total: int, piece: Piece, found: Counts, took_s: float) -> None:
    """One line that is written over on a terminal; a line a piece in a log."""
    line = (
        f"{done}/{total} {took_s / 60:.1f} min  {piece.scenario.name} ({piece.plugin}, "
        f"{piece.mode}): {found.runs} runs, losses {found.losses or 0}"
    )
    on_terminal = sys.stderr.isatty()
    sys.stderr.write(f"\r\033[K{line}" if on_terminal else f"{line}\n")
    if on_terminal and done == total:
        sys.stderr.write("\n")
    sys.stderr.flush()


def table(rows: dict[Row, Counts], skipped: dict[Row, str]) -> Iterator[str]:
    """Markdown, so that it goes into docs/reliability.md as it is."""
    yield "| scenario | plugin | " + " | ".join(HEADS.values()) + " |"
    yield "|---|---|" + "---:|" * len(HEADS)
    for (name, plugin), reason in skipped.items():
        if reason:
            yield f"| {name} | {plugin} | skipped: {reason} |" + " |" * (len(HEADS) - 1)
        elif (name, plugin) in rows:
            values = rows[name, plugin].as_json()
            cells = (f"{values[key]:.0f}" for key in HEADS)
            yield f"| {name} | {plugin} | " + " | ".join(cells) + " |"
    for plugin in dict.fromkeys(plugin for _, plugin in rows):
        total = Counts()
        for (_, other), counts in rows.items():
            if other == plugin:
                total.add(counts)
        cells = (f"{total.as_json()[key]:.0f}" for key in HEADS)
        yield f"| **all** | {plugin} | " + " | ".join(cells) + " |"


def _said(rows: dict[Row, Counts]) -> Iterator[str]:
    """Findings in words, a few a row."""
    for (name, plugin), counts in rows.items():
        if counts.notes:
            yield f"\n{name}, {plugin}:"
            yield from (f"  {note[:400]}" for note in counts.notes)


def _machine(took_s: float) -> str:
    return (
        f"\n{time.strftime('%Y-%m')}, kernel {platform.release()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {took_s / 60:.0f} minutes"
    )


def _write_json(
    path: Path, rows: dict[Row, Counts], skipped: dict[Row, str], took_s: float
) -> None:
    document = {
        "date": time.strftime("%Y-%m-%d"),
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "seconds": round(took_s),
        "losses": list(LOSSES),
        "rows": [
            {"scenario": name, "plugin": plugin, **counts.as_json()}
            for (name, plugin), counts in rows.items()
        ],
        "skipped": [
            {"scenario": name, "plugin": plugin, "reason": reason}
            for (name, plugin), reason in skipped.items()
            if reason
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
