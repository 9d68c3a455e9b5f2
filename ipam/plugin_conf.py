"""podwire-ipam's config, validated: imported only when the cache does not have it (pydantic)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cni_plugin.cni.conf_ipam import OWN_TYPE, OWN_TYPES, lenient_ipam, review_ipam
from cni_plugin.cni.problems import Problem, forgive, raise_problems
from cni_plugin.cni.values import NetConf
from cni_plugin.cni.versions import at_least, config_version
from ipam.lean_typing import NamedTuple
from ipam.values import IpamConf


class Reviewed(NamedTuple):
    """complete: nothing was forgiven, so the same document need not be looked at again."""

    conf: NetConf
    warnings: tuple[str, ...]
    complete: bool


def review(
    document: dict[str, object],
    asked: Sequence[Problem],
    warn: Callable[[str], None],
    *,
    lenient: bool,
) -> Reviewed:
    """The config without its runtime part. asked: the problems of that part.

    Raises InvalidNetworkConfig with all problems, or warns of them when lenient."""
    named = _with_own_type(document)
    found = review_ipam(named)
    version = config_version(document)
    problems = [*found.problems, *asked]
    ipam = found.conf
    if ipam is None and not problems:
        problems.append(Problem("ipam", None, "an object with subnet or ranges", missing=True))
    if ipam is not None:
        problems += _version_problems(ipam, version)
    if lenient:
        forgive(problems, warn)
        ipam = ipam or lenient_ipam(named) or IpamConf(OWN_TYPE)
    else:
        raise_problems(problems)
    name, kind = str(document.get("name", "")), str(document.get("type", ""))
    return Reviewed(NetConf(version, name, kind, ipam=ipam), found.warnings, not problems)


def _with_own_type(document: dict[str, object]) -> dict[str, object]:
    """Installed under another name, that name is the type; it is still ours to serve."""
    section = document.get("ipam")
    if not isinstance(section, dict) or section.get("type") in OWN_TYPES:
        return document
    return {**document, "ipam": {**section, "type": OWN_TYPE}}


def _version_problems(ipam: IpamConf, version: str) -> list[Problem]:
    families = [ranges[0].subnet.version for ranges in ipam.range_sets]
    if at_least(version, "0.3.0") or len(families) == len(set(families)):
        return []
    accepted = f"one range set of each family: a result in {version} holds one address of each"
    return [Problem("ipam.ranges", f"{len(families)} range sets", accepted)]
