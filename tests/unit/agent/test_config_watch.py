"""A change that comes before the watch has begun is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from cni_plugin.agent.config import AgentConfig, read_config
from cni_plugin.agent.config_watch import ConfigWatch
from cni_plugin.agent.health import Readiness


class Told:
    """A sink that keeps what events say."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def event(self, _level: str, message: str, _keys: dict[str, Any]) -> None:
        self.messages.append(message)


def test_what_changed_since_the_config_in_use_was_read(tmp_path: Path) -> None:
    """An agent reads its config, recovers and serves before it watches."""
    path = tmp_path / "agent.yaml"
    path.write_text("repair: false")
    watch = ConfigWatch(str(path), AgentConfig(), lambda: read_config(str(path)))
    told = Told()

    async def run() -> None:
        async with asyncio.timeout(10):
            await watch.run(told, Readiness())  # type: ignore[arg-type]

    asyncio.run(run())
    assert watch.new == AgentConfig(repair=False)
    assert "begins anew" in told.messages[0]
