"""Keys of the agent's config for the config list that it writes for the runtime.

conflist: {path: /etc/cni/net.d/10-podwire.conflist, template: /etc/podwire/t.json, onStop: keep}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from cni_plugin.cluster.conflist import DEFAULT_PATH, DEFAULT_TEMPLATE, SUFFIXES, read_template
from cni_plugin.cluster.conflist_file import load_template
from cni_plugin.cluster.kube_conf import absolute
from cni_plugin.cni.errors import InvalidNetworkConfig

TEMPLATE = "the absolute path of a JSON file, or a config list as an object"
PATH = f"an absolute path that ends in NAME{SUFFIXES[1]}"


def _template(value: object) -> object:
    if isinstance(value, str) and value.startswith("/"):
        return absolute(value)
    if value is None or isinstance(value, Mapping):
        return value
    raise ValueError(TEMPLATE)


class ConflistConfig(BaseModel):
    """The config list that the agent writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default=DEFAULT_PATH, description=PATH)
    # A file of its own, or the list itself; absent: bridge mode with the node's ranges.
    template: Annotated[Any, BeforeValidator(_template)] = Field(default=None, description=TEMPLATE)
    # remove: no new pods while the agent is away. keep: they come, by calls without it.
    on_stop: Literal["keep", "remove"] = Field(
        default="keep", alias="onStop", description="keep or remove"
    )

    @field_validator("path")
    @classmethod
    def _own_path(cls, path: str) -> str:
        if not path.endswith(SUFFIXES[1]) or path.endswith(f"/{SUFFIXES[1]}"):
            raise ValueError(PATH)
        return absolute(path)

    def read_template(self) -> Mapping[str, Any]:
        """The template as it is now, tried. Raises OSError, DecodeFailure, InvalidNetworkConfig and
        UnsupportedField."""
        if self.template is None:
            return DEFAULT_TEMPLATE
        if isinstance(self.template, str):
            return load_template(self.template)
        try:
            data = json.dumps(self.template).encode()
        except (TypeError, ValueError, RecursionError) as error:  # YAML knows dates and more
            raise InvalidNetworkConfig(f"the template is no JSON: {error}") from error
        return read_template(data, "the template")
