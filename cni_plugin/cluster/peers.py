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

import json
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cni_plugin.cluster.conf import BACKENDS, RANGES, BackendName, Network
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.model_faults import InvalidDocument, faults
from cni_plugin.cni.names import shown
from cni_plugin.cni.parse import ADDRESS
from cni_plugin.strict_yaml import parse_yaml
from ipam.values import IPAddress

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)  # RFC 1123, as Kubernetes does
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
FAULTS_MAX = 10  # told of one file
NAME_ACCEPTED = "a node's name: lower-case letters, digits, `-` and `.`"
MAC_ACCEPTED = "a unicast MAC such as 02:00:5e:00:00:01"


def _name(value: object) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError(NAME_ACCEPTED)
    return value


def _address(value: object) -> IPAddress:
    if not isinstance(value, str):
        raise ValueError(ADDRESS)  # noqa: TRY004  pydantic's way
    try:
        return ip_address(value)
    except ValueError as error:
        raise ValueError(ADDRESS) from error


def _mac(value: object) -> str:
    """Unicast: the first octet's lowest bit says otherwise."""
    text = value.lower() if isinstance(value, str) else ""
    if not MAC.fullmatch(text) or int(text[:2], 16) & 1 or not text.strip("0:"):
        raise ValueError(MAC_ACCEPTED)
    return text


Address = Annotated[IPAddress, BeforeValidator(_address)]
Mac = Annotated[str, BeforeValidator(_mac)]


class _Model(BaseModel):
    """Each description says what is accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Entry(_Model):
    name: Annotated[str, BeforeValidator(_name)] = Field(description=NAME_ACCEPTED)
    podCIDRs: tuple[Network, ...] = Field(  # noqa: N815  the file's key, which errors name
        default=(), description=RANGES
    )
    addresses: tuple[Address, ...] = Field(
        default=(), description="a list of addresses such as [192.0.2.1, 2001:db8::1]"
    )
    vtepMACs: dict[Literal[4, 6], Mac] = Field(  # noqa: N815
        default_factory=dict, description="an object of 4 and 6, each with a MAC"
    )
    backend: BackendName | None = Field(default=None, description=BACKENDS)


class _File(_Model):
    nodes: tuple[_Entry, ...] = Field(description="a list of objects, one a node")
    backend: BackendName | None = Field(default=None, description=BACKENDS)


class Peers:
    """One file, read again and again: an entry that was there before is the same Node as then, so
    that nobody has to compare thousands. where: the file's path, for errors. me: this node, whose
    backend may be in the file."""

    def __init__(self, where: str, me: str) -> None:
        self._where = where
        self._me = me
        self._backend: str | None = None  # of the whole file
        self._known: dict[str, Node] = {}  # by what an entry looks like as Python

    def parse(self, text: str) -> Cluster:
        """Raises InvalidNetworkConfig; then it is as it was."""
        document = _document(text, self._where)
        # An alias (`*name`) may make a few lines into more than fits the memory.
        found = None if "*" in text else self._by_entry(document)
        if found is None:
            found = _whole(document, self._where)
        backend, nodes, self._known = found
        self._backend = backend
        own = next((node.backend for node in nodes if node.name == self._me), backend or "")
        return Cluster(nodes, backend=own)

    def _by_entry(self, document: Any) -> _Parsed | None:
        """Where only some entries are new. None: where something is wrong or all is new, which the
        whole document tells better."""
        if not isinstance(document, dict) or not document.keys() <= {"nodes", "backend"}:
            return None
        backend, entries = document.get("backend"), document.get("nodes")
        if not self._known or backend != self._backend or not isinstance(entries, list):
            return None
        known: dict[str, Node] = {}
        try:
            for entry in entries:
                look = repr(entry)
                known[look] = self._known.get(look) or _entry(entry, backend)
        except (ValidationError, RecursionError, _TooMany):
            return None
        nodes = tuple(known.values())
        if len({node.name for node in nodes}) != len(entries):
            return None
        return _Parsed(backend, nodes, known)


class _Parsed(NamedTuple):
    """What a file says. known: the nodes by what their entries look like."""

    backend: str | None
    nodes: tuple[Node, ...]
    known: dict[str, Node]


class _TooMany(Exception):
    """An entry has two ranges or addresses of one IP version."""


def _entry(value: Any, backend: str | None) -> Node:
    entry = _Entry.model_validate(value)
    if any(_crowded(getattr(entry, key)) for key in ("podCIDRs", "addresses")):
        raise _TooMany
    return _node(entry, backend)


def _crowded(values: tuple[Any, ...]) -> bool:
    return len({one.version for one in values}) < len(values)


def parse_peers(text: str, where: str, me: str) -> Cluster:
    """A file that is read once; see Peers."""
    return Peers(where, me).parse(text)


def _document(text: str, where: str) -> Any:
    """JSON is YAML too, and read ten times as fast."""
    if text.lstrip()[:1] == "{":
        try:
            return json.loads(text, object_pairs_hook=_each_once, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            pass  # YAML then, or what is wrong is told as of YAML
    return parse_yaml(text, where)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
    return made


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _whole(document: Any, where: str) -> _Parsed:
    try:
        file = _File.model_validate(document)
    except RecursionError as error:
        raise InvalidNetworkConfig(f"{where} refers to itself") from error
    except ValidationError as error:
        raise InvalidDocument(where, faults(error, _File, "a peers file"), FAULTS_MAX) from error
    if found := [*_version_faults(file), *_name_faults(file)]:
        raise InvalidDocument(where, found, FAULTS_MAX)
    nodes = tuple(_node(entry, file.backend) for entry in file.nodes)
    return _Parsed(file.backend, nodes, dict(zip(map(repr, document["nodes"]), nodes, strict=True)))


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
            if _crowded(getattr(entry, key)):
                values = ", ".join(map(str, getattr(entry, key)))
                yield f"nodes[{place}].{key} is {values}, accepted: at most one an IP version"


def _name_faults(file: _File) -> Iterable[str]:
    first: dict[str, int] = {}
    for place, entry in enumerate(file.nodes):
        if first.setdefault(entry.name, place) != place:
            told = (
                f"nodes[{place}].name is {shown(entry.name)}, as nodes[{first[entry.name]}].name is"
            )
            yield f"{told}, accepted: each node once"
