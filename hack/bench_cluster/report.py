"""The figures for people: tables, and the goals beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from agent import PODS, Cost
from traffic import Flow

MANY = 5000
# What the project aims at; seconds, a ratio to the floor, MiB, a share.
FIRST_S, FIRST_RATIO, NOOP_S, CHANGE_S = 3.0, 4.0, 0.5, 0.05
RSS_NODES, RSS_MIB = 100, 64.0
WITHIN = 0.02


class Row(NamedTuple):
    """One line of build/bench-cluster.json."""

    backend: str
    nodes: int
    event: str
    ours_s: float
    floor_s: float
    rss_mib: float
    messages: int


class Goal(NamedTuple):
    """What is wanted at most, and what was found, in the same unit."""

    what: str
    wanted: float
    found: float
    unit: str

    def line(self) -> str:
        """With the verdict."""
        share = self.found / self.wanted
        verdict = f"met, {share:.2f} of it" if share <= 1 else f"MISSED, {share:.2f} times it"
        figures = f"{self.wanted:>7g} {self.unit:<4} {self.found:>8.3g} {self.unit:<4}"
        return f"  {self.what:<52} {figures}  {verdict}"


def passes(rows: Iterable[Row]) -> Iterator[str]:
    """What each event costs."""
    yield (
        f"{'backend':<8} {'nodes':>5}  {'event':<6} {'ours ms':>9} {'floor ms':>9} {'ratio':>6}"
        f" {'messages':>9} {'agent MiB':>10}"
    )
    for x in rows:
        yield (
            f"{x.backend:<8} {x.nodes:>5}  {x.event:<6} {x.ours_s * 1000:>9.1f}"
            f" {x.floor_s * 1000:>9.1f} {x.ours_s / x.floor_s:>6.2f} {x.messages:>9}"
            f" {x.rss_mib:>10.1f}"
        )
    yield (
        "ours: a pass of the reconciler; floor: `ip -batch` and `bridge -batch` of the same"
        f"\nobjects, for noop their listing; MiB: of a real agent with {PODS} pods, after the same"
    )


def agents(costs: dict[tuple[str, int], Cost]) -> Iterator[str]:
    """What a real agent takes from the change of its peers file to the kernel's."""
    names = ("first", "join", "leave", "repair")
    yield f"{'':<14}  {'from file to kernel, s':^35}    {'the pass alone, ms':^31}"
    yield (
        f"{'backend':<8} {'nodes':>5}  {' '.join(f'{one:>8}' for one in names)}"
        f"    {' '.join(f'{one:>7}' for one in names)}"
    )
    for (backend, nodes), cost in costs.items():
        told = [cost.events[name] for name in ("first", "join", "leave", "noop")]
        times = " ".join(f"{one.file_s:>8.2f}" for one in told)
        alone = " ".join(f"{one.pass_s * 1000:>7.1f}" for one in told)
        yield f"{backend:<8} {nodes:>5}  {times}    {alone}"
    yield (
        "a real agent: from the peers file's rename to the kernel's route, which is asked"
        "\nfor each 20 ms or so; repair: from a route's deletion to its return"
    )


def packets(flows: dict[str, Flow]) -> Iterator[str]:
    """What packets have of it."""
    yield f"{'':<8}  {'TCP Gbit/s':^42}  {'round trip us':^42}"
    head = f"{'ours':>7} {'no spoof':>9} {'hand':>7} {'ratio':>7} {'no sp.':>7}"
    yield f"{'way':<8}  {head:<42}  {head}"
    for name, flow in flows.items():
        rate, trip = (
            f"{a:>7.2f} {b:>9.2f} {c:>7.2f} {r:>7.3f} {s:>7.3f}"
            for (a, b, c), (r, s) in (
                (flow.gbit_s, flow.gbit_ratios),
                (flow.rtt_us, flow.rtt_ratios),
            )
        )
        yield f"{name:<8}  {rate:<42}  {trip}"
    yield (
        "no spoof: podwire with `antiSpoofing: false`; hand: the same devices by `ip` alone;"
        "\nbetter quartiles; ratio, no sp.: of ours and of no spoof to those by hand"
    )


def goals(
    rows: Sequence[Row], costs: dict[tuple[str, int], Cost], flows: dict[str, Flow]
) -> Iterator[str]:
    """Each goal that something was measured for."""
    found = [*_of_passes(rows), *_of_agents(costs), *_of_packets(flows)]
    if found:
        yield f"  {'goal':<52} {'at most':>12} {'found':>13}"
        yield from (goal.line() for goal in found)


def _of_passes(rows: Iterable[Row]) -> Iterator[Goal]:
    for x in rows:
        if x.nodes != MANY:
            continue
        what = f"{x.backend}, {x.nodes} nodes: {x.event}"
        if x.event == "first":
            yield Goal(what, FIRST_S, x.ours_s, "s")
            yield Goal(f"{what}, by the floor", FIRST_RATIO, x.ours_s / x.floor_s, "x")
        else:
            most = NOOP_S if x.event == "noop" else CHANGE_S
            yield Goal(what, most * 1000, x.ours_s * 1000, "ms")


def _of_agents(costs: dict[tuple[str, int], Cost]) -> Iterator[Goal]:
    """The event is the peers file, read."""
    for (backend, nodes), cost in costs.items():
        if nodes == RSS_NODES:
            most = max(told.rss_mib for told in cost.events.values())
            yield Goal(f"{backend}, {nodes} nodes, {PODS} pods: agent", RSS_MIB, most, "MiB")
        if nodes == MANY:
            for event in ("join", "leave"):
                what = f"{backend}, {nodes} nodes: {event}, the agent's pass"
                yield Goal(what, CHANGE_S * 1000, cost.events[event].pass_s * 1000, "ms")


def _of_packets(flows: dict[str, Flow]) -> Iterator[Goal]:
    """Loss and gain of what is wired by hand, in percent."""
    for name, flow in flows.items():
        lost, gained = 1 - flow.gbit_ratios[0], flow.rtt_ratios[0] - 1
        yield Goal(f"{name}: throughput lost to by hand", WITHIN * 100, max(0.0, lost) * 100, "%")
        yield Goal(f"{name}: latency on top of by hand", WITHIN * 100, max(0.0, gained) * 100, "%")
