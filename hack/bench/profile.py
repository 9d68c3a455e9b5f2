"""make bench-profile: where an ADD's and a DEL's time goes, by stage, beside the kernel's floor.

The launcher is started from outside, the agent's log says how long each stage took, and floor.py
sends podwire's own messages again with nothing around them. Medians of SAMPLES calls (default 60)
of each case in BENCH_CASES, one at a time. A benchmark is no test: it never fails on a time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from agent import Agent  # noqa: E402
from cases import CASES, Case  # noqa: E402
from sides import Side  # noqa: E402

from tests.support.node import Node, open_node  # noqa: E402

LAUNCHER = ROOT / "build" / "launcher" / "podwire"
REFERENCE = Path("/usr/lib/cni")
WARM_UP = 5
VERBS = ("ADD", "DEL")
Figures = dict[str, float]


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else 0.0


def _calls(log: Path, verb: str) -> list[dict[str, object]]:
    """The agent's lines of its calls of one verb, without the warm-up."""
    lines = (json.loads(line) for line in log.read_text().splitlines())
    found = [line for line in lines if line["message"] == "call" and line["verb"] == verb]
    return found[WARM_UP:]


def _stages(calls: list[dict[str, object]]) -> Figures:
    """Median milliseconds by what the agent's line names `..._ms`."""
    names = dict.fromkeys(key for call in calls for key in call if key.endswith("_ms"))
    return {name: _median([float(call.get(name, 0.0)) for call in calls]) for name in names}  # type: ignore[arg-type]


def _floor(node: Node, config: Path, times: int) -> dict[str, list[float]]:
    """On a node of its own, so that nothing else is done there."""
    pod = node.pod()
    program = Path(__file__).with_name("floor.py")
    done = node.run(sys.executable, program, config, pod.netns, str(times))
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def profile(case: Case, driver: Path, times: int) -> Iterator[str]:
    """The table of one case."""
    with tempfile.TemporaryDirectory(prefix="podwire-profile-") as folder:
        work = Path(folder)
        config = work / "config.json"
        plugin = case.config(of_peer=False)
        asked = case.asked(plugin, 0)
        config.write_text(json.dumps(plugin | ({"runtimeConfig": asked} if asked else {})))
        outside: dict[str, list[float]] = {verb: [] for verb in VERBS}
        with open_node("profiled", REFERENCE) as node:
            agent = Agent(node, work / "agent.log", "log: {format: json, level: debug}\n")
            plugins = case.plugins(of_peer=False)
            side = Side(node, driver, work, [LAUNCHER], plugins, asked=case.asked)
            pods = [node.pod()]
            for _ in range(WARM_UP + times):
                outside["ADD"] += side.add(pods, 1, len(case.families)).each_ms
                outside["DEL"] += side.delete(pods, 1).each_ms
            side.close()
            agent.close()
        with open_node("floor", REFERENCE) as node:
            floor = _floor(node, config, times)
        for verb in VERBS:
            calls = _calls(work / "agent.log", verb)
            yield from _table(case, verb, outside[verb][WARM_UP:], calls, floor[verb])


def _table(
    case: Case, verb: str, outside: list[float], calls: list[dict[str, object]], floor: list[float]
) -> Iterator[str]:
    whole, inside = _median(outside), _median([float(call["ms"]) for call in calls])  # type: ignore[arg-type]
    stages = _stages(calls)
    waited = stages.pop("waited_ms", 0.0)
    rest = inside - waited - sum(stages.values())
    rows = [
        ("launcher: start, socket, answer, exit", whole - inside),
        ("waiting for a thread", waited),
        *((name.removesuffix("_ms"), ms) for name, ms in stages.items()),
        ("the rest of Python", rest),
    ]
    yield f"{case.name} {verb}"
    for name, ms in rows:
        yield f"  {name:<40} {ms:8.2f} ms {ms / whole * 100:5.0f} %"
    yield f"  {'from outside':<40} {whole:8.2f} ms   100 %"
    kernel, name = _median(floor), "the kernel alone: the same messages"
    yield f"  {name:<40} {kernel:8.2f} ms {kernel / whole * 100:5.0f} %"
    yield ""


def main() -> int:
    """The tables."""
    if "PODWIRE_SANDBOX" not in os.environ:
        sys.exit("podwire: run it as `make bench-profile`, inside hack/sandbox.sh")
    from driver import build_driver

    driver = build_driver(ROOT)
    subprocess.run([ROOT / "hack" / "launcher.sh", LAUNCHER], check=True)
    names = os.environ.get("BENCH_CASES", "").replace(",", " ").split() or ["bridge", "ptp"]
    times = max(1, int(os.environ.get("SAMPLES") or 60))
    for name in names:
        for line in profile(CASES[name], driver, times):
            print(line)
    print(f"medians of {times}; load {os.getloadavg()[0]:.2f}, {os.cpu_count()} cores")
    return 0


if __name__ == "__main__":
    sys.exit(main())
