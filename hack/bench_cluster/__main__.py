"""make bench-cluster: what a cluster of 100 to 5,000 nodes costs a node, and what packets cost.

Three parts. The reconciler's passes beside `ip -batch` of the same objects, in turns, in this
process; a real agent with pods and a peers file, for its memory and its time from file to kernel;
packets between pods beside the same devices wired by hand. What the two sides made is compared: a
run in which anything is wrong prints no figures. A benchmark is no test: it never fails on a time.
Writes build/bench-cluster.json and build/bench-packets.json.

BENCH_CASES="vxlan-5000 ptp"  which cases: BACKEND-NODES, and ways of packets (default: all)
SAMPLES=30                    joins and leaves; half of no-ops and of rounds of packets, a tenth
                              of first passes
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import report  # noqa: E402
import wiring  # noqa: E402
from agent import Cost, cost  # noqa: E402
from contest import Counter, WrongAnswer, contest, medians  # noqa: E402
from report import Row  # noqa: E402
from traffic import Flow, flow  # noqa: E402

CLUSTERS = {f"{b}-{n}": (b, n) for b in ("host-gw", "vxlan") for n in (100, 1000, 5000)}
WAYS = {case.name: case for case in wiring.CASES}


def samples() -> int:
    """SAMPLES, at least one."""
    return max(1, int(os.environ.get("SAMPLES") or 30))


def progress(text: str) -> None:
    """A line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def measure(names: list[str]) -> tuple[list[Row], dict[tuple[str, int], Cost], dict[str, Flow]]:
    """All figures. What leaves much for the kernel to free comes last."""
    clusters = [CLUSTERS[name] for name in names if name in CLUSTERS]
    rounds = max(2, samples() // 2)  # a quartile needs two
    flows = {name: flow(WAYS[name], rounds, progress) for name in names if name in WAYS}
    counter = Counter()
    gc.freeze()  # as the agent does with what is loaded
    times = {one: contest(*one, samples(), progress, counter) for one in clusters}
    costs = {one: cost(*one, progress) for one in clusters}
    rows = [
        Row(
            *one,
            event,
            *(round(seconds, 6) for seconds in medians(found)),
            round(costs[one].events[event].rss_mib, 1),
            found.messages,
        )
        for one in clusters
        for event, found in times[one].items()
    ]
    return rows, costs, flows


def main() -> int:
    """Measure the chosen cases; status 1 and no figures when something was wrong."""
    if "PODWIRE_SANDBOX" not in os.environ:
        sys.exit("podwire: run it as `make bench-cluster`, inside hack/sandbox.sh")
    names = os.environ.get("BENCH_CASES", "").replace(",", " ").split() or [*CLUSTERS, *WAYS]
    unknown = [name for name in names if name not in {**CLUSTERS, **WAYS}]
    if unknown:
        known = " ".join([*CLUSTERS, *WAYS])
        sys.exit(f"podwire: no such case: {' '.join(unknown)}; there are: {known}")
    started, load = time.monotonic(), os.getloadavg()[0]
    try:
        rows, costs, flows = measure(names)
    except (WrongAnswer, AssertionError) as wrong:  # the nodes' observers assert
        progress("")
        print(f"podwire: no figures, for this went wrong: {wrong}", file=sys.stderr)
        return 1
    progress("")
    for lines in (
        report.passes(rows) if rows else (),
        report.agents(costs) if costs else (),
        report.packets(flows) if flows else (),
        report.goals(rows, costs, flows),
    ):
        text = "\n".join(lines)
        if text:
            print(text, end="\n\n")
    print(
        f"medians; {samples()} samples of join and leave; {os.cpu_count()} cores, kernel"
        f" {platform.release()}, load {load:.2f} before, {os.getloadavg()[0]:.2f} after,"
        f" Python {platform.python_version()}, {time.monotonic() - started:.0f} s"
    )
    _write("bench-cluster", [row._asdict() for row in rows])
    _write("bench-packets", [{"way": name, **one._asdict()} for name, one in flows.items()])
    return 0


def _write(name: str, listed: list[dict[str, object]]) -> None:
    if listed:
        target = ROOT / "build" / f"{name}.json"
        target.write_text(json.dumps(listed, indent=2) + "\n")
        print(f"written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
