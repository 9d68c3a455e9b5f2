"""What a manifest for a cluster says, read out of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
MANIFEST = MANIFESTS / "podwire.yaml"
Json = dict[str, Any]


def daemonset(manifest: Path = MANIFEST) -> Json:
    """The one in a manifest."""
    documents = yaml.safe_load_all(manifest.read_text())
    return next(one for one in documents if one["kind"] == "DaemonSet")


def container_of(spec: Json, name: str = "agent") -> Json:
    """One of its containers, or init containers."""
    pod = spec["spec"]["template"]["spec"]
    found = (*pod.get("initContainers", ()), *pod["containers"])
    return next(one for one in found if one["name"] == name)


def capabilities(spec: Json, name: str = "agent") -> list[str]:
    """Those that a container is given, without CAP_."""
    given: list[str] = container_of(spec, name)["securityContext"]["capabilities"].get("add", [])
    return given


def config_map(manifest: Path = MANIFEST) -> dict[str, str]:
    """The files of its ConfigMap."""
    documents = yaml.safe_load_all(manifest.read_text())
    found: dict[str, str] = next(one for one in documents if one["kind"] == "ConfigMap")["data"]
    return found
