"""docs/kubernetes.md: the role is enough and not too much, keys and placeholders are the code's."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import yaml

from cni_plugin.agent.config import read_config
from cni_plugin.cluster.conflist import CAPABILITIES, SAMPLE, placeholders, read_template
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.kube_conf import KubernetesConfig
from cni_plugin.cluster.kube_node import BACKEND, PUBLIC_ADDRESS, VTEP_MACS
from cni_plugin.cluster.values import Node
from tests.support.kube_api import KubeApi, node_object
from tests.unit.cluster.kit import following, until

TEXT = (Path(__file__).parents[3] / "docs" / "kubernetes.md").read_text()


def block(kind: str, having: str) -> str:
    """The only one of its kind that has a word."""
    (found,) = [
        text
        for text in (part.split("```")[0] for part in TEXT.split(f"```{kind}\n")[1:])
        if having in text
    ]
    return found


def rows(heading: str) -> list[list[str]]:
    """The first column of a table, and the second, by its heading."""
    table = TEXT.split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([^`]+)`", line.split(" | ", 2)[n]) for line in table for n in (0, 1)]


def test_the_role_is_what_is_asked_of_the_api(tmp_path):
    async def main() -> set[tuple[str, str]]:
        async with KubeApi() as api:
            api.put(node_object("a"))
            async with following(api, tmp_path) as heard:
                await heard.source.announce(Node("a", backend="vxlan"))
                await until(lambda: api.annotations("a"), "it is announced")
                await until(lambda: api.watches, "it watches")
            return {
                (one.verb, "nodes/status" if one.path.endswith("/status") else "nodes")
                for one in api.asked
            }

    rules = yaml.safe_load(block("yaml", "ClusterRole"))["rules"]
    role = {(verb, name) for rule in rules for name in rule["resources"] for verb in rule["verbs"]}
    assert asyncio.run(main()) == role
    cells = rows("verb")
    listed = {(*verbs, *names) for verbs, names in zip(cells[::2], cells[1::2], strict=True)}
    assert listed == role


def test_every_key_and_no_other():
    for section, model in (("source.kubernetes", KubernetesConfig), ("conflist", ConflistConfig)):
        keys = {field.alias or name for name, field in model.model_fields.items()}
        assert {cell[0] for cell in rows(f"key of `{section}:`")[::2]} == keys


def test_every_annotation():
    for name in (BACKEND, PUBLIC_ADDRESS, *VTEP_MACS.values()):
        assert f"`{name}`" in TEXT


def test_every_placeholder_and_a_template_that_works():
    listed = [json.loads(cell[0]) for cell in rows("placeholder")[::2]]
    assert listed == list(placeholders(SAMPLE))
    (row,) = [line for line in TEXT.splitlines() if line.startswith('| `"${capabilities}"`')]
    served = re.findall(r"`(\w+)`", row.rpartition("podwire serves itself")[2])
    assert served == [*CAPABILITIES, "true"]
    read_template(block("json", "plugins").encode(), "the sample")


def test_the_config_that_writes_the_list(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(block("yaml", "conflist:"))
    found = read_config(str(path)).cluster
    assert found is not None
    assert found.conflist == ConflistConfig()
