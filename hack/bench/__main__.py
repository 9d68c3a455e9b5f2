"""make bench: ADD and DEL of podwire beside the reference plugins, alternating in one run.

Two paths: `agent` is the native launcher with the agent, as on a node; `direct` is the Python
executable alone.

Whole processes from outside, started by burst.c, each side on a node of its own. Answers are
verified: a run in which anything fails or is left prints no table. A benchmark is no test: it
never fails on a time. Writes build/bench.json.

BENCH_CASES="bridge ptp"  which cases (default: the first five; ipam-empty and ipam-4000 on demand)
BENCH_PATHS="agent"       which paths (default: both, where the case has both)
SAMPLES=30                sequential samples a verb and side, after a warm-up
BENCH_OURS=FOLDER         podwire's executable is there (default: beside this Python)
BENCH_NOISE=1             the reference beside itself: how far ratios of equals are from 1
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent import Agent, Cost  # noqa: E402
from cases import CASES, DEFAULT_CASES, Case  # noqa: E402
from driver import build_driver  # noqa: E402
from sides import Batch, Side, WrongAnswer, prove  # noqa: E402

from tests.support.node import Node, Pod, open_node  # noqa: E402

REFERENCE = Path("/usr/lib/cni")
LAUNCHER = ROOT / "build" / "launcher" / "podwire"
WARM_UP = 3
COSTED, PODS = "bridge", 100  # the agent's memory and idle time are taken in this case
# (processes at a time, rounds) beside the sequential ones; cold starts take a second of both cores.
BURSTS = {"agent": ((16, 4), (64, 4)), "direct": ((16, 2),)}


@dataclass(frozen=True)
class Row:
    """One line of build/bench.json. ratio = ours_ms_p50 / peer_ms_p50."""

    case: str
    path: str
    verb: str
    concurrency: int
    ours_ms_p50: float
    ours_ms_p95: float
    peer_ms_p50: float
    peer_ms_p95: float
    ratio: float
    ours_per_s: float
    peer_per_s: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not below `share` of all (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


def row(case: str, path: str, verb: str, concurrency: int, pair: list[list[Batch]]) -> Row:
    """The figures of one verb. pair: the batches of podwire and those of its peer."""
    ours, peer = ([ms for batch in side for ms in batch.each_ms] for side in pair)
    per_s = [statistics.median(batch.per_s for batch in side) for side in pair]
    ours_p50, peer_p50 = statistics.median(ours), statistics.median(peer)
    return Row(
        case=case,
        path=path,
        verb=verb,
        concurrency=concurrency,
        ours_ms_p50=round(ours_p50, 2),
        ours_ms_p95=round(percentile(ours, 0.95), 2),
        peer_ms_p50=round(peer_p50, 2),
        peer_ms_p95=round(percentile(peer, 0.95), 2),
        ratio=round(ours_p50 / peer_p50, 3),
        ours_per_s=round(per_s[0], 1),
        peer_per_s=round(per_s[1], 1),
    )


def measure(
    case: Case, path: str, sides: Sequence[Side], pods: Sequence[Sequence[Pod]], samples: int
) -> Iterator[Row]:
    """Sequential, then in bursts; each sample of one side is followed by one of the other."""
    rounds = [(1, WARM_UP, samples), *((parallel, 1, n) for parallel, n in BURSTS[path])]
    for parallel, warm_up, repeats in rounds:
        times: dict[str, list[list[Batch]]] = {"ADD": [[], []], "DEL": [[], []]}
        for number in range(warm_up + repeats):
            progress(
                f"{case.name} ({path}): {parallel} at a time, {number + 1}/{warm_up + repeats}"
            )
            # Every other round begins with the other side.
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                chosen = pods[which][:parallel]
                added = sides[which].add(chosen, parallel, len(case.families))
                deleted = sides[which].delete(chosen, parallel)
                if number >= warm_up:
                    times["ADD"][which].append(added)
                    times["DEL"][which].append(deleted)
        for verb, pair in times.items():
            yield row(case.name, path, verb, parallel, pair)


@contextmanager
def side(
    case: Case, which: str, driver: Path, executables: Sequence[Path], *, peer: bool
) -> Iterator[Side]:
    """A side with a node and a working folder of its own."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podwire-bench-")))
        node = stack.enter_context(open_node(which, REFERENCE))
        plugins = case.plugins(of_peer=peer)
        made = Side(
            node, driver, work, executables, plugins, asked=case.asked, wires=not case.alone
        )
        stack.callback(made.close)
        made.hold(case.held)
        yield made


