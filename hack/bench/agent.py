"""The agent of a node that is measured, and what it costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from sides import WrongAnswer

from tests.support.node import Node, wait_until

SOCKET = "/run/podwire/agent.sock"
TICKS_PER_S = 100  # USER_HZ, the unit of /proc/PID/stat
SETTLE_S = 3.0  # the last calls' events are looked at within two
IDLE_S = 10.0


class Cost(NamedTuple):
    """Resident memory in MiB; share of one core, in percent, over IDLE_S without a call."""

    resident_mib: float
    idle_percent: float


class Agent:
    """Runs on a node until it is closed."""

    def __init__(self, node: Node, log: Path, config: str = "{}\n") -> None:
        self._log = log
        path = node.path("/run/agent.yaml")
        path.write_text(config)
        executable = Path(sys.executable).with_name("podwire")
        with log.open("w") as stderr:
            self._process = node.spawn(
                executable,
                "agent",
                "--config",
                "/run/agent.yaml",
                stderr=stderr,
                stdin=subprocess.DEVNULL,
            )
        wait_until(node.path(SOCKET).exists, "the agent's socket")

    def cost(self) -> Cost:
        """What it takes of the machine while nothing is asked of it."""
        time.sleep(SETTLE_S)
        before = self._ticks()
        time.sleep(IDLE_S)
        percent = (self._ticks() - before) / TICKS_PER_S / IDLE_S * 100
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        resident_kib = int(status.partition("VmRSS:")[2].split()[0])
        return Cost(resident_kib / 1024, percent)

    def _ticks(self) -> int:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])  # utime, stime

    def close(self) -> None:
        """Ends it. WrongAnswer when it did not end well."""
        self._process.terminate()
        if self._process.wait(30):
            raise WrongAnswer(f"the agent ended badly: {self._log.read_text()[-2000:]}")
