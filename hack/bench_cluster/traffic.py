"""What packets have of it: throughput and latency between two pods, beside the same devices wired
by hand, in turns.

iperf3 says the throughput (one TCP stream), `ping -f` the latency: each echo is sent as soon as the
one before is answered. Samples are short and many, and a figure is their better quartile: what else
the machine does makes samples worse, never better.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from statistics import quantiles
from typing import NamedTuple

from contest import WrongAnswer
from wiring import Case, Pair, by_hand, ours

STREAM = "256M"  # bytes, a fifth of a second
ECHOES = 16000  # ping tells the whole time in milliseconds
LIMIT_S = 20.0


class Flow(NamedTuple):
    """What one case is like: by podwire, by podwire without antiSpoofing, and by hand; and the
    first two's ratios to the third."""

    gbit_s: tuple[float, ...]
    gbit_ratios: tuple[float, ...]
    rtt_us: tuple[float, ...]
    rtt_ratios: tuple[float, ...]


def flow(case: Case, rounds: int, progress: Callable[[str], None]) -> Flow:
    """A round more than asked for: the first one warms up."""
    rates: list[list[float]] = []
    trips: list[list[float]] = []
    with ExitStack() as stack:
        sides = (ours(case), ours(case, guarded=False), by_hand(case))
        pairs = [stack.enter_context(side) for side in sides]
        for number in range(rounds + 1):
            progress(f"{case.name}: packets, round {number}/{rounds}")
            rate, trip = (_round(pairs, number, one) for one in (throughput_gbit_s, round_trip_us))
            if number:
                rates.append(rate)
                trips.append(trip)
    return Flow(*_figures(rates, most=True), *_figures(trips, most=False))


def _round(pairs: list[Pair], number: int, measure: Callable[[Pair], float]) -> list[float]:
    """Each side once; each round begins with the next one."""
    found = [0.0] * len(pairs)
    for turn in range(len(pairs)):
        which = (number + turn) % len(pairs)
        found[which] = measure(pairs[which])
    return found


def _figures(
    samples: list[list[float]], *, most: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """most: more is better."""
    quartiles = [quantiles(side, n=4) for side in zip(*samples, strict=True)]
    found = tuple(quartile[-1 if most else 0] for quartile in quartiles)
    return found, tuple(one / found[-1] for one in found[:-1])


def throughput_gbit_s(pair: Pair) -> float:
    """Of one TCP stream, as it arrives."""
    server = pair.other.spawn(
        "iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        assert server.stdout is not None
        for line in server.stdout:
            if "listening" in line:
                break
        client = pair.one.run("iperf3", "-c", pair.address, "-n", STREAM, "-J")
        server.communicate(timeout=LIMIT_S)
    finally:
        server.kill()
        server.wait()
    return float(json.loads(client.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e9


def round_trip_us(pair: Pair) -> float:
    """The mean of ECHOES, from the whole time: each one's own is told in whole microseconds.
    WrongAnswer when one was lost."""
    said = pair.one.run("ping", "-f", "-q", "-n", "-c", str(ECHOES), pair.address).stdout
    found = re.search(r" 0% packet loss, time (\d+)ms", said)
    if not found:
        raise WrongAnswer(f"echoes to {pair.address}: {said}")
    return int(found[1]) * 1000 / ECHOES
