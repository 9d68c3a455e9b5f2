"""What `podwire install` decides from what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_plugin.cni.errors import CNIError
from cni_plugin.install.place import place_of
from cni_plugin.install.plan import Act, Installed, acts, folder_for
from cni_plugin.install.release import read_release

BOTH = ("podwire", "podwire-ipam")


def test_an_empty_node_gets_tree_link_and_launchers_in_this_order() -> None:
    assert acts("2-b", Installed({})) == (
        Act("copy", "2-b"),
        Act("switch", "2-b"),
        Act("launcher", "podwire"),
        Act("launcher", "podwire-ipam"),
    )


def test_a_node_that_has_it_needs_nothing() -> None:
    assert acts("2-b", Installed({"2-b": True}, current="2-b", launchers=BOTH)) == ()


def test_the_version_before_goes_last() -> None:
    found = Installed({"1-a": True}, current="1-a", launchers=("podwire-ipam",))
    assert acts("2-b", found) == (
        Act("copy", "2-b"),
        Act("switch", "2-b"),
        Act("launcher", "podwire"),
        Act("remove", "1-a"),
    )


def test_a_version_that_is_there_is_only_switched_to() -> None:
    found = Installed({"1-a": True, "2-b": True}, current="2-b", launchers=BOTH)
    assert acts("1-a", found) == (Act("switch", "1-a"), Act("remove", "2-b"))


def test_rests_of_a_killed_installer_are_tidied_first() -> None:
    found = Installed({"2-b": True}, (".2-b",), "2-b", BOTH, ("/opt/cni/bin/.podwire.podwire-new",))
    assert acts("2-b", found) == (
        Act("tidy", "versions/.2-b"),
        Act("tidy", "/opt/cni/bin/.podwire.podwire-new"),
    )


def test_a_damaged_version_is_replaced_by_another_folder() -> None:
    found = Installed({"2-b": False, "2-b-2": False}, current="2-b", launchers=BOTH)
    assert folder_for("2-b", found) == "2-b-3"
    assert acts("2-b", found)[-2:] == (Act("remove", "2-b"), Act("remove", "2-b-2"))


@pytest.mark.parametrize(
    "manifest", [f"{'0' * 64}  ../../etc/passwd\n", f"{'0' * 64}  /etc/passwd\n", "nothing\n"]
)
def test_a_manifest_names_files_of_its_tree_alone(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "RELEASE").write_text('{"version": "1.0", "arch": "x86_64"}')
    (tmp_path / "MANIFEST").write_text(manifest)
    with pytest.raises(CNIError, match="names no file"):
        read_release(str(tmp_path))


@pytest.mark.parametrize("version", ["", "../1", "1/2", " 1", "a\n"])
def test_a_version_is_a_name(tmp_path: Path, version: str) -> None:
    (tmp_path / "RELEASE").write_text(f'{{"version": {version!r}, "arch": "x"}}'.replace("'", '"'))
    (tmp_path / "MANIFEST").write_text("")
    with pytest.raises(CNIError):
        read_release(str(tmp_path))


def test_what_is_no_tree_says_where_to_find_one(tmp_path: Path) -> None:
    with pytest.raises(CNIError, match="make tree"):
        read_release(str(tmp_path))


def test_places_are_absolute() -> None:
    assert place_of("/", "/opt/cni/bin/").launcher("podwire") == "/opt/cni/bin/podwire"
    assert place_of("/host", "/x").launcher("podwire") == "/host/x/podwire"
    with pytest.raises(ValueError, match="no absolute path"):
        place_of("host", "/x")
