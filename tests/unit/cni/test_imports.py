"""The import budget of the direct path: a cold interpreter pays for every module."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAVY = ("pydantic", "dataclasses", "inspect", "asyncio", "subprocess", "argparse", "traceback")
HEAVY += ("hashlib", "difflib", "logging", "pathlib", "pyroute2", "yaml", "tempfile")


@pytest.mark.parametrize("module", ["skel", "conf_load", "conf_cache", "conf_runtime"])
def test_the_hot_modules_import_nothing_heavy(module: str) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules);"
        f" import cni_plugin.cni.{module}; print(*set(sys.modules) - before)"
    )
    # -S: site-packages may start things of their own (a .pth file of an editable install).
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert not set(HEAVY) & set(done.stdout.split())
