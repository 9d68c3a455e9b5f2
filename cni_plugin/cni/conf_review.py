"""Every problem of a whole config list, or of one plugin object, for `podwire validate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cni_plugin.cni.conf import OWN_TYPE, review_base
from cni_plugin.cni.conf_runtime import review_runtime
from cni_plugin.cni.errors import SUPPORTED_VERSIONS, CNIError
from cni_plugin.cni.names import ID_ACCEPTED, TYPE_ACCEPTED, id_fault, type_fault
from cni_plugin.cni.problems import Problem, unknown_key
from cni_plugin.cni.versions import config_version

# SPEC 1.1.0 section 1, "Network configuration lists".
LIST_KEYS = (
    "cniVersion",
    "cniVersions",
    "name",
    "disableCheck",
    "disableGC",
    "loadOnlyInlinedPlugins",
    "plugins",
)
_SWITCHES = ("disableCheck", "disableGC", "loadOnlyInlinedPlugins")
_TRUTHS = ("true", "false")  # libcni also reads these switches from text


class Review(NamedTuple):
    """problems make a config unusable, warnings do not."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def review(document: Mapping[str, object]) -> Review:
    """A config list (it has `plugins`) or a single plugin object."""
    return review_list(document) if "plugins" in document else review_plugin(document)


def problems(document: Mapping[str, object]) -> list[Problem]:
    """Everything wrong with a config list or a plugin object. Empty when it is fine."""
    return list(review(document).problems)


def review_plugin(document: Mapping[str, object]) -> Review:
    """podwire's plugin object, complete with name and cniVersion."""
    base = review_base(document)
    runtime = review_runtime(document)
    return Review(
        (*base.problems, *runtime.problems),
        (*base.warnings, *runtime.warnings),
    )


def review_list(document: Mapping[str, object]) -> Review:
    """A config list. Plugins of another type are checked for their `type` only."""
    found: list[Problem] = []
    warnings = [unknown_key("", key, LIST_KEYS) for key in document if key not in LIST_KEYS]
    version = _version(document, found)
    _check_head(document, found)
    plugins = document.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        found.append(Problem("plugins", plugins, "an array of at least one plugin object"))
        return Review(tuple(found), tuple(warnings))
    inherited = {"name": document.get("name"), "cniVersion": version}
    if not isinstance(inherited["name"], str) or id_fault(inherited["name"]):
        inherited["name"] = "unnamed"  # reported above, once
    ours = 0
    for index, plugin in enumerate(plugins):
        path = f"plugins[{index}]"
        if fault := _plugin_fault(plugin, path):
            found.append(fault)
        elif plugin["type"] == OWN_TYPE:
            ours += 1
            inner = review_plugin({**plugin, **inherited})
            found += [entry._replace(path=f"{path}.{entry.path}") for entry in inner.problems]
            warnings += [f"{path}: {line}" for line in inner.warnings]
    if not ours:
        warnings.append(f'no plugin of the list has type "{OWN_TYPE}"')
    return Review(tuple(found), tuple(warnings))


def _version(document: Mapping[str, object], found: list[Problem]) -> str:
    """The version that a runtime will use: the highest that is spoken, of both keys."""
    try:
        version = config_version(document)
    except CNIError as error:
        accepted = f"one of {', '.join(SUPPORTED_VERSIONS)}"
        found.append(Problem("cniVersion", document.get("cniVersion"), accepted, error.code))
        version = SUPPORTED_VERSIONS[-1]
    several = document.get("cniVersions")
    if several is None:
        return version
    if not isinstance(several, list) or not all(isinstance(entry, str) for entry in several):
        found.append(Problem("cniVersions", several, "an array of versions as strings"))
        return version
    spoken = [known for known in SUPPORTED_VERSIONS if known in several]
    if several and not spoken:
        accepted = f"at least one of {', '.join(SUPPORTED_VERSIONS)}"
        found.append(Problem("cniVersions", several, accepted, code=1))
    return max([version, *spoken], key=SUPPORTED_VERSIONS.index)


def _check_head(document: Mapping[str, object], found: list[Problem]) -> None:
    name = document.get("name")
    if "name" not in document:
        found.append(Problem("name", None, ID_ACCEPTED, missing=True))
    elif not isinstance(name, str) or id_fault(name):
        found.append(Problem("name", name, ID_ACCEPTED))
    for key in _SWITCHES:
        value = document.get(key)
        if value is not None and not isinstance(value, bool) and value not in _TRUTHS:
            found.append(Problem(key, value, "true or false"))


def _plugin_fault(plugin: object, path: str) -> Problem | None:
    if not isinstance(plugin, dict):
        return Problem(path, plugin, "a plugin object")
    if "type" not in plugin:
        return Problem(f"{path}.type", None, TYPE_ACCEPTED, missing=True)
    kind = plugin["type"]
    if not isinstance(kind, str) or type_fault(kind):
        return Problem(f"{path}.type", kind, TYPE_ACCEPTED)
    return None
