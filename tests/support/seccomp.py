"""A runtime's default seccomp profile, as runc takes it."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

SECCOMP = Path("/usr/share/containers/seccomp.json")
Json = dict[str, Any]


def seccomp(held: Iterable[str]) -> Json:
    """The default profile of podman and buildah as runc takes it, for those capabilities."""
    if not SECCOMP.exists():
        pytest.skip(f"{SECCOMP} is missing; apt-get install golang-github-containers-common")
    profile = json.loads(SECCOMP.read_text())
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    held = frozenset(held)
    fits = [rule for rule in profile["syscalls"] if _applies(rule, held, arch)]
    names = {one["architecture"]: one for one in profile["archMap"]}
    native = {"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64"}[arch]
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [native, *(names[native]["subArchitectures"] or [])],
        "syscalls": [
            {key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)}
            for rule in fits
        ],
    }


def _applies(rule: Mapping[str, Any], held: frozenset[str], arch: str) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        held.issuperset(includes.get("caps", ()))
        and held.isdisjoint(excludes.get("caps", ()))
        and arch in includes.get("arches", (arch,))
        and arch not in excludes.get("arches", ())
    )
