"""The config list is written last, looked after, and what is wrong with it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.agent import conflist as subject
from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.conflist import ConflistKeeper
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.totals import Totals
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.values import Node
from tests.support.sink import Sink
from tests.unit.cluster.kit import until

A = Node("a", (ip_network("10.244.1.0/24"),))
TEMPLATE = {
    "cniVersion": "1.0.0",
    "name": "mine",
    "plugins": [{"type": "podwire", "mtu": "${mtu}", "ipam": {"ranges": "${ranges}"}}],
}


class World(Sink):
    """A keeper at work, and what it told."""

    def __init__(self, folder: Path, **keys: Any) -> None:
        self.file = folder / "net.d" / "10-podwire.conflist"
        super().__init__()
        self.readiness = Readiness()
        self.totals = Totals()
        conf = ConflistConfig.model_validate({"path": str(self.file), **keys})
        kept = (ip_network("10.244.0.0/16"),)
        self.keeper = ConflistKeeper(conf, kept, self, self.readiness, self.totals)

    def told(self, words: str) -> list[str]:
        """The levels at which it was told."""
        return [level for level, message in self.events if words in message]

    def reason(self) -> str:
        return "; ".join(self.readiness.reasons())

    def identity(self) -> tuple[int, int]:
        """Another one after each writing."""
        found = self.file.stat()
        return found.st_ino, found.st_mtime_ns

    @property
    def plugin(self) -> dict[str, Any]:
        """What the list has now."""
        found: dict[str, Any] = json.loads(self.file.read_bytes())["plugins"][0]
        return found


Story = Callable[[World], Awaitable[None]]
Happen = Callable[..., None]


@pytest.fixture
def happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Happen:
    """Lets a story happen; keys: of the config."""
    monkeypatch.setattr(subject, "LOOK_S", 0.05)
    monkeypatch.setattr(subject, "PAUSES_S", (0.02,))

    async def main(story: Story, keys: Mapping[str, Any]) -> None:
        world = World(tmp_path, **keys)
        task = asyncio.create_task(world.keeper.run())
        try:
            await story(world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            world.keeper.close()

    return lambda story, **keys: asyncio.run(main(story, keys))


def test_nothing_is_written_before_the_node_is_ready(happen: Happen) -> None:
    async def story(world: World) -> None:
        await asyncio.sleep(0.2)  # several looks
        assert not world.file.parent.exists()
        assert "is written when this node is ready" in world.reason()
        assert world.totals.conflist is False
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        assert world.plugin["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]
        assert world.plugin["nonMasqueradeCIDRs"] == ["10.244.0.0/16"]
        assert world.totals.conflist is True
        assert world.told("conflist: written") == ["info"]

    happen(story)


def test_it_follows_the_nodes_values_and_is_written_only_when_it_differs(happen: Happen) -> None:
    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        before = world.identity()
        world.keeper.ready(A, 1450)
        await asyncio.sleep(0.2)
        assert world.identity() == before
        world.keeper.ready(A, 1500)
        await until(lambda: world.plugin["mtu"] == 1500, "the MTU is the new one")
        moved = A._replace(pod_cidrs=(ip_network("10.244.9.0/24"), ip_network("2001:db8::/64")))
        world.keeper.ready(moved, None)
        await until(lambda: world.plugin["mtu"] == 0, "nothing limits the MTU")
        assert world.plugin["ipam"]["ranges"] == [
            [{"subnet": "10.244.9.0/24"}],
            [{"subnet": "2001:db8::/64"}],
        ]

    happen(story)


def test_what_somebody_does_to_it_is_undone_and_told(happen: Happen) -> None:
    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        good = world.file.read_bytes()
        world.file.unlink()
        await until(world.file.exists, "it is there again")
        await until(lambda: world.told("somebody removed or changed it") == ["warning"], "it told")
        world.file.write_text("{}")
        await until(lambda: world.file.read_bytes() == good, "it is as it should be")

    happen(story)


def test_one_that_was_there_before_is_not_written_again(happen: Happen) -> None:
    async def first(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")

    async def second(world: World) -> None:
        before = world.identity()
        await first(world)
        assert world.identity() == before
        assert world.told("it is as it should be") == ["info"]

    happen(first)
    happen(second)


def test_what_cannot_be_written_is_told_once_and_tried_again(happen: Happen) -> None:
    async def story(world: World) -> None:
        world.file.parent.write_text("no folder")
        world.keeper.ready(A, 1450)
        await until(lambda: "cannot be written: Not a directory" in world.reason(), "it says so")
        await asyncio.sleep(0.2)
        assert world.told("cannot be written") == ["error"]
        assert world.totals.conflist is False
        world.file.parent.unlink()
        await until(lambda: not world.reason(), "it is ready")
        assert world.totals.conflist is True

    happen(story)


def test_a_list_that_goes_before_it_is_a_reason_and_one_after_it_a_warning(happen: Happen) -> None:
    async def story(world: World) -> None:
        folder = world.file.parent
        folder.mkdir()
        (folder / "87-other.conflist").write_text("{}")
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready all the same")
        assert world.told("a runtime takes 10-podwire.conflist, the first by name") == ["warning"]
        (folder / "05-other.conf").write_text("{}")
        await until(lambda: 'takes "05-other.conf" rather' in world.reason(), "it is a reason")
        assert world.totals.rivals == {"before": 1, "after": 1}
        (folder / "05-other.conf").unlink()
        (folder / "87-other.conflist").unlink()
        await until(lambda: not world.reason(), "it is ready again")
        assert world.totals.rivals == {"before": 0, "after": 0}

    happen(story)


def test_the_templates_file_is_followed_and_a_bad_one_changes_nothing(
    happen: Happen, tmp_path: Path
) -> None:
    template = tmp_path / "t.json"
    template.write_text(json.dumps(TEMPLATE))

    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        assert "mode" not in world.plugin
        template.write_text("{")
        await until(lambda: world.told("the template is no good") == ["warning"], "it is told")
        (note,) = world.readiness.notes()
        assert note.startswith(f"note: conflist: the template is no good: {template} is not JSON")
        assert world.totals.template is False
        world.keeper.ready(A, 1430)
        await until(lambda: world.plugin["mtu"] == 1430, "values are followed all the same")
        assert not world.reason()
        assert world.totals.conflist is True
        better = {**TEMPLATE, "plugins": [{**TEMPLATE["plugins"][0], "mode": "ptp"}]}  # type: ignore[dict-item]
        template.write_text(json.dumps(better))
        await until(lambda: world.plugin.get("mode") == "ptp", "the new one is used")
        await until(lambda: world.totals.template is True, "and counted")
        assert world.readiness.notes() == ()

    happen(story, template=str(template))


def test_one_that_is_bad_from_the_beginning_leaves_the_list_as_it_is(
    happen: Happen, tmp_path: Path
) -> None:
    template = tmp_path / "t.json"

    async def story(world: World) -> None:
        world.file.parent.mkdir()
        world.file.write_text("of the agent before")
        assert world.told(f"the template is no good: {template}: No such file") == ["error"]
        assert f"{world.file} is left as it is" in world.reason()
        template.write_text(json.dumps({**TEMPLATE, "name": 5}))
        world.keeper.ready(A, 1450)
        await until(lambda: "name is 5" in world.reason(), "it says what is wrong now")
        await asyncio.sleep(0.2)
        assert world.file.read_text() == "of the agent before"
        assert (world.totals.conflist, world.totals.template) == (False, False)
        template.write_text(json.dumps(TEMPLATE))
        await until(lambda: not world.reason(), "it is ready")
        assert world.plugin["mtu"] == 1450

    happen(story, template=str(template))


@pytest.mark.parametrize("error", [RecursionError("too deep"), MemoryError(), KeyError("x")])
def test_whatever_a_template_raises_it_goes_on(
    happen: Happen, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def read(_conf: ConflistConfig) -> Mapping[str, Any]:
        raise error

    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        with monkeypatch.context() as patched:
            patched.setattr(ConflistConfig, "read_template", read)
            await until(world.readiness.notes, "it is told")
            assert type(error).__name__ in world.readiness.notes()[0]
            world.file.unlink()
            await until(world.file.exists, "it is looked after all the same")
        await until(lambda: not world.readiness.notes(), "all is well again")
        assert not world.reason()

    happen(story, template=TEMPLATE)


def test_values_that_no_template_can_have_are_told_and_it_goes_on(happen: Happen) -> None:
    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        good = world.file.read_bytes()
        world.keeper.ready(A._replace(pod_cidrs=(ip_network("10.244.1.1/32"),)), 1450)
        await until(lambda: "cannot be kept: " in world.reason(), "it says so")
        assert world.file.read_bytes() == good
        world.keeper.ready(A, 1400)
        await until(lambda: not world.reason(), "it is ready again")
        assert world.plugin["mtu"] == 1400

    happen(story)


@pytest.mark.parametrize(("policy", "left"), [("keep", True), ("remove", False)])
def test_at_a_stop_the_policy_decides(happen: Happen, policy: str, *, left: bool) -> None:
    async def story(world: World) -> None:
        await world.keeper.end(None)  # nothing is there yet
        assert world.events == []

    async def ready(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        await world.keeper.end(None)
        await asyncio.sleep(0.2)  # nobody writes it again
        assert world.file.exists() == left

    happen(story, onStop=policy)
    happen(ready, onStop=policy)


def test_what_somebody_else_wrote_stays_at_a_stop(
    happen: Happen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "LOOK_S", 60.0)

    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        world.file.write_text("theirs")
        await world.keeper.end(None)
        assert world.file.read_text() == "theirs"

    happen(story, onStop="remove")


@pytest.mark.parametrize(
    ("cluster", "left"),
    [
        (None, True),
        ({}, True),
        ({"conflist": {"path": "SAME", "onStop": "remove"}}, True),
        ({"conflist": {}}, False),
    ],
)
def test_an_agent_that_follows_at_once_goes_on_with_it(
    happen: Happen, cluster: dict[str, Any] | None, *, left: bool
) -> None:
    """Unless its own is elsewhere: two would be rivals."""

    async def story(world: World) -> None:
        world.keeper.ready(A, 1450)
        await until(lambda: not world.reason(), "it is ready")
        keys = json.loads(json.dumps(cluster).replace("SAME", str(world.file)))
        new = {} if keys is None else {"cluster": {"source": {"file": "/p"}, **keys}}
        await world.keeper.end(AgentConfig.model_validate(new))
        assert world.file.exists() == left

    happen(story, onStop="remove")
