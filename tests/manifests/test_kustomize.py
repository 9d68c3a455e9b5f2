"""What is committed is what the kustomizations say, and says what podwire's code asks for."""

from __future__ import annotations

import difflib

import pytest

import cni_plugin
from tests.manifests.conftest import (
    MANIFESTS,
    OVERLAYS,
    Render,
    every_container,
    objects,
    pod_spec,
)

CASES = {"base": "podwire.yaml", "uninstall": "uninstall.yaml"}


@pytest.mark.parametrize("folder", CASES)
def test_the_committed_file_is_what_its_kustomization_says(kustomize: Render, folder: str) -> None:
    head, committed = (MANIFESTS / CASES[folder]).read_text().split("\n", 1)
    assert head.startswith(f"# Made of manifests/{folder} ")
    made = kustomize(folder)
    lines = list(difflib.unified_diff(committed.splitlines(), made.splitlines(), lineterm="", n=0))
    assert lines == [], "run `make manifests`"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_changes_the_config_alone(kustomize: Render, overlay: str) -> None:
    base, over = objects(kustomize("base")), objects(kustomize(f"overlays/{overlay}"))
    assert base.pop("ConfigMap")["data"]["agent.yaml"] != over["ConfigMap"]["data"]["agent.yaml"]
    over.pop("ConfigMap")
    assert over == base


@pytest.mark.parametrize("name", CASES.values())
def test_the_image_is_this_version(name: str) -> None:
    daemonset = objects((MANIFESTS / name).read_text())["DaemonSet"]
    images = {one["image"] for one in every_container(pod_spec(daemonset))}
    assert f"podwire:{cni_plugin.__version__}" in images
    assert not any(image.endswith(":latest") or ":" not in image for image in images)
