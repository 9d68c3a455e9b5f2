"""The documents name every setting and every manifest that there is, and lead nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cni_plugin.agent.config import AgentConfig
from cni_plugin.cluster.conf import ClusterConf
from tests.manifests.conftest import CHART, OVERLAYS, ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "manifests" / "README.md", *DOCS]
SETTINGS = (ROOT / "docs" / "settings.md").read_text()


def _keys(model: type[AgentConfig | ClusterConf]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_every_key_of_the_agent_is_listed() -> None:
    wanted = _keys(AgentConfig) - {"stop_limit_s"} | {f"cluster.{k}" for k in _keys(ClusterConf)}
    assert [key for key in wanted if f"`{key}`" not in SETTINGS] == []


def test_every_value_of_the_chart_is_listed() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    nested = ("image", "metrics", "paths", "resources")
    names = {
        *(key for key in values if key not in nested),
        *(f"{key}.{inner}" for key in nested for inner in values[key]),
    }
    assert [name for name in names if f"`{name}`" not in SETTINGS] == []


def test_every_overlay_is_explained() -> None:
    text = (ROOT / "docs" / "install.md").read_text()
    assert [name for name in OVERLAYS if f"manifests/overlays/{name}`" not in text] == []


def _anchors(page: Path) -> set[str]:
    """Of a page's headings, as they are made of their words."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_leads_nowhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            wrong.append(link)
    assert wrong == []
