"""Folders that the installer makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cni_plugin.cni.errors import IoFailure
from cni_plugin.install.files import make_folder
from cni_plugin.install.lock import locked
from cni_plugin.install.place import Place
from cni_plugin.install.refusal import translated


def test_a_link_to_a_folder_is_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    make_folder(f"{tmp_path}/link/more")
    assert (tmp_path / "there/more").is_dir()


@pytest.mark.timeout(20)
def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    """As one of a node's that leads elsewhere than below its root. It was tried for ever."""
    (tmp_path / "opt").mkdir()
    (tmp_path / "opt/podwire").symlink_to("/no/such/folder")
    place = Place(str(tmp_path))
    with (
        pytest.raises(IoFailure, match="opt/podwire: a link that leads to no folder"),
        translated(place),
        locked(place),
    ):
        pytest.fail("there is nothing to be locked")
