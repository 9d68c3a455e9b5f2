"""`podwire install` as a person or the install container runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.bare import ROOT, BareRoot


def command(tree: Path, *options: str) -> list[str]:
    """Installs a tree, by its own interpreter, in the bare root of the node it is run on."""
    python = str(tree / "bin" / "python3")
    return [python, "-I", "-B", "-m", "cni_plugin", "install", "--root", ROOT, *options]


def install(tree: Path, bare: BareRoot, *options: str) -> subprocess.CompletedProcess[str]:
    """Until it has ended."""
    return bare.node.run(*command(tree, *options), check=False, limit_s=60)
