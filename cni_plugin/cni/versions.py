"""Which SPEC versions are spoken, and which commands each of them has."""

from __future__ import annotations

from collections.abc import Mapping

from cni_plugin.cni.errors import SUPPORTED_VERSIONS, IncompatibleVersion, InvalidNetworkConfig
from cni_plugin.cni.names import shown

LATEST = SUPPORTED_VERSIONS[-1]
UNVERSIONED = "0.1.0"  # libcni's reading of a config without cniVersion
# The first version that has the command; what is not listed is as old as the SPEC.
INTRODUCED: Mapping[str, str] = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
_SPOKEN = f"versions supported: {', '.join(SUPPORTED_VERSIONS)}"


def at_least(version: str, other: str) -> bool:
    """True if version is other or newer. Both must be supported versions."""
    return SUPPORTED_VERSIONS.index(version) >= SUPPORTED_VERSIONS.index(other)


def config_version(document: Mapping[str, object]) -> str:
    """The config's cniVersion, 0.1.0 when it has none.

    Raises InvalidNetworkConfig when it is no string, IncompatibleVersion when podwire does not
    speak it.
    """
    version = document.get("cniVersion", "")
    if not isinstance(version, str):
        raise InvalidNetworkConfig(
            f"cniVersion is {shown(version)}, accepted: a version as a string", _SPOKEN
        )
    if version in SUPPORTED_VERSIONS:
        return version
    if not version:
        return UNVERSIONED
    raise IncompatibleVersion(f"cniVersion {shown(version)} is not supported", _SPOKEN)


def check_command(command: str, version: str) -> None:
    """Raise IncompatibleVersion when the config's version is older than the command.

    Source: SPEC 1.1.0 section 2: CHECK came with 0.4.0, GC and STATUS with 1.1.0.
    """
    since = INTRODUCED.get(command)
    if since is None or at_least(version, since):
        return
    fitting = [known for known in SUPPORTED_VERSIONS if at_least(known, since)]
    raise IncompatibleVersion(
        f"{command} needs cniVersion {since} or newer, the config has {version}",
        f"{_SPOKEN}; with {command}: {', '.join(fitting)}",
    )


def reply_version(document: Mapping[str, object] | None) -> str:
    """The cniVersion that an error carries: the config's when it is supported, else the newest."""
    version = (document or {}).get("cniVersion")
    return version if isinstance(version, str) and version in SUPPORTED_VERSIONS else LATEST
