"""The part `cluster` of the agent's config, validated; docs/cluster.md explains each key."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cni_plugin.backend.view import DEFAULT_PORT, DEFAULT_VNI, Settings
from cni_plugin.cluster.admission import Rules
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.filtering import Policy
from cni_plugin.cluster.kube_conf import ABSOLUTE, PATH_MAX, KubernetesConfig
from cni_plugin.cni.names import ID_ACCEPTED, id_fault
from cni_plugin.kernel.offload import is_affected, kernel_release
from ipam.values import IPNetwork

RANGE = "a range such as 10.244.0.0/16"
RANGES = "a list of ranges such as [10.244.0.0/16, 2001:db8:244::/48]"
NODE_MAX = 253  # characters, RFC 1123 section 2.1
NODE = f"a node's name: {ID_ACCEPTED.replace('255', str(NODE_MAX))}"
TTL_MAX = 255
MTU_MIN = 576  # bytes, RFC 791 section 3.1: what every host takes
MTU_MAX = 65535
VNI_MAX = (1 << 24) - 1  # RFC 7348 section 5
PORT_MAX = 65535
SWITCH = "true or false"
ONE_SOURCE = "either file, the path of a peers file, or kubernetes, an object ({} in a pod)"
BackendName = Literal["local", "host-gw", "vxlan", "auto"]
BACKENDS = "local, host-gw, vxlan or auto"


def as_network(value: object) -> IPNetwork:
    """A range written as text. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(RANGE)  # noqa: TRY004  pydantic's way
    try:
        return ip_network(value)
    except ValueError as error:
        raise ValueError(_range_wanted(value)) from error


def _range_wanted(text: str) -> str:
    """Of a text that is none."""
    try:
        return f"a range without host bits, here {ip_network(text, strict=False)}"
    except ValueError:
        return RANGE


def on_or_off(value: object) -> object:
    """YAML 1.1 takes on and off for booleans."""
    return ("on" if value else "off") if isinstance(value, bool) else value


Network = Annotated[IPNetwork, BeforeValidator(as_network)]
Switch = Annotated[bool, Field(strict=True, description=SWITCH)]


def _whole(low: int, high: int) -> Any:
    return Field(ge=low, le=high, strict=True)


def _number(low: int, high: int, what: str) -> str:
    return f"{what}, {low} to {high}"


class _Model(BaseModel):
    """Each description says what is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConf(_Model):
    """Who says which nodes there are: a peers file (its path) or the Kubernetes API."""

    file: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=PATH_MAX)] | None = Field(
        default=None, description=ABSOLUTE
    )
    kubernetes: KubernetesConfig | None = Field(
        default=None,
        description="an object of server, serverName, kubeconfig, serviceAccount and stateFile,"
        " {} in a pod",
    )

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

    vni: Annotated[int, _whole(1, VNI_MAX)] = Field(
        default=DEFAULT_VNI, description=_number(1, VNI_MAX, "a VXLAN network identifier")
    )
    port: Annotated[int, _whole(1, PORT_MAX)] = Field(
        default=DEFAULT_PORT, description=_number(1, PORT_MAX, "a UDP port")
    )
    direct_routing: Switch = Field(default=False, alias="directRouting")
    tx_checksum: Annotated[
        Literal["auto", "on", "off"],
        BeforeValidator(on_or_off),
    ] = Field(default="auto", alias="txChecksumOffload", description="auto, on or off")


class ClusterConf(_Model):
    """How this node and the others reach each other's pods."""

    source: SourceConf = Field(description=ONE_SOURCE)
    node: Annotated[str, Field(max_length=NODE_MAX)] = Field(
        default_factory=own_name, description=NODE
    )
    backend: BackendName = Field(default="auto", description=BACKENDS)
    cluster_cidrs: tuple[Network, ...] = Field(default=(), alias="clusterCIDRs", description=RANGES)
    service_cidrs: tuple[Network, ...] = Field(default=(), alias="serviceCIDRs", description=RANGES)
    masquerade: Switch = True
    non_masquerade_cidrs: tuple[Network, ...] = Field(
        default=(), alias="nonMasqueradeCIDRs", description=RANGES
    )
    clamp_mss: Switch = Field(default=False, alias="clampMSS")
    egress_ttl: Annotated[int, _whole(1, TTL_MAX)] | None = Field(
        default=None, alias="egressTTL", description=_number(1, TTL_MAX, "a whole number")
    )
    mtu: Annotated[int, _whole(MTU_MIN, MTU_MAX)] | None = Field(
        default=None, description=_number(MTU_MIN, MTU_MAX, "a whole number of bytes")
    )
    vxlan: VxlanConf = Field(
        default=VxlanConf(),
        description="an object of vni, port, directRouting and txChecksumOffload",
    )
    # Without it the agent writes none.
    conflist: ConflistConfig | None = Field(
        default=None, description="an object of path, template and onStop, {} for the defaults"
    )

    @field_validator("node")
    @classmethod
    def _node(cls, name: str) -> str:
        if id_fault(name):
            raise ValueError(NODE)
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
