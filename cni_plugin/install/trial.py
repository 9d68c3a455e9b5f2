"""Executes a tree once before anybody depends on it: on this node's kernel, from this node's disk.

So a tree of another architecture, a folder mounted noexec or a library that is missing is found
while the version before is still in place.
"""

from __future__ import annotations

import os
import subprocess

from cni_plugin.cni.errors import CNIError
from cni_plugin.install.place import INTERPRETER, LAUNCHER

LIMIT_S = 60.0  # a cold disk and a busy node; a start takes 0.05 s otherwise


def try_tree(folder: str, path: str) -> None:
    """One CNI call, VERSION, by launcher and interpreter. path: what the folder will be, for
    messages. Raises CNIError."""
    environ = {
        "CNI_COMMAND": "VERSION",
        "PODWIRE_AGENT": "off",
        "PODWIRE_PYTHON": f"{folder}/{INTERPRETER}",
        "PATH": os.environ.get("PATH", os.defpath),
    }
    shown = f"{path}/{LAUNCHER}"
    try:
        done = subprocess.run(  # noqa: S603  a fixed program in a folder of our own
            [f"{folder}/{LAUNCHER}"],
            input=b'{"cniVersion": "1.1.0"}',
            capture_output=True,
            env=environ,
            timeout=LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise CNIError(
            f"{shown} cannot be executed here: {error.strerror}",
            "is the image of this node's architecture, and the folder not mounted noexec?",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise CNIError(f"{shown} gave no answer in {LIMIT_S:g} s") from error
    if done.returncode or b"supportedVersions" not in done.stdout:
        told = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise CNIError(f"{shown} does not run here: {told or f'status {done.returncode}'}")
