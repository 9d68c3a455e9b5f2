"""What an uninstallation needs of the agent's config, whatever else is wrong with it.

It needs to know where things are, and no more: neither the template nor a backend. What podwire has
put on the node bears its marks, so a config that is wrong keeps nobody from taking it away; what of
it cannot be used is taken to be the default.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, NamedTuple

from cni_plugin.agent.config import AgentConfig, config_of
from cni_plugin.agent.config_file import read_document
from cni_plugin.cluster.kube_choice import SERVICE_ACCOUNT
from cni_plugin.cni.errors import CNIError

# Each is used or not for itself.
PLACES = (
    ("dataDirs",),
    ("cluster", "source"),
    ("cluster", "node"),
    ("cluster", "conflist", "path"),
)


class Rest(NamedTuple):
    """config: of which dataDirs, node, source and the config list's path count. fault: what is
    wrong with what was read, "" when nothing is."""

    config: AgentConfig
    fault: str = ""


def read_rest(path: str) -> Rest:
    """Raises nothing."""
    try:
        return Rest(config_of(read_document(path), path))
    except CNIError as error:
        fault = str(error)
    except OSError as error:
        fault = f"{error.filename or path}: {error.strerror}"
    return Rest(_usable(path), fault)


def _usable(path: str) -> AgentConfig:
    try:
        document = read_document(path)
    except (CNIError, OSError):
        document = {}
    used: dict[str, Any] = {"cluster": {"source": _assumed_source()}}
    config = config_of(used, path)
    for keys in PLACES:
        tried = _with(used, keys, _at(document, keys))
        with suppress(CNIError):
            config, used = config_of(tried, path), tried
    return config


def _assumed_source() -> dict[str, Any]:
    """The Kubernetes API in a pod that has an account there, elsewhere none."""
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and os.path.exists(f"{SERVICE_ACCOUNT}/token")
    return {"kubernetes": {}} if in_pod else {"file": os.devnull}


def _at(document: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _with(document: dict[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    if value is None:
        return document
    head, *rest = keys
    return {
        **document,
        head: _with(document.get(head, {}), tuple(rest), value) if rest else value,
    }
