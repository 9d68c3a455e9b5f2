"""What the manifests are rendered with: the real kubectl and helm, from build/tools."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
CHART = MANIFESTS / "chart"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir())
Json = dict[str, Any]
Render = Callable[..., str]


def _tool(name: str) -> Path:
    path = ROOT / "build" / "tools" / name
    if not path.exists():
        pytest.skip(f"{path} is missing: hack/tools.py gets it where there is a Python index")
    return path


@pytest.fixture(scope="session")
def kustomize() -> Render:
    """What a folder of manifests/ is, as text."""
    kubectl = _tool("kubectl")

    def render(folder: str) -> str:
        command = [kubectl, "kustomize", MANIFESTS / folder]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return render


@pytest.fixture(scope="session")
def helm() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`helm template` of the chart with these values."""
    program = _tool("helm")

    def render(values: Json | None = None) -> subprocess.CompletedProcess[str]:
        command = [program, "template", "podwire", CHART, "--namespace", "podwire"]
        given = json.dumps(values or {})
        return subprocess.run(
            [*command, "--values", "-"], input=given, capture_output=True, text=True, check=False
        )

    return render


def objects(text: str) -> dict[str, Json]:
    """By kind; a ConfigMap's files parsed, because their layout means nothing."""
    found = {one["kind"]: one for one in yaml.safe_load_all(text) if one}
    files = found["ConfigMap"]["data"] if "ConfigMap" in found else {}
    files.update({name: yaml.safe_load(content) for name, content in files.items()})
    return found


def pod_spec(daemonset: Json) -> Json:
    """Of its pods."""
    spec: Json = daemonset["spec"]["template"]["spec"]
    return spec


def every_container(spec: Json) -> Iterable[Json]:
    """Init containers among them."""
    return [*spec.get("initContainers", ()), *spec["containers"]]
