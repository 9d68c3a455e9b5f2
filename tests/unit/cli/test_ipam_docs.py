"""docs/ipam.md names every subcommand, finding, state and metric that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from cni_plugin.cli.ipam import COMMANDS
from cni_plugin.cli.ipam.rows import COLOURS
from cni_plugin.pools import METRICS

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "ipam.md").read_text()
SOURCES = [ROOT / "cni_plugin" / "reconcile" / name for name in ("invariants.py", "files.py")]


def test_every_subcommand() -> None:
    assert all(f"| `{name}" in TEXT for name in COMMANDS)


def test_every_finding_and_no_other() -> None:
    made = set()
    for source in SOURCES:
        calls = re.findall(r"Finding\(\s*(.*?),\n?", source.read_text())
        made |= {code for call in calls for code in re.findall(r'"([a-z-]+)"', call)}
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", TEXT.split("### gc")[0], re.MULTILINE)
    listed = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    assert made - listed == set()
    assert {code for code in listed if "-" in code} - made == set()


def test_every_state_and_metric() -> None:
    assert all(f"| `{state}` |" in TEXT for state in COLOURS)
    assert all(f"podwire_ipam_{name}_addresses" in TEXT for name in METRICS)
