"""A validated NetConf as bytes, so that a direct run can skip pydantic for a config it has seen.

A file holds the whole canonical document beside the NetConf, and reading compares all of it: a
clash of the short name costs a validation, never a wrong config. Pure: the caller reads and
writes the files (and looks after who may).
"""

from __future__ import annotations

import json
from binascii import crc32
from collections.abc import Mapping

from cni_plugin import __version__
from cni_plugin.cni.packing import CONF_TUPLES, pack, unpack
from cni_plugin.cni.values import NetConf
from ipam.lean_typing import NamedTuple

# Read at every call by conf_runtime, or no part of the config at all.
_PER_CALL = ("prevResult", "args", "runtimeConfig")
_RUNTIME_OF_BASE = "ipRanges"  # the one capability that is validated with the ipam section


def _alike(version: str) -> bytes:
    """What all fingerprints of a podwire end with."""
    fields = json.dumps({cls.__name__: cls._fields for cls in CONF_TUPLES}, sort_keys=True)
    return f',"fields":{fields},"podwire":{json.dumps(version)}}}'.encode()


_ALIKE = _alike(__version__)


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
    base = json.dumps(base_document(document), sort_keys=True, separators=(",", ":"))
    return b'{"document":' + base.encode() + _ALIKE


def cache_name(key: bytes) -> str:
    """A short file name for a fingerprint. Two fingerprints may share one."""
    return f"conf-{crc32(key):08x}-{len(key)}.json"


def dump_conf(conf: NetConf, warnings: tuple[str, ...], key: bytes) -> bytes:
    """The cache file's content for the fingerprint `key`: two lines, the second ends it."""
    value = json.dumps([pack(conf), list(warnings)], separators=(",", ":"))
    return key + b"\n" + value.encode() + b"\n"


def load_conf(data: bytes, key: bytes) -> Cached | None:
    """What dump_conf wrote, or None when it is torn, damaged or for another fingerprint."""
    head, newline, rest = data.partition(b"\n")
    if head != key or not newline or not rest.endswith(b"\n"):
        return None
    try:
        packed, warnings = json.loads(rest)
        conf = unpack(packed)
        lines = tuple(str(line) for line in warnings)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Cached(conf, lines) if isinstance(conf, NetConf) else None
