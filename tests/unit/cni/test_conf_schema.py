"""The JSON Schema agrees with what validates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cni_plugin.cni.conf_review import problems
from cni_plugin.cni.conf_schema import DIALECT, json_schema, list_schema

SAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "samples").glob("*.conflist"))
PLUGIN: dict[str, Any] = {"type": "podwire", "ipam": {"subnet": "192.0.2.0/24"}}
COMPLETE = {"cniVersion": "1.1.0", "name": "pods"}


def accepts(schema: dict[str, Any], document: object) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(document)


@pytest.mark.parametrize("schema", [json_schema(), list_schema()], ids=["plugin", "list"])
def test_it_is_a_schema_of_the_dialect_it_names(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(schema)


def test_every_key_is_described() -> None:
    for schema in (json_schema(), list_schema()):
        assert [key for key, entry in schema["properties"].items() if "description" not in entry
                ] == []  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_sample_fits(sample: Path) -> None:
    document = json.loads(sample.read_text())
    jsonschema.validate(document, list_schema())
    for plugin in document["plugins"]:
        assert accepts(json_schema(), plugin) is (plugin["type"] == "podwire")


@pytest.mark.parametrize(
    "change",
    [
        {"mtu": "1500"},
        {"mtu": 67},
        {"mtu": -1},
        {"vlan": 4095},
        {"bridge": "a/b"},
        {"bridge": "x" * 16},
        {"mode": "vxlan"},
        {"isGateway": 1},
        {"vlanTrunk": [{"id": 1}]},
        {"ipMasqBackend": "ipfw"},
        {"dns": []},
        {"dns": {"search": "x"}},
        {"ipam": 5},
        {"ipam": {"type": "host-local", "ranges": 5}},
        {"ipam": {"type": "host-local", "cooldown": -1, "subnet": "192.0.2.0/24"}},
        {"capabilities": {"ips": 1}},
        {"runtimeConfig": []},
        {"type": "../podwire"},
    ],
    ids=str,
)
def test_what_the_schema_refuses_the_plugin_refuses(change: dict[str, Any]) -> None:
    assert not accepts(json_schema(), PLUGIN | change)
    assert problems(COMPLETE | PLUGIN | change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"mtu": 0},
        {"vlanTrunk": None},
        {"ipam": {}},
        {"ipam": None},
        {"ipam": {"type": "dhcp", "ranges": 5}},
        {"unknown": 1},
        {"ipam": {"type": "", "subnet": "192.0.2.0/24"}},
    ],
    ids=str,
)
def test_what_the_plugin_accepts_the_schema_accepts(change: dict[str, Any]) -> None:
    assert problems(COMPLETE | PLUGIN | change) == []
    assert accepts(json_schema(), PLUGIN | change)
