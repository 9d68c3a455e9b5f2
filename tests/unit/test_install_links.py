"""Links among the versions lead to what is somebody else's: they go, and it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_plugin.install.node import install
from cni_plugin.install.place import Place
from cni_plugin.install.release import read_release
from cni_plugin.uninstall.act import act
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import TREE, Thing
from tests.install.kit import small


class Linked:
    """A node on which versions/1.0 is a link to a folder that has an interpreter of its own."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(str(folder / "root"))
        self.release = read_release(str(small(folder, "2.0")))
        self.versions = folder / "root/opt/podwire/versions"
        self.versions.mkdir(parents=True)
        self.foreign = folder / "usr"
        (self.foreign / "bin").mkdir(parents=True)
        (self.foreign / "bin/python3").write_text("the system's")

    def link(self, name: str) -> Path:
        (self.versions / name).symlink_to(self.foreign)
        return self.versions / name

    @property
    def whole(self) -> bool:
        return (self.foreign / "bin/python3").read_text() == "the system's"


@pytest.fixture
def linked(tmp_path: Path) -> Linked:
    return Linked(tmp_path)


def test_an_installation_removes_the_link_alone(linked: Linked) -> None:
    link = linked.link("1.0")
    acts = [done.act for done in install(linked.place, linked.release)]
    assert acts[-1] == ("remove", "1.0"), "after the switch: `current` may lead to it"
    assert linked.whole
    assert not link.is_symlink()


def test_a_link_is_not_the_version_that_is_wanted(linked: Linked) -> None:
    """Even one that leads to the same files: whoever has them can take them away."""
    (linked.versions / linked.release.name).symlink_to(linked.release.path)
    install(linked.place, linked.release)
    assert [path.name for path in linked.versions.iterdir()] == [f"{linked.release.name}-2"]
    assert (Path(linked.release.path) / "bin/python3").exists()


def test_an_uninstallation_removes_the_link_alone(linked: Linked) -> None:
    link = linked.link("1.0")
    assert act(Scope(linked.place), [Thing(TREE, str(link), "")]).failures == ()
    assert linked.whole
    assert not link.is_symlink()
