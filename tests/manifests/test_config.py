"""The agent takes every config that the manifests give it, and the runtime what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cni_plugin.agent.config import AgentConfig, read_config
from cni_plugin.cni.errors import CNIError
from tests.manifests.conftest import MANIFESTS, OVERLAYS

PLACE = "/etc/podwire/template.json"


def _read(folder: Path, tmp_path: Path, template: str) -> AgentConfig:
    """As in the agent's container, whose ConfigMap is mounted at /etc/podwire."""
    text = (folder / "agent.yaml").read_text()
    assert PLACE in text
    (tmp_path / "template.json").write_text(template)
    config = tmp_path / "agent.yaml"
    config.write_text(text.replace(PLACE, f"{tmp_path}/template.json"))
    return read_config(str(config))


@pytest.mark.parametrize("name", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_the_agent_takes_the_config(tmp_path: Path, name: str) -> None:
    template = (MANIFESTS / "base" / "template.json").read_text()
    found = _read(MANIFESTS / name, tmp_path, template)
    assert found.cluster is not None
    assert found.cluster.source.kubernetes is not None
    wanted = {"vxlan": "vxlan", "host-gw": "host-gw"}.get(Path(name).name, "auto")
    assert found.cluster.backend == wanted


def test_a_template_that_is_wrong_would_be_refused(tmp_path: Path) -> None:
    template = (MANIFESTS / "base" / "template.json").read_text().replace('"ptp"', '"ptq"')
    with pytest.raises(CNIError, match="ptq"):
        _read(MANIFESTS / "base", tmp_path, template)


def test_the_chart_has_the_bases_template() -> None:
    values = yaml.safe_load((MANIFESTS / "chart" / "values.yaml").read_text())
    assert values["template"] == yaml.safe_load((MANIFESTS / "base/template.json").read_text())
