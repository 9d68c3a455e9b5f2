"""Keys of a capability's objects as a runtime in Go may spell them.

Pure. Where a Go struct has no JSON tags its fields' names are written, "IngressRate", and Go reads
keys without regard to case, so that nobody there notices (encoding/json, Unmarshal). containerd
sends bandwidth, dns and portMappings so: seen with 1.6.20, by its CRI.
"""

from __future__ import annotations

from collections.abc import Mapping

from ipam.lean_typing import Any

_KEYS = (
    "containerPort", "egressBurst", "egressRate", "hostIP", "hostPort", "ingressBurst",
    "ingressRate", "options", "protocol", "searches", "servers", "shapedSubnets", "unshapedSubnets",
)  # fmt: skip
_BY_CASELESS = {key.lower(): key for key in _KEYS}
CAPABILITIES = ("bandwidth", "dns", "portMappings")


def as_documented(runtime: Mapping[str, Any]) -> Mapping[str, Any]:
    """runtimeConfig with the keys of these as the CNI conventions spell them; the same object
    when it has none of them."""
    found = {key: _renamed(runtime[key]) for key in CAPABILITIES if key in runtime}
    return {**runtime, **found} if found else runtime


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(item) for item in value]
    if not isinstance(value, dict):
        return value
    # What is spelled as documented goes before what is not.
    other = {_BY_CASELESS.get(key.lower(), key): item for key, item in value.items()}
    return {**other, **{key: value[key] for key in value.keys() & other.keys()}}
