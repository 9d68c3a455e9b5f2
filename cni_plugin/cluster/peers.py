"""The peers file: YAML text to a Cluster, with every fault by its path.

backend: vxlan                   # optional: what every node uses, in place of its agent's config
nodes:
- name: a
  podCIDRs: [10.244.1.0/24, "2001:db8:244:1::/64"]
  addresses: [192.0.2.1, "2001:db8:1::1"]
  vtepMACs: {4: "02:00:5e:00:00:01"}   # optional: they follow from the name
  backend: host-gw                 # optional, instead of the one above
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cni_plugin.cluster.conf import BackendName, Network
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown
from cni_plugin.strict_yaml import parse_yaml
from ipam.values import IPAddress

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)  # RFC 1123, as Kubernetes does
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
FAULTS_MAX = 10  # told of one file


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("a node's name is accepted: lower-case letters, digits, `-` and `.`")
    return value


def _address(value: object) -> IPAddress:
    if not isinstance(value, str):
        raise ValueError("an address is accepted")  # noqa: TRY004  pydantic's way
    return ip_address(value)


def _mac(value: object) -> str:
    """Unicast: the first octet's lowest bit says otherwise."""
    text = value.lower() if isinstance(value, str) else ""
    if not MAC.fullmatch(text) or int(text[:2], 16) & 1 or not text.strip("0:"):
        raise ValueError("a unicast MAC such as 02:00:5e:00:00:01 is accepted")
    return text


Address = Annotated[IPAddress, BeforeValidator(_address)]
Mac = Annotated[str, BeforeValidator(_mac)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Model):
    name: Annotated[str, BeforeValidator(_name)]
    podCIDRs: tuple[Network, ...] = ()  # noqa: N815  the file's key, which errors name
    addresses: tuple[Address, ...] = ()
    vtepMACs: dict[Literal[4, 6], Mac] = Field(default_factory=dict)  # noqa: N815
    backend: BackendName | None = None


class _File(_Model):
    nodes: tuple[_Entry, ...]
    backend: BackendName | None = None


def parse_peers(text: str, where: str, me: str) -> Cluster:
    """where: the file's path, for errors. me: this node, whose backend may be in the file. Raises
    InvalidNetworkConfig."""
    try:
        document = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidNetworkConfig(f"{where} is no YAML", " ".join(str(error).split())) from error
    try:
        file = _File.model_validate(document)
    except RecursionError as error:
        raise InvalidNetworkConfig(f"{where} refers to itself") from error
    except ValidationError as error:
        raise _invalid(where, [_told(one) for one in error.errors()]) from error
    faults = [*_version_faults(file), *_name_faults(file)]
    if faults:
        raise _invalid(where, faults)
    nodes = tuple(_node(entry, file.backend) for entry in file.nodes)
    own = next((node.backend for node in nodes if node.name == me), file.backend or "")
    return Cluster(nodes, backend=own)


def _node(entry: _Entry, backend: str | None) -> Node:
    return Node(
        entry.name,
        entry.podCIDRs,
        entry.addresses,
        tuple(sorted(entry.vtepMACs.items())),
        entry.backend or backend or "",
    )


def _version_faults(file: _File) -> Iterable[str]:
    for place, entry in enumerate(file.nodes):
        for key in ("podCIDRs", "addresses"):
            versions = Counter(one.version for one in getattr(entry, key))
            if versions and max(versions.values()) > 1:
                values = ", ".join(map(str, getattr(entry, key)))
                yield f"nodes[{place}].{key} is {values}: at most one an IP version is accepted"


def _name_faults(file: _File) -> Iterable[str]:
    first: dict[str, int] = {}
    for place, entry in enumerate(file.nodes):
        if first.setdefault(entry.name, place) != place:
            yield f"nodes[{place}].name is {entry.name!r}, as nodes[{first[entry.name]}].name is"


def _told(fault: Any) -> str:
    path = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for part in fault["loc"]
        if part != "[key]"
    ).removeprefix(".")
    why = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{path} is no key of a peers file"
    if fault["type"] == "missing":
        return f"{path} is missing"
    return f"{path or 'the document'} is {shown(fault['input'])}: {why}"


def _invalid(where: str, faults: list[str]) -> InvalidNetworkConfig:
    more = [f"and {len(faults) - FAULTS_MAX} more"] if len(faults) > FAULTS_MAX else []
    return InvalidNetworkConfig(f"{where}: {faults[0]}", "; ".join([*faults[1:FAULTS_MAX], *more]))
