"""A report of a call, as the agent makes one."""

from __future__ import annotations

from typing import Any

from cni_plugin.agent.report import CallReport

REPORT = CallReport(
    verb="ADD",
    network="net",
    container_id="c1",
    ifname="eth0",
    netns="/run/netns/p1",
    pod="default/web",
    request="",
    outcome="done",
    code=0,
    message="",
    began_s=1_700_000_000.0,
    waited_s=0.25,
    ran_s=1.5,
    stages=(("config", 0.25), ("apply", 1.0)),
    environ={},
    starts=(("config", 0.25), ("apply", 0.5)),
)


def report(**changes: Any) -> CallReport:
    """REPORT with other values."""
    return REPORT._replace(**changes)
