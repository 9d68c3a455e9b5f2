"""A pass frees the dead and nobody else, whatever happens while it looks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cni_plugin.cni.values import Attachment
from cni_plugin.model.names import host_link
from ipam.values import Owner

from .world import NETWORK, World, call_under_way

MINUTE_S, LONG_S = 60.0, 300.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.start("alive")
    return made


def test_two_passes_a_minute_apart_free_the_dead(world: World) -> None:
    world.start("dead")
    world.die("dead")
    reconciler = world.reconciler()
    assert reconciler.run_once().freed == ()
    world.now_s += MINUTE_S
    report = reconciler.run_once()
    assert [one.subject.attachment.container_id for one in report.freed] == ["dead"]
    assert report.failures == ()
    assert list(world.held().values()) == ["alive"]
    assert world.records.load(NETWORK, Attachment("dead", "eth0")) is None
    assert world.records.load(NETWORK, Attachment("alive", "eth0")) is not None


def test_looking_is_no_sighting(world: World) -> None:
    world.start("dead")
    world.die("dead")
    reconciler = world.reconciler()
    assert reconciler.look().doomed == ()
    world.now_s += MINUTE_S
    assert reconciler.look().doomed == ()
    assert reconciler.run_once().freed == ()


def test_a_reservation_without_a_record_waits_longer(world: World) -> None:
    world.reserve("bare")
    reconciler = world.reconciler()
    reconciler.run_once()
    world.now_s += MINUTE_S
    assert reconciler.run_once().freed == ()
    world.now_s += LONG_S
    assert len(reconciler.run_once().freed) == 1


def test_what_a_person_reserved_is_kept(world: World) -> None:
    world.store.reserve(world.conf, NETWORK, Owner("reserved-printer", "reserved"), ())
    reconciler = world.reconciler()
    for _ in range(3):
        world.now_s += LONG_S
        assert reconciler.run_once().freed == ()
    assert "reserved-printer" in world.held().values()


def test_an_add_of_the_same_names_between_judgement_and_lock_is_safe(world: World) -> None:
    world.start("twin")
    world.die("twin")
    reconciler = world.reconciler()
    reconciler.run_once()
    world.now_s += MINUTE_S
    looks = iter(range(100))

    def delete_and_add_again() -> None:
        if next(looks) == 4:  # the first look is over, the lock not yet taken
            world.store.release(world.conf, NETWORK, Owner("twin", "eth0"))
            world.start("twin")

    world.between = delete_and_add_again
    assert reconciler.run_once().freed == ()
    assert sorted(world.held().values()) == ["alive", "twin"]


def test_an_attachment_that_a_call_works_on_is_passed_over(world: World, tmp_path: Path) -> None:
    for name in ("dead", "busy"):
        world.start(name)
        world.die(name)
    reconciler = world.reconciler()
    reconciler.run_once()
    world.now_s += MINUTE_S
    with call_under_way(tmp_path, "busy"):
        report = reconciler.run_once()
        assert [one.subject.attachment.container_id for one in report.freed] == ["dead"]
        assert report.failures == ()
        reasons = {one.subject.attachment.container_id: one.reason for one in report.kept}
        assert reasons["busy"] == "an ADD or DEL of it is under way"
        assert sorted(world.held().values()) == ["alive", "busy"]
    # A doubt: it has to be seen dead twice again.
    assert reconciler.run_once().freed == ()
    world.now_s += MINUTE_S
    assert len(reconciler.run_once().freed) == 1


def test_a_call_that_waits_for_the_store_meanwhile_is_no_deadlock(
    world: World, tmp_path: Path
) -> None:
    world.start("busy")
    world.die("busy")
    reconciler = world.reconciler()
    reconciler.run_once()
    world.now_s += MINUTE_S
    with call_under_way(tmp_path, "busy") as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def go_on() -> None:
            if world.own._held and not process.stdin.closed:
                process.stdin.close()  # now that the reconciler has the store's lock
                assert process.stdout.readline() == "waits for the store's lock\n"

        world.between = go_on
        world.start("dead too")  # so that there is a last look, with the store's lock held
        world.die("dead too")
        world.now_s += MINUTE_S
        report = reconciler.run_once()
        world.now_s += MINUTE_S
        report = reconciler.run_once()
        assert report.failures == ()
        assert process.stdin.closed
        assert process.wait() == 0
    assert sorted(world.held().values()) == ["alive", "busy"]


def test_250_dead_go_in_less_than_a_second(world: World) -> None:
    for number in range(250):
        world.start(f"dead-{number}")
        world.die(f"dead-{number}")
    reconciler = world.reconciler()
    reconciler.run_once()
    world.now_s += MINUTE_S
    started = time.process_time()
    assert len(reconciler.run_once().freed) == 250
    assert time.process_time() - started < 1.0
    assert list(world.held().values()) == ["alive"]


STEPS = ("reserve", "record", "link", "cache")
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["step", "step", "die", "delete", "tick", "lose", "regain", "nothing"]),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=60,
)


class Life:
    """Random pods over a world. A pod lives from the start of its ADD (its namespace is made
    before) until it dies; an ADD takes at most four minutes (the kubelet's limit)."""

    def __init__(self, world: World, actions: Iterator[tuple[str, str]]) -> None:
        self.world = world
        self.actions = actions
        self.stage: dict[str, int] = {}  # name -> steps done
        self.address: dict[str, str] = {}
        self.since_s: dict[str, float] = {}
        self.runs = 0

    def act(self) -> None:
        action, name = next(self.actions, ("nothing", ""))
        if action == "step":
            self.step(name)
        elif action == "die" and name in self.stage:
            self.world.die(name, self.netns(name))
            del self.stage[name]
        elif action == "delete" and name in self.stage and not self.world.own._held:
            self.delete(name)
        elif action == "tick" and not self.overdue():
            self.world.now_s += 45.0
        elif action in ("lose", "regain"):
            self.world.evidence_lost = action == "lose"

    def netns(self, name: str) -> str:
        return f"/run/netns/{name}"  # the path is the same for each sandbox of the name: worst case

    def overdue(self) -> bool:
        unfinished = (n for n, done in self.stage.items() if done < len(STEPS))
        return any(self.world.now_s + 45.0 - self.since_s[n] > 240.0 for n in unfinished)

    def step(self, name: str) -> None:
        done = self.stage.get(name, 0)
        if done == 0:
            if self.world.own._held:
                return  # it would wait for the lock
            self.delete(name)  # what an ADD does with what a dead one of its name left
            self.runs += 1
            self.world.netns[self.netns(name)] = 4026540000 + self.runs
            self.since_s[name] = self.world.now_s
            self.address[name] = self.world.reserve(name)
        elif done == 1:
            self.world.save_record(name, self.netns(name), self.address[name])
        elif done == 2:
            self.world.make_link(name)
        elif done == 3:
            self.world.write_cache(name, self.netns(name))
        self.stage[name] = min(done + 1, len(STEPS))

    def delete(self, name: str) -> None:
        self.world.die(name, self.netns(name))
        self.world.store.release(self.world.conf, NETWORK, Owner(name, "eth0"))
        self.world.records.remove(NETWORK, Attachment(name, "eth0"))
        self.world.cache.pop((NETWORK, name, "eth0"), None)
        self.stage.pop(name, None)

    def check(self) -> None:
        held = self.world.held()
        for name, done in self.stage.items():
            assert held.get(self.address[name]) == name, f"{name} lost its address"
            if done >= 2:
                assert self.world.records.load(NETWORK, Attachment(name, "eth0")), f"{name} lost it"
            if done >= 3:
                assert host_link(NETWORK, name, "eth0") in self.world.links, f"{name} was cut off"


@settings(max_examples=150)
@given(ACTIONS, st.data())
def test_never_a_live_one_whatever_happens_meanwhile(
    actions: list[tuple[str, str]], data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.start("alive")
        reconciler = world.reconciler()
        life = Life(world, iter(actions))
        world.between = life.act
        for _ in range(8):
            for _ in range(data.draw(st.integers(0, 6))):
                life.act()
            reconciler.run_once()
            life.check()
        # And nothing leaks: once all is quiet, two passes leave the living only.
        world.between = lambda: None
        world.evidence_lost = False
        reconciler.run_once()
        world.now_s += LONG_S
        reconciler.run_once()
        for name in ("a", "b", "c"):
            if name not in life.stage:
                assert name not in world.held().values()
        unfinished = {name for name, done in life.stage.items() if done < 2}
        for name in unfinished:
            life.stage.pop(name)  # five minutes are more than its ADD may take
        life.check()
