"""A pod that is started while podwire is taken off the node keeps what it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_plugin.install.place import Place
from cni_plugin.uninstall import run
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import CONFLIST, LAUNCHER, Found, Hurdles, Thing

ATTACHED = ("net pod eth0",)


class Node:
    """A config list and a launcher. pods: those that are seen once the list is gone."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scope = Scope(Place(str(root)))
        self.conflist, self.launcher = root / "10-podwire.conflist", root / "opt/cni/bin/podwire"
        self.launcher.parent.mkdir(parents=True)
        self.conflist.write_text("{}")
        self.conflist.chmod(0o640)
        self.launcher.write_text("")
        self.pods: tuple[str, ...] = ()
        self.others: tuple[str, ...] = ()
        self.seen: tuple[str, ...] = ()
        monkeypatch.setattr(run, "look", lambda _scope: self._look())
        monkeypatch.setattr(run, "look_for_hurdles", lambda _scope: self._hurdles())
        monkeypatch.setattr(run, "SETTLE_S", 0.0)

    def _look(self) -> Found:
        kinds = ((CONFLIST, self.conflist), (LAUNCHER, self.launcher))
        things = tuple(Thing(kind, str(path), "") for kind, path in kinds if path.exists())
        return Found(things, self.seen, others=self.others)

    def _hurdles(self) -> Hurdles:
        if not self.conflist.exists():
            self.seen = self.pods
        return Hurdles(self.seen)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def test_all_goes_where_no_pod_was_started(node: Node) -> None:
    ended = run.uninstall(node.scope)
    assert (ended.waits, ended.failures) == ("", ())
    assert not node.conflist.exists()
    assert not node.launcher.exists()


def test_a_pod_that_was_started_meanwhile_keeps_launcher_and_config_list(node: Node) -> None:
    node.pods = ATTACHED
    ended = run.uninstall(node.scope)
    assert ended.found.attachments == ATTACHED
    assert "1 attachment is left" in ended.waits
    assert ended.removed == ()
    assert node.launcher.exists()
    assert node.conflist.read_text() == "{}"
    assert node.conflist.stat().st_mode & 0o777 == 0o640


def test_beside_another_plugins_the_config_list_stays_gone(node: Node) -> None:
    node.pods, node.others = ATTACHED, ("/etc/cni/net.d/20-other.conflist",)
    assert run.uninstall(node.scope).waits
    assert node.launcher.exists()
    assert not node.conflist.exists()


def test_forced_it_asks_for_no_pod(node: Node) -> None:
    node.pods = ATTACHED
    run.uninstall(node.scope, force=True)
    assert not node.launcher.exists()
