"""Keys of the agent's config for the access to the Kubernetes API.

kubernetes: {server: https://192.0.2.1:6443, kubeconfig: /etc/podwire/kubeconfig}
"""

from __future__ import annotations

import os
from ipaddress import ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cni_plugin.cluster.kube_choice import SERVICE_ACCOUNT, Choice
from ipam.values import IPNetwork

PATH_MAX = 4095  # bytes, PATH_MAX - 1 of linux/limits.h
ABSOLUTE = "an absolute path"
SERVER = "https://HOST:PORT, an IPv6 address as HOST in []"


class _Model(BaseModel):
    """Each description says what is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def absolute(path: str) -> str:
    """The path itself. Raises ValueError unless it is absolute."""
    if not path.startswith("/") or "\0" in path or len(path.encode()) > PATH_MAX:
        raise ValueError(ABSOLUTE)
    return path


class KubernetesConfig(_Model):
    """Where the API is. Nothing is needed in a pod that has a service account."""

    # In place of the service's address, which leads nowhere before kube-proxy works.
    server: Annotated[str, Field(pattern=r"^https?://[^/\s@?#]+/?$")] | None = Field(
        default=None, description=SERVER
    )
    # What its certificate is for.
    server_name: str = Field(
        default="", alias="serverName", description="the name in the server's certificate"
    )
    # Absent: the pod's service account.
    kubeconfig: str | None = Field(default=None, description=ABSOLUTE)
    # Its folder.
    service_account: str = Field(
        default=SERVICE_ACCOUNT, alias="serviceAccount", description=ABSOLUTE
    )
    # What was last known, for a start while the API is away.
    state_file: str = Field(
        default="/var/lib/podwire/nodes.json", alias="stateFile", description=ABSOLUTE
    )

    @field_validator("server")
    @classmethod
    def _server(cls, server: str | None) -> str | None:
        try:
            url = urlsplit(server or "https://HOST")
            good = bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good:
            raise ValueError(SERVER)
        return server

    @field_validator("kubeconfig", "service_account", "state_file")
    @classmethod
    def _path(cls, path: str | None) -> str | None:
        return None if path is None else absolute(path)

    def choice(self) -> Choice:
        """The same for who connects."""
        return Choice(
            self.kubeconfig or "", self.server or "", self.server_name, self.service_account
        )

    def addresses(self) -> tuple[IPNetwork, ...]:
        """Where the API is, as far as that is known without asking anybody: pods must not be there,
        or they would get what is meant for it."""
        given = urlsplit(self.server or "").hostname
        hosts = (given, os.environ.get("KUBERNETES_SERVICE_HOST"))
        return tuple(network for host in hosts if host for network in _networks(host))


def _networks(host: str) -> tuple[IPNetwork, ...]:
    """Of an address; none of a name."""
    try:
        return (ip_network(host),)
    except ValueError:
        return ()
