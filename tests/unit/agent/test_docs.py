"""docs/agent.md names every metric and stage that the code has, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from cni_plugin.agent.metrics import MetricsSink
from cni_plugin.agent.stages import STAGE_OF
from cni_plugin.agent.totals import Totals
from cni_plugin.agent.tracing import attributes
from cni_plugin.pools import METRICS
from tests.unit.agent.kit import report

TEXT = (Path(__file__).parents[3] / "docs" / "agent.md").read_text()
TABLE = TEXT.split("## Metrics")[1].split("## ")[0]


def test_every_metric_and_no_other() -> None:
    metrics = MetricsSink()
    metrics.watch_lanes(lambda: 0, ())
    totals = Totals()
    totals.heard = True  # a peers file says nothing of it
    totals.conflist = True
    metrics.watch_cluster(totals)
    names = {
        {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(
            family.type, family.name
        )
        for family in metrics.registry.collect()
    } | {f"podwire_ipam_{name}_addresses" for name in METRICS}
    rows = "".join(line.split("|")[1] for line in TABLE.splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`(podwire_\w+)`", rows))
    assert listed == {name for name in names if name.startswith("podwire_")}


def test_every_stage() -> None:
    assert [name for name in {*STAGE_OF.values(), "config"} if f"`{name}`" not in TABLE] == []


def test_every_attribute() -> None:
    assert [name for name in attributes(report()) if f"`{name}`" not in TEXT] == []
