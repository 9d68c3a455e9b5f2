"""make demo: podwire's main job, on two nodes and then on one, all made of network namespaces.

Two nodes: pods of both talk by host-gw, then by vxlan, and what the switch loses is counted. One
node: ADD for pods in bridge and ptp mode, dual stack, through the installed executable as a
container runtime runs it; pings in all directions; CHECK, damage, GC, DEL. And what is left of all
that. Status 1 when anything was not as it should be. Run by hack/demo.sh, inside hack/sandbox.sh.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import between  # noqa: E402
import leftovers  # noqa: E402
import mischief  # noqa: E402
import scenes  # noqa: E402
import service  # noqa: E402
import snapshot  # noqa: E402
from cast import Demo  # noqa: E402
from configs import NETWORKS  # noqa: E402
from nodes import Cluster  # noqa: E402
from pyroute2.netlink.exceptions import NetlinkError  # noqa: E402
from show import Show  # noqa: E402
from world import BIN_DIR, NETNS_DIR, NODE, SERVER, World, install  # noqa: E402

PODWIRE = Path(sys.executable).parent / "podwire"
LAUNCHER = ROOT / "build" / "demo" / "podwire"
FAILURES_SHOWN = 10


def main() -> int:
    """The whole demo; 0 when everything was as it should be."""
    args = _arguments()
    if os.environ.get("PODWIRE_SANDBOX") in {None, os.readlink("/proc/self/ns/net")}:
        sys.exit("podwire: run it as `make demo`: it must not touch this machine's network")
    as_json = args.output == "json"
    try:
        return _run(Show(sys.stderr if as_json else sys.stdout), as_json=as_json)
    except KeyboardInterrupt:
        print("podwire: interrupted; the sandbox takes everything with it", file=sys.stderr)
        return 130  # 128 + SIGINT, as shells have it
    except (OSError, NetlinkError, subprocess.SubprocessError, AssertionError) as error:
        print(f"podwire: the demo itself failed: {error!r}", file=sys.stderr)
        return 3


def _run(show: Show, *, as_json: bool) -> int:
    started = time.monotonic()
    alone = _processes()
    with World() as world, Cluster(LAUNCHER) as cluster:
        runtimes = {network.mode: install(network, LAUNCHER) for network in NETWORKS}
        demo = Demo(show, world, runtimes)
        _introduce(show)
        during = between.play(demo, cluster, PODWIRE)
        _play(demo)
        between.clean(demo, cluster, during)
    _account(demo, alone)
    seconds = time.monotonic() - started
    _verdict(demo, seconds)
    if as_json:
        print(json.dumps(_summary(demo, seconds), indent=2))
    return 1 if demo.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hack/demo.sh", description="podwire's demo")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="form of the summary"
    )
    return parser.parse_args()


def _introduce(show: Show) -> None:
    version = subprocess.run(
        [BIN_DIR / "podwire", "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    whose = "root" if _is_real_root() else "an ordinary user (root in a user namespace only)"
    show.line(show.paint(f"{version} on two nodes, then on one: all network namespaces", "bold"))
    show.line(f"  as {whose}; kernel {platform.release()}, Python {platform.python_version()}")
    show.line(f"  executable  {BIN_DIR}/podwire: native launcher, calls go to the agent")


def _introduce_node(show: Show) -> None:
    show.title("One node, looked at closely")
    for network in NETWORKS:
        subnets = ", ".join(network.subnets)
        show.line(f"  config      /etc/cni/net.d/{network.file}: {subnets}")
    show.line(f"  node        {', '.join(NODE.values())} (uplink0)")
    show.line(f"  outside     {', '.join(SERVER.values())}: has no route back to the pods")


def _is_real_root() -> bool:
    """Whether uid 0 here is uid 0 of the machine."""
    return Path("/proc/self/uid_map").read_text().split()[:2] == ["0", "0"]


def _processes() -> set[str]:
    """Of this sandbox, which has its own numbers."""
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def _account(demo: Demo, alone: set[str]) -> None:
    """The demo's own: what it started and made is gone too."""
    more = sorted(_processes() - alone)
    spaces = sorted(entry.name for entry in Path(NETNS_DIR).iterdir())
    if demo.expect(not more and not spaces, f"left: processes {more}, namespaces {spaces}"):
        demo.show.outcome(True, "no process and no network namespace is left")


def _play(demo: Demo) -> None:
    node = demo.world.node
    _introduce_node(demo.show)
    before = snapshot.take(node)
    with service.serving(PODWIRE) as agent:
        scenes.add_pods(demo)
        scenes.ping_all(demo, title="ping: median round trip of 5 echoes, in ms")
        scenes.check_all(demo)
        mischief.damage(demo)
        scenes.lose_agent(demo, agent)
    with service.serving(PODWIRE) as agent:
        during = snapshot.take(node)
        scenes.delete_all(demo)
        demo.expect(agent.stop(), "the agent ended well")
    scenes.served(demo)
    leftovers.compare(demo, before, during, snapshot.take(node))


def _verdict(demo: Demo, seconds: float) -> None:
    demo.show.line()
    total = demo.passed + len(demo.failures)
    if demo.failures:
        text = f"FAILED: {len(demo.failures)} of {total} expectations, in {seconds:.1f} s"
        demo.show.line(demo.show.paint(text, "red"))
        for failure in demo.failures[:FAILURES_SHOWN]:
            demo.show.line(f"  {failure}")
        if len(demo.failures) > FAILURES_SHOWN:
            demo.show.line("  ... each is marked above")
        return
    text = f"PASSED: all {total} expectations held, in {seconds:.1f} s"
    demo.show.line(demo.show.paint(text, "green"))


def _summary(demo: Demo, seconds: float) -> dict[str, object]:
    return {
        "passed": not demo.failures,
        "expectations": demo.passed + len(demo.failures),
        "failures": demo.failures,
        "seconds": round(seconds, 1),
        "kernel": platform.release(),
        **demo.facts,
    }


if __name__ == "__main__":
    sys.exit(main())
