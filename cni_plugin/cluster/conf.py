"""The part `cluster` of the agent's config, validated; docs/cluster.md explains each key."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cni_plugin.backend.view import DEFAULT_PORT, DEFAULT_VNI, Settings
from cni_plugin.cluster.admission import Rules
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.filtering import Policy
from cni_plugin.cluster.kube_conf import KubernetesConfig
from cni_plugin.cni.names import ID_ACCEPTED, id_fault
from cni_plugin.kernel.offload import is_affected, kernel_release
from ipam.values import IPNetwork

RANGE = "a range such as 10.244.0.0/16"
ONE_SOURCE = "either file, the path of a peers file, or kubernetes, an object ({} in a pod)"
BackendName = Literal["local", "host-gw", "vxlan", "auto"]


def as_network(value: object) -> IPNetwork:
    """A range written as text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(RANGE)  # noqa: TRY004  pydantic's way
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(f"{RANGE} ({error})") from error


Network = Annotated[IPNetwork, BeforeValidator(as_network)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class SourceConf(_Model):
    """Who says which nodes there are: a peers file (its path) or the Kubernetes API."""

    file: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4095)] | None = None
    kubernetes: KubernetesConfig | None = None

    @model_validator(mode="after")
    def _one(self) -> SourceConf:
        if (self.file is None) == (self.kubernetes is None):
            raise ValueError(ONE_SOURCE)
        return self


def own_name() -> str:
    """What this node is called where nobody says: NODE_NAME (a pod's, by its fieldRef), otherwise
    the host's name in lower case, as a kubelet registers without --hostname-override."""
    return os.environ.get("NODE_NAME") or socket.gethostname().lower()


class VxlanConf(_Model):
    """The tunnel."""

    vni: Annotated[int, Field(ge=1, lt=1 << 24, strict=True)] = DEFAULT_VNI
    port: Annotated[int, Field(ge=1, lt=1 << 16, strict=True)] = DEFAULT_PORT
    direct_routing: Annotated[bool, Field(alias="directRouting", strict=True)] = False
    tx_checksum: Annotated[
        Literal["auto", "on", "off"],
        Field(alias="txChecksumOffload"),
        BeforeValidator(lambda v: {True: "on", False: "off"}.get(v, v)),  # YAML 1.1's booleans
    ] = "auto"


class ClusterConf(_Model):
    """How this node and the others reach each other's pods."""

    source: SourceConf
    node: Annotated[str, Field(max_length=253)] = Field(default_factory=own_name)
    backend: BackendName = "auto"
    cluster_cidrs: Annotated[tuple[Network, ...], Field(alias="clusterCIDRs")] = ()
    service_cidrs: Annotated[tuple[Network, ...], Field(alias="serviceCIDRs")] = ()
    masquerade: Annotated[bool, Field(strict=True)] = True
    non_masquerade_cidrs: Annotated[tuple[Network, ...], Field(alias="nonMasqueradeCIDRs")] = ()
    clamp_mss: Annotated[bool, Field(alias="clampMSS", strict=True)] = False
    egress_ttl: Annotated[int | None, Field(alias="egressTTL", ge=1, le=255, strict=True)] = None
    mtu: Annotated[int, Field(ge=576, lt=1 << 16, strict=True)] | None = None
    vxlan: VxlanConf = VxlanConf()
    conflist: ConflistConfig | None = None  # without it the agent writes none

    @field_validator("node")
    @classmethod
    def _node(cls, name: str) -> str:
        if id_fault(name):
            raise ValueError(ID_ACCEPTED)
        return name

    @property
    def rules(self) -> Rules:
        """Which ranges are accepted."""
        api = self.source.kubernetes
        return Rules(self.cluster_cidrs, self.service_cidrs, api.addresses() if api else ())

    @property
    def policy(self) -> Policy:
        """What the filter is to do with pods' packets."""
        return Policy(
            self.cluster_cidrs,
            self.masquerade,
            self.non_masquerade_cidrs,
            self.clamp_mss,
            self.egress_ttl,
        )

    @property
    def settings(self) -> Settings:
        """What the backends need. The offload is switched off where the kernel has the fault."""
        choice = {"on": True, "off": False, "auto": False if _is_affected() else None}
        return Settings(
            self.vxlan.vni,
            self.vxlan.port,
            self.vxlan.direct_routing,
            self.mtu,
            choice[self.vxlan.tx_checksum],
        )


def _is_affected() -> bool:
    return is_affected(kernel_release())