def run_case(case: Case, path: str, driver: Path) -> tuple[list[Row], Cost | None]:
    """All figures of one case by one path, and what the agent costs with so many pods."""
    noise = bool(os.environ.get("BENCH_NOISE"))
    reference = [REFERENCE / name for name in case.references]
    folder = Path(os.environ.get("BENCH_OURS") or Path(sys.executable).parent)
    executable = folder / case.executable if path == "direct" else LAUNCHER
    with (
        side(case, "ours", driver, reference if noise else [executable], peer=noise) as ours,
        side(case, "peer", driver, reference, peer=True) as peer,
        closing_agent(ours.node, wanted=path == "agent" and not noise) as agent,
    ):
        most = max(parallel for parallel, _rounds in BURSTS[path])
        pods = [[one.node.pod() for _ in range(most)] for one in (ours, peer)]
        if case.chained:
            for one, of_node in zip((ours, peer), pods, strict=True):
                prove(one, of_node[0], len(case.families))
        rows = list(measure(case, path, (ours, peer), pods, samples=samples()))
        if agent is None or case.name != COSTED:
            return rows, None
        progress(f"{case.name}: the agent with {PODS} pods, idle")
        live = [*pods[0], *(ours.node.pod() for _ in range(PODS - most))]
        ours.add(live, 1, len(case.families))
        cost = agent.cost()
        ours.delete(live, 16)
        return rows, cost


@contextmanager
def closing_agent(node: Node, *, wanted: bool) -> Iterator[Agent | None]:
    """The node's agent, when one is wanted."""
    if not wanted:
        yield None
        return
    agent = Agent(node, ROOT / "build" / "bench-agent.log")
    try:
        yield agent
    finally:
        agent.close()


def paths_of(case: Case) -> list[str]:
    """Which paths are measured of a case."""
    asked = os.environ.get("BENCH_PATHS", "").split() or ["agent", "direct"]
    has = {"agent": not case.alone, "direct": case.direct or "BENCH_PATHS" in os.environ}
    return [path for path in asked if has[path]]


def samples() -> int:
    """SAMPLES, at least one."""
    return max(1, int(os.environ.get("SAMPLES") or 30))


def progress(text: str) -> None:
    """A line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The figures for people."""
    yield (
        f"{'case':<12} {'path':<7} {'verb':<4} {'at once':>7}  {'ours p50':>9} {'p95':>8}  "
        f"{'peer p50':>9} {'p95':>8}  {'ratio':>6}  {'ours/s':>7} {'peer/s':>7}"
    )
    for x in rows:
        yield (
            f"{x.case:<12} {x.path:<7} {x.verb:<4} {x.concurrency:>7}  {x.ours_ms_p50:>9.1f} "
            f"{x.ours_ms_p95:>8.1f}  {x.peer_ms_p50:>9.1f} {x.peer_ms_p95:>8.1f}  "
            f"{x.ratio:>6.2f}  {x.ours_per_s:>7.1f} {x.peer_per_s:>7.1f}"
        )


def judged(rows: Sequence[Row]) -> Iterator[str]:
    """What was found beside what is aimed at, where a case has goals."""
    for x in rows:
        goal = CASES[x.case].goals.get((x.verb, x.concurrency))
        if goal is None or x.path != "agent":
            continue
        if x.concurrency == 1:
            yield f"{x.case} {x.verb}: {x.ratio:.3f} of the reference's median (goal: {goal:.2f})"
        else:
            times = x.ours_per_s / x.peer_per_s
            yield (
                f"{x.case} {x.verb}, {x.concurrency} at a time: {times:.1f} times as many a second"
                f" (goal: {goal:.0f})"
            )


def main() -> int:
    """Measure the chosen cases; status 1 and no table when an answer was wrong."""
    if "PODWIRE_SANDBOX" not in os.environ:
        sys.exit("podwire: run it as `make bench`, inside hack/sandbox.sh")
    names = os.environ.get("BENCH_CASES", "").replace(",", " ").split() or DEFAULT_CASES
    unknown = [name for name in names if name not in CASES]
    if unknown:
        sys.exit(f"podwire: no such case: {' '.join(unknown)}; there are: {' '.join(CASES)}")
    started = time.monotonic()
    load = os.getloadavg()[0]
    driver = build_driver(ROOT)
    subprocess.run([ROOT / "hack" / "launcher.sh", LAUNCHER], check=True)
    rows: list[Row] = []
    cost: Cost | None = None
    try:
        for name in names:
            for path in paths_of(CASES[name]):
                found, paid = run_case(CASES[name], path, driver)
                rows += found
                cost = paid or cost
    except (WrongAnswer, AssertionError) as wrong:  # the node's observers assert
        progress("")
        print(f"podwire: no figures, for this went wrong: {wrong}", file=sys.stderr)
        return 1
    progress("")
    print(*table(rows), sep="\n")
    print(*judged(rows), sep="\n")
    if cost:
        print(
            f"\nthe agent with {PODS} pods: {cost.resident_mib:.0f} MiB resident,"
            f" {cost.idle_percent:.2f} % of a core when idle"
        )
    print(
        f"\nms a process from outside; {samples()} samples one at a time; peer: the reference "
        "plugin of the case with host-local, in full-chain with portmap and bandwidth after it\n"
        f"{os.cpu_count()} cores, kernel {platform.release()}, load {load:.2f} before, "
        f"{os.getloadavg()[0]:.2f} after, Python {platform.python_version()}, "
        f"{time.monotonic() - started:.0f} s"
    )
    target = ROOT / "build" / "bench.json"
    document = {"rows": [asdict(x) for x in rows], "agent": cost._asdict() if cost else None}
    target.write_text(json.dumps(document, indent=2) + "\n")
    print(f"written: {target.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
