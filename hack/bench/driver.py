"""The C program that starts plugins, compiled."""

from __future__ import annotations

import subprocess
from pathlib import Path


def build_driver(root: Path) -> Path:
    """burst.c, compiled into build/."""
    program = root / "build" / "burst"
    program.parent.mkdir(exist_ok=True)
    source = Path(__file__).with_name("burst.c")
    flags = ["-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program
