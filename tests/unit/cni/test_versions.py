"""Versions spoken, and which commands they have."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugin.cni.errors import SUPPORTED_VERSIONS, IncompatibleVersion, InvalidNetworkConfig
from cni_plugin.cni.versions import check_command, config_version, reply_version

SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0", "ADD": "0.1.0", "DEL": "0.1.0"}


@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_supported(version: str) -> None:
    assert config_version({"cniVersion": version}) == version
    assert reply_version({"cniVersion": version}) == version


def test_no_version_is_the_oldest() -> None:
    assert config_version({}) == config_version({"cniVersion": ""}) == "0.1.0"


@pytest.mark.parametrize("version", ["1.0", "2.0.0", "0.4", "1.1.0 ", "v1.1.0", "latest"])
def test_unsupported_versions_list_the_supported(version: str) -> None:
    with pytest.raises(IncompatibleVersion) as caught:
        config_version({"cniVersion": version})
    assert f'"{version}"' in caught.value.msg
    assert all(known in caught.value.details for known in SUPPORTED_VERSIONS)
    assert caught.value.code == 1


@pytest.mark.parametrize("version", [1, 1.1, None, True, [], {}])
def test_a_version_is_text(version: str) -> None:
    with pytest.raises(InvalidNetworkConfig, match="cniVersion"):
        config_version({"cniVersion": version})


@pytest.mark.parametrize("command", SINCE)
@pytest.mark.parametrize("version", SUPPORTED_VERSIONS)
def test_commands_by_version(command: str, version: str) -> None:
    old = SUPPORTED_VERSIONS.index(version) < SUPPORTED_VERSIONS.index(SINCE[command])
    if not old:
        check_command(command, version)
        return
    with pytest.raises(IncompatibleVersion) as caught:
        check_command(command, version)
    assert caught.value.msg == (
        f"{command} needs cniVersion {SINCE[command]} or newer, the config has {version}"
    )
    assert "0.1.0, 0.2.0, 0.3.0" in caught.value.details


@pytest.mark.parametrize("document", [None, {}, {"cniVersion": 3}, {"cniVersion": "9.9.9"}])
def test_a_reply_without_a_usable_version_has_the_newest(document: Any) -> None:
    assert reply_version(document) == "1.1.0"
