"""The node's agent, started and ended as systemd or a container would, and its log."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

HERE = Path("/")
SOCKET = "run/podwire/agent.sock"
LOG = "run/agent.log"
CONFIG = "run/agent.yaml"
LOGGED: dict[str, Any] = {"log": {"format": "json"}}
LIMIT_S = 30.0


class Agent:
    """`podwire agent` on a node. root: where the node's files are; enter: the command that enters
    it, when it is another than this one. more: of the agent's config."""

    def __init__(
        self,
        podwire: Path,
        root: Path = HERE,
        enter: tuple[str, ...] = (),
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        root.joinpath(CONFIG).write_text(json.dumps({**LOGGED, **more}))  # JSON is YAML
        command = [*enter, podwire, "agent", "--config", f"/{CONFIG}"]
        with root.joinpath(LOG).open("a") as log:
            self._process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT_S
        while not _answers(root / SOCKET):
            if self._process.poll() is not None or time.monotonic() > end:
                said = root.joinpath(LOG).read_text()[-500:]
                raise OSError(0, f"the agent does not serve: {said}")
            time.sleep(0.01)

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> bool:
        """As systemd does; whether it ended well."""
        self._process.terminate()
        return self._process.wait(LIMIT_S) == 0


def _answers(path: Path) -> bool:
    """A killed agent leaves its socket behind, so its being there says nothing."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


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
    return [line for line in log_of(HERE) if line["message"] == "call"]


def log_of(root: Path) -> list[dict[str, Any]]:
    """What a node's agents have said so far."""
    return [json.loads(line) for line in root.joinpath(LOG).read_text().splitlines()]
