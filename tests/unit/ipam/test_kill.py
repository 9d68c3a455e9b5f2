"""Killed before each call that changes something: one DEL must clean up, one ADD must succeed.

The process is forked and exits without any clean-up, as SIGKILL would make it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ipam.kit import NETWORK, FakeNode, conf_of, owner_of, reservations, texts

MUTATING = ("link", "unlink", "rename", "write", "pwrite", "fdatasync", "mkdir", "chmod", "open")
KILLED = 9


def killed_before(count: int, act: Any) -> Any:
    """Run act in a child that dies before its count-th mutating call; True when it died."""
    pid = os.fork()
    if pid == 0:
        try:
            arm(count)
            act()
        except BaseException:  # noqa: BLE001  # nothing may come back into pytest
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {0, KILLED}
    return code == KILLED


def arm(count: int) -> None:
    left = [count]

    def guard(real: Any, name: str) -> Any:
        def call(*args: Any, **keywords: Any) -> Any:
            changes = name != "open" or args[1] & (os.O_CREAT | os.O_TRUNC)
            if changes:
                if not left[0]:
                    os._exit(KILLED)
                left[0] -= 1
            return real(*args, **keywords)

        return call

    for name in MUTATING:
        setattr(os, name, guard(getattr(os, name), name))


class Scene:
    """A store with a bystander, before the act."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.node = FakeNode()
        self.conf = conf_of(folder, "10.244.1.0/29", "2001:db8::/64", sticky="pod")

    def reserve(self, name: str) -> Any:
        owner = owner_of(name, pod=f"ns/{name}")
        return texts(self.node.store().reserve(self.conf, NETWORK, owner, ()))

    def release(self, name: str) -> Any:
        return self.node.store().release(self.conf, NETWORK, owner_of(name))


def first_add(scene: Scene) -> Any:
    return lambda: scene.reserve("c1")


def add(scene: Scene) -> Any:
    scene.reserve("bystander")
    return lambda: scene.reserve("c1")


def add_of_a_full_set(scene: Scene) -> Any:
    for n in range(5):
        scene.reserve(f"c{n}" if n else "bystander")
    scene.release("c1")
    return lambda: scene.reserve("c1")


def delete(scene: Scene) -> Any:
    scene.reserve("bystander")
    scene.reserve("c1")
    return lambda: scene.release("c1")


def add_after_reboot(scene: Scene) -> Any:
    scene.reserve("c1")
    scene.reserve("other")
    scene.node.boot = "boot-2"
    return lambda: scene.reserve("c1")


def adoption(scene: Scene) -> Any:
    path = scene.folder / NETWORK
    path.mkdir()
    for name in ("10.244.1.2", "2001:db8::2"):
        (path / name).write_bytes(b"bystander\r\neth0")
    return lambda: scene.reserve("c1")


def collection(scene: Scene) -> Any:
    scene.reserve("bystander")
    scene.reserve("c1")
    (scene.folder / NETWORK / "10.244.1.2").write_bytes(b"")
    return lambda: scene.node.store().retain(scene.conf, NETWORK, {("bystander", "eth0")})


ACTS = [first_add, add, add_of_a_full_set, delete, add_after_reboot, adoption, collection]


@pytest.mark.parametrize("act", ACTS)
def test_nothing_is_lost_at_any_point(tmp_path: Path, act: Any) -> None:
    count, died = 0, True
    while died:
        scene = Scene(tmp_path / str(count))
        scene.folder.mkdir()
        prepared = act(scene)
        bystander = set(scene.node.store().held(scene.conf, NETWORK, owner_of("bystander")))
        died = killed_before(count, prepared)
        files_parse(scene)
        scene.release("c1")
        mine = {k for k, v in reservations(scene.folder).items() if v.startswith(b"c1\r")}
        assert mine == set()
        assert set(scene.node.store().held(scene.conf, NETWORK, owner_of("bystander"))) == bystander
        again = scene.reserve("c1")
        assert len(again) == 2
        assert not {a.partition("/")[0] for a in again} & set(map(str, bystander))
        assert len(scene.release("c1")) == 2
        count += 1
    assert count > 4  # the act has that many points at least


def files_parse(scene: Scene) -> None:
    """Every reservation names an owner, torn ones of `collection` before the act excepted."""
    path = scene.folder / NETWORK
    if path.exists():
        for name in ("last_reserved_ip.0", "last_reserved_ip.1", ".boot_id"):
            assert not (path / name).exists() or (path / name).read_bytes().strip()
