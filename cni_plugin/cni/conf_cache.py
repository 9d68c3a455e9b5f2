"""A validated NetConf as bytes, so that a direct run can skip pydantic for a config it has seen.

A file holds the whole canonical document beside the NetConf, and reading compares all of it: a
clash of the short name costs a validation, never a wrong config. Pure: the caller reads and
writes the files (and looks after who may).
"""

from __future__ import annotations

import json
from binascii import crc32
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from cni_plugin import __version__
from cni_plugin.cni.values import Dns, NetConf, RuntimeConf
from ipam.lean_typing import Any, NamedTuple
from ipam.values import IpamConf, Range, Route

_TEXTS = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_TUPLES = (NetConf, IpamConf, Range, Route, Dns, RuntimeConf)
_CLASSES: Mapping[str, Any] = {cls.__name__: cls for cls in (*_TEXTS, *_TUPLES)}
# Read at every call by conf_runtime, or no part of the config at all.
_PER_CALL = ("prevResult", "args", "runtimeConfig")
_RUNTIME_OF_BASE = "ipRanges"  # the one capability that is validated with the ipam section


class Cached(NamedTuple):
    """What a cache file gives back: the config without its runtime part, and its warnings."""

    conf: NetConf
    warnings: tuple[str, ...]


def base_document(document: Mapping[str, object]) -> dict[str, object]:
    """The part of the plugin object that is the same for every pod of the network."""
    base = {
        key: value
        for key, value in document.items()
        if key not in _PER_CALL and not key.startswith("cni.dev/")
    }
    runtime = document.get("runtimeConfig")
    if isinstance(runtime, dict) and runtime.get(_RUNTIME_OF_BASE) is not None:
        base["runtimeConfig"] = {_RUNTIME_OF_BASE: runtime[_RUNTIME_OF_BASE]}
    return base


def fingerprint(document: Mapping[str, object]) -> bytes:
    """What a cached NetConf depends on, whole: podwire's version, the values' fields, the base.

    One line. Equal fingerprints mean equal base documents; order of keys does not count.
    """
    subject = {
        "podwire": __version__,
        "fields": {cls.__name__: cls._fields for cls in _TUPLES},
        "document": base_document(document),
    }
    return json.dumps(subject, sort_keys=True, separators=(",", ":")).encode()


def cache_name(key: bytes) -> str:
    """A short file name for a fingerprint. Two fingerprints may share one."""
    return f"conf-{crc32(key):08x}-{len(key)}.json"


def dump_conf(conf: NetConf, warnings: tuple[str, ...], key: bytes) -> bytes:
    """The cache file's content for the fingerprint `key`: two lines, the second ends it."""
    value = json.dumps([_pack(conf), list(warnings)], separators=(",", ":"))
    return key + b"\n" + value.encode() + b"\n"


def load_conf(data: bytes, key: bytes) -> Cached | None:
    """What dump_conf wrote, or None when it is torn, damaged or for another fingerprint."""
    head, newline, rest = data.partition(b"\n")
    if head != key or not newline or not rest.endswith(b"\n"):
        return None
    try:
        packed, warnings = json.loads(rest)
        conf = _unpack(packed)
        lines = tuple(str(line) for line in warnings)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Cached(conf, lines) if isinstance(conf, NetConf) else None


def _pack(value: Any) -> Any:
    if isinstance(value, _TUPLES):
        fields = {name: _pack(field) for name, field in value._asdict().items()}
        return {type(value).__name__: fields}
    if isinstance(value, tuple):
        return [_pack(item) for item in value]
    if isinstance(value, _TEXTS):
        return {type(value).__name__: str(value)}
    return value


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item) for item in value)
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if isinstance(content, dict):
        return _CLASSES[name](**{field: _unpack(item) for field, item in content.items()})
    return _CLASSES[name](content)
