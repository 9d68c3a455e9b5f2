"""Kubernetes takes the manifests: its own schemas, without a key that it does not know."""

from __future__ import annotations

import kubernetes_validate
import pytest
import yaml

from tests.manifests.conftest import MANIFESTS, OVERLAYS, Render

# The oldest that the chart takes, the newest there is a schema of, and what is common between.
VERSIONS = ("1.25", "1.29", "1.32", "1.34", "1.37")
COMMITTED = ("podwire.yaml", "uninstall.yaml")


def _validate(text: str, version: str) -> None:
    for document in yaml.safe_load_all(text):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", COMMITTED)
def test_what_is_applied_fits_the_schemas(name: str, version: str) -> None:
    _validate((MANIFESTS / name).read_text(), version)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_fits_the_schemas(kustomize: Render, overlay: str) -> None:
    _validate(kustomize(f"overlays/{overlay}"), VERSIONS[-1])


def test_a_key_of_nobody_would_be_found() -> None:
    text = (MANIFESTS / "podwire.yaml").read_text().replace("hostNetwork:", "hostNetworks:")
    with pytest.raises(kubernetes_validate.ValidationError, match="hostNetworks"):
        _validate(text, VERSIONS[-1])
