"""docs/cluster.md names every key and every reason that the code has, and no other."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from pydantic import BaseModel

from cni_plugin.cluster import admission, peers, reconciler
from cni_plugin.cluster.conf import ClusterConf

TEXT = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()


def _section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def _first_column(text: str) -> set[str]:
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def _keys(model: type[BaseModel], prefix: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _keys(inner, f"{key}.")
        else:
            found.add(key)
    return found


def test_every_key_of_the_config_and_no_other() -> None:
    assert _first_column(_section("The config")) == _keys(ClusterConf)


def test_every_key_of_the_peers_file_and_no_other() -> None:
    keys = _keys(peers._File) - {"nodes"} | _keys(peers._Entry, "nodes[].")
    assert _first_column(_section("The peers file").split("**What is not used.**")[0]) == keys


def test_every_reason_and_no_other() -> None:
    source = inspect.getsource(admission) + inspect.getsource(reconciler)
    words = set(re.findall(r'"([a-z]+-[a-z-]+)"', source)) | {"unreachable"}
    assert _first_column(_section("The peers file").split("**What is not used.**")[1]) == words
