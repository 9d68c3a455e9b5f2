"""Keys of the agent's config for a Kubernetes cluster: the API's access, and the config list.

kubernetes: {server: https://192.0.2.1:6443, kubeconfig: /etc/podwire/kubeconfig}
conflist: {path: /etc/cni/net.d/10-podwire.conflist, template: /etc/podwire/t.json, onStop: keep}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cni_plugin.cluster.conflist import DEFAULT_TEMPLATE, SUFFIXES, read_template
from cni_plugin.cluster.kube_choice import SERVICE_ACCOUNT, Choice

PATH_MAX = 4095  # bytes, PATH_MAX - 1 of linux/limits.h


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path or len(path.encode()) > PATH_MAX:
        raise ValueError("an absolute path")
    return path


class KubernetesConfig(_Model):
    """Where the API is. Nothing is needed in a pod that has a service account."""

    # In place of the service's address, which leads nowhere before kube-proxy works.
    server: Annotated[str, Field(pattern=r"^https?://[^/\s@?#]+/?$")] | None = None
    server_name: str = Field(default="", alias="serverName")  # what its certificate is for
    kubeconfig: str | None = None  # absent: the pod's service account
    service_account: str = Field(default=SERVICE_ACCOUNT, alias="serviceAccount")  # its folder
    # What was last known, for a start while the API is away.
    state_file: str = Field(default="/var/lib/podwire/nodes.json", alias="stateFile")

    @field_validator("kubeconfig", "service_account", "state_file")
    @classmethod
    def _path(cls, path: str | None) -> str | None:
        return None if path is None else _absolute(path)

    def choice(self) -> Choice:
        """The same for who connects."""
        return Choice(
            self.kubeconfig or "", self.server or "", self.server_name, self.service_account
        )


class ConflistConfig(_Model):
    """The config list that the agent writes."""

    path: str = "/etc/cni/net.d/10-podwire.conflist"
    template: str | None = None  # absent: bridge mode with the node's ranges
    # remove: no new pods while the agent is away. keep: they come, by calls without it.
    on_stop: Literal["keep", "remove"] = Field(default="keep", alias="onStop")

    @field_validator("path")
    @classmethod
    def _own_path(cls, path: str) -> str:
        if not path.endswith(SUFFIXES[1]):
            raise ValueError(f"a path that ends in {SUFFIXES[1]}")
        return _absolute(path)

    @field_validator("template")
    @classmethod
    def _template_path(cls, path: str | None) -> str | None:
        return None if path is None else _absolute(path)

    def read_template(self) -> Mapping[str, Any]:
        """The template, tried. Raises OSError, DecodeFailure, InvalidNetworkConfig and
        UnsupportedField."""
        if self.template is None:
            return DEFAULT_TEMPLATE
        with open(self.template, "rb") as file:
            return read_template(file.read(), self.template)
