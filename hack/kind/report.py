"""What was found, as a table or as JSON on stdout."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from smoke import Outcome


def tell(options: argparse.Namespace, ready_s: float, outcomes: Sequence[Outcome]) -> None:
    """To stdout."""
    if options.output == "json":
        print(json.dumps(_document(options, ready_s, outcomes), indent=2))
        return
    kind = f"{options.ip_family}, kube-proxy {options.proxy_mode}"
    print(f"cluster {options.name} ({kind}): ready after {ready_s:.0f} s\n")
    rows = [("", "IP", "good", ""), *map(_row, outcomes)]
    widths = [max(len(row[at]) for row in rows) for at in range(3)]
    for row in rows:
        cells = (row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]))
        print("  ".join((*cells, row[3])).rstrip())
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for failure in failures:
        print(f"  {failure}")
    good = all(outcome.passed for outcome in outcomes)
    print("\nPASSED" if good else f"\nFAILED: {len(failures)} requests")
    print(f"kubectl --context kind-{options.name} ...; `make kind-down` takes it away")


def _row(outcome: Outcome) -> tuple[str, str, str, str]:
    version = f"v{outcome.version}" if outcome.version else "-"
    if outcome.skipped:
        return outcome.check, version, "-", f"not tried: {outcome.skipped}"
    mark = "✓" if outcome.passed else "✗"
    return outcome.check, version, f"{outcome.done}/{outcome.total}", mark


def _document(
    options: argparse.Namespace, ready_s: float, outcomes: Sequence[Outcome]
) -> dict[str, object]:
    return {
        "cluster": options.name,
        "ipFamily": options.ip_family,
        "kubeProxyMode": options.proxy_mode,
        "readySeconds": round(ready_s, 1),
        "passed": all(outcome.passed for outcome in outcomes),
        "checks": [{**one._asdict(), "passed": one.passed} for one in outcomes],
    }
