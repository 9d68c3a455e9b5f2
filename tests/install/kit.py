"""`podwire install` as a person or the install container runs it, and trees for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.support.bare import ROOT, BareRoot, seal

LAUNCHER = """#!/bin/sh
exec "${PODWIRE_PYTHON:-$(dirname "$0")/../../podwire/current/bin/python3}"
"""
PYTHON = """#!/bin/sh
[ -f "$(dirname "$(readlink -f "$0")")/../MANIFEST" ] && echo '{{"supportedVersions": "{version}"}}'
"""


def command(tree: Path, *options: str) -> list[str]:
    """Installs a tree, by its own interpreter, in the bare root of the node it is run on."""
    python = str(tree / "bin" / "python3")
    return [python, "-I", "-B", "-m", "cni_plugin", "install", "--root", ROOT, *options]


def install(tree: Path, bare: BareRoot, *options: str) -> subprocess.CompletedProcess[str]:
    """Until it has ended."""
    return bare.node.run(*command(tree, *options), check=False, limit_s=60)


def small(folder: Path, version: str, before: str = "") -> Path:
    """A tree of four files, whose Python answers with its version where the tree is whole. before:
    what it executes first."""
    tree = folder / version
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/podwire").write_text(f"{LAUNCHER}# {version}\n")
    head, rest = PYTHON.format(version=version).split("\n", 1)
    (tree / "bin/python3").write_text(f"{head}\n{before}{rest}")
    for name in ("podwire", "python3"):
        (tree / "bin" / name).chmod(0o755)
    (tree / "RELEASE").write_text(json.dumps({"version": version, "arch": os.uname().machine}))
    seal(tree)
    return tree
