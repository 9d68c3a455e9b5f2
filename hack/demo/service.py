"""The node's agent, started and ended as systemd or a container would, and its log."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOCKET = Path("/run/podwire/agent.sock")
LOG = Path("/run/agent.log")
CONFIG = Path("/run/agent.yaml")
LIMIT_S = 30.0


class Agent:
    """`podwire agent` on the demo's node."""

    def __init__(self, podwire: Path) -> None:
        CONFIG.write_text("log: {format: json}\n")
        with LOG.open("a") as log:
            self._process = subprocess.Popen(
                [podwire, "agent", "--config", CONFIG], stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + LIMIT_S
        while not _answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise OSError(0, f"the agent does not serve: {LOG.read_text()[-500:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> bool:
        """As systemd does; whether it ended well."""
        self._process.terminate()
        return self._process.wait(LIMIT_S) == 0


def _answers() -> bool:
    """A killed agent leaves its socket behind, so its being there says nothing."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(SOCKET)) == 0


@contextmanager
def serving(podwire: Path) -> Iterator[Agent]:
    """An agent that is gone when the block ends, however it ends."""
    agent = Agent(podwire)
    try:
        yield agent
    finally:
        agent.kill()


def calls() -> list[dict[str, Any]]:
    """The calls that agents have served so far, as their log tells of them."""
    lines = (json.loads(line) for line in LOG.read_text().splitlines())
    return [line for line in lines if line["message"] == "call"]
