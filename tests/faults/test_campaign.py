"""The fault campaign in its short form; `make test-faults` runs the whole."""

from __future__ import annotations

import pytest

from tests.faults.campaign import SCENARIOS, Scenario, pieces, run, why_not
from tests.faults.counts import Counts
from tests.faults.damage import DAMAGE

SEED = 20261101
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def _counts(scenario: Scenario, plugin: str, runs: int) -> Counts:
    reason = why_not(scenario, plugin)
    if reason:
        pytest.skip(reason)
    total = Counts()
    for piece in pieces(scenario, plugin, runs, SEED):
        total.add(run(piece))
    return total


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS if s.short], ids=[s.name for s in SCENARIOS if s.short]
)
def test_podwire_loses_nothing(scenario: Scenario) -> None:
    counts = _counts(scenario, "podwire", scenario.short)
    assert counts.runs
    assert counts.losses == {}, "\n".join(counts.notes)


@pytest.mark.timeout(180)
def test_the_same_script_finds_what_the_reference_loses() -> None:
    reboot = _counts(BY_NAME["reboot, runtime cache empty"], "reference", 1)
    assert reboot.unusable > 0
    emptied = list(DAMAGE).index("a free address: empty file") + 1
    damaged = _counts(BY_NAME["store damaged under live pods"], "reference", emptied)
    assert damaged.unusable > 0
    assert damaged.torn == 0
