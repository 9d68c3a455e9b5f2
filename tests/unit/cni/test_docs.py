"""The documents name what the code has: every key with its default, every code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cni_plugin.cni import errors
from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_model import PluginModel
from cni_plugin.cni.errors import CNIError, InvalidNetworkConfig
from ipam import errors as ipam_errors
from ipam.conf import IpamModel, RangeModel

DOCS = Path(__file__).parents[3] / "docs"
CONFIGURATION = (DOCS / "configuration.md").read_text()
ERRORS = (DOCS / "errors.md").read_text()
ROWS = {
    match[1]: [cell.strip() for cell in match[0].split("|")]
    for match in re.finditer(r"^\| `(\w+)` \|.*$", CONFIGURATION, re.MULTILINE)
}
RUNTIME_ONLY = {"runtimeConfig", "args", "prevResult"}  # described in a section of their own


def test_every_key_of_the_plugin_object_has_a_row() -> None:
    assert set(PluginModel.model_fields) - RUNTIME_ONLY - set(ROWS) == set()


def test_every_key_of_ipam_is_described() -> None:
    keys = set(IpamModel.model_fields) | set(RangeModel.model_fields)
    assert [key for key in keys if f"`{key}`" not in CONFIGURATION] == []


@pytest.mark.parametrize(
    "key",
    [
        name
        for name, field in PluginModel.model_fields.items()
        if isinstance(field.default, (bool, int, str)) and name != "macspoofchk"
    ],
)
def test_defaults_are_those_of_the_model(key: str) -> None:
    default = PluginModel.model_fields[key].default
    told = ROWS[key][3].strip("`")
    assert told == (str(default).lower() if isinstance(default, bool) else str(default))


def test_every_code_has_a_row() -> None:
    classes = [*vars(errors).values(), *vars(ipam_errors).values()]
    codes = {cls.code for cls in classes if isinstance(cls, type) and hasattr(cls, "code")}
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", ERRORS, re.MULTILINE)}
    assert codes == told


def test_again_is_what_the_classes_say() -> None:
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, CNIError):
            row = re.search(rf"^\| {cls.code} \|[^|]*\| (\w+) \|", ERRORS, re.MULTILINE)
            assert row is not None
            assert (row[1] == "yes") is cls.temporary


def test_the_example_is_what_is_printed() -> None:
    example = json.loads(ERRORS.split("```json")[1].split("```")[0])
    with pytest.raises(InvalidNetworkConfig) as caught:
        parse_conf({"cniVersion": "1.1.0", "name": "a", "type": "podwire", "mtu": "1500"})
    assert (example["msg"], example["details"]) == (caught.value.msg, caught.value.details)
