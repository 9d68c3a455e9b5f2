"""Configs and results as JSON that gives back the very same values: for podwire's own files.

A value becomes {class name: {field: value}}, an address or network {class name: text}, a tuple an
array; so nothing is parsed or judged again when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from cni_plugin.cni.values import (
    Bandwidth,
    Dns,
    Interface,
    IPConfig,
    NetConf,
    PortMapping,
    Result,
    RuntimeConf,
)
from ipam.lean_typing import Any, TypeVar
from ipam.values import IpamConf, Range, Route

T = TypeVar("T")

CONF_TUPLES = (NetConf, IpamConf, Range, Route, Dns, Bandwidth, PortMapping, RuntimeConf)
_TEXTS = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_TUPLES = (*CONF_TUPLES, Result, Interface, IPConfig)
TEXTS_MAX = 16  # networks of one node
_texts: dict[int, tuple[NetConf, str]] = {}
_CLASSES: Mapping[str, Any] = {cls.__name__: cls for cls in (*_TEXTS, *_TUPLES)}


def to_text(value: Any) -> str:
    """A value as one line. A config is the very same object for every pod that the agent wires and
    that asks for nothing of its own, so its text is kept."""
    if not isinstance(value, NetConf):
        return _dumped(value)
    known = _texts.get(id(value))
    if known is not None and known[0] is value:
        return known[1]
    if len(_texts) >= TEXTS_MAX:
        _texts.clear()
    text = _dumped(value)
    _texts[id(value)] = (value, text)  # kept alive with it: the id stays its own
    return text


def _dumped(value: Any) -> str:
    return json.dumps(pack(value), separators=(",", ":"))


def from_text(text: str) -> Any:
    """What `to_text` made. Raises ValueError, KeyError or TypeError for anything else."""
    return unpack(json.loads(text))


def read_text(text: str, kind: type[T]) -> T | None:
    """A value of that class; None for anything else: another podwire may have written it."""
    try:
        value = from_text(text)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return value if isinstance(value, kind) else None


def pack(value: Any) -> Any:
    """What json can write."""
    if isinstance(value, _TUPLES):
        fields = zip(value._fields, value, strict=True)
        return {type(value).__name__: {name: pack(field) for name, field in fields}}
    if isinstance(value, tuple):
        return [pack(item) for item in value]
    if isinstance(value, _TEXTS):
        return {type(value).__name__: str(value)}
    return value


def unpack(value: Any) -> Any:
    """What was packed. Raises ValueError, KeyError or TypeError for anything else."""
    if isinstance(value, list):
        return tuple(unpack(item) for item in value)
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if isinstance(content, dict):
        return _CLASSES[name](**{field: unpack(item) for field, item in content.items()})
    return _CLASSES[name](content)
