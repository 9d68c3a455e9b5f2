"""A node's root file system without Python and without any C library that works, and trees to
install there."""

from __future__ import annotations

import hashlib
import json
import os
import py_compile
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support import need
from tests.support.node import PLUGIN_PATH, Node, Reply

ROOT = "/var/lib/containerd/bare"  # on the node, where that is an empty tmpfs
NOT_OURS = b"\x7fELF, but of another C library"
# What a program that is not wholly the tree's own would load, and fail at.
FOREIGN = (
    "lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1", "lib/libc.so.6", "lib64/libc.so.6",
    "lib/x86_64-linux-gnu/libc.so.6", "lib/aarch64-linux-gnu/libc.so.6", "usr/lib/libm.so.6",
    "usr/lib/libpython3.11.so.1.0", "usr/lib/python3.11/os.py", "etc/ld.so.cache",
)  # fmt: skip


class BareRoot:
    """The root beside the node's own: its /run is the node's, and so are kernel and network."""

    def __init__(self, node: Node) -> None:
        need.tool("busybox", "busybox-static")
        self.node = node
        self.path = node.path(ROOT)
        for folder in ("bin", "proc", "dev", "sys", "tmp", "run", "var/lib/cni"):
            (self.path / folder).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", self.path / "bin" / "busybox")
        for name in FOREIGN:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(NOT_OURS)
        node.run("ip", "netns", "add", "first")  # makes /run/netns shared: later ones are seen too
        for kind, source, target in (("-t", "proc", "proc"), ("--bind", "/dev", "dev")):
            words = [kind, source, source] if kind == "-t" else [kind, source]
            node.run("mount", *words, f"{ROOT}/{target}")
        node.run("mount", "--rbind", "/sys", f"{ROOT}/sys")
        node.run("mount", "--rbind", "/run", f"{ROOT}/run")

    def command(self, *command: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The words that run a program in the root, in a runtime's environment: it leaks a library
        path into its plugins."""
        variables = {"PATH": PLUGIN_PATH, "LD_LIBRARY_PATH": "/lib:/usr/lib", **(env or {})}
        words = [f"{name}={value}" for name, value in variables.items()]
        return ["env", "-i", *words, "chroot", ROOT, *command]

    def run(self, *command: str, env: Mapping[str, str] | None = None, stdin: str = "") -> Reply:
        """A program that has ended."""
        done = self.node.run(*self.command(*command, env=env), stdin=stdin, check=False)
        return Reply(done.returncode, done.stdout.encode(), done.stderr, 0.0)

    def call(self, env: Mapping[str, str], conf: Mapping[str, Any] | str) -> Reply:
        """One CNI call."""
        stdin = conf if isinstance(conf, str) else json.dumps(conf)
        full = {"CNI_PATH": "/opt/cni/bin", **env}
        return self.run("/opt/cni/bin/podwire", env=full, stdin=stdin)


def variant(tree: Path, version: str, made: Path) -> Path:
    """The tree as another release of podwire, which says so: `podwire --version`."""
    shutil.copytree(tree, made, copy_function=os.link)
    module = next(made.glob("lib/python3.*/cni_plugin/__init__.pyc"))
    source = made.with_name(f"{made.name}.py")
    source.write_text(f'__version__ = "{version}"\n')
    about = json.loads((made / "RELEASE").read_text())
    for path in (module, made / "RELEASE", made / "MANIFEST"):
        path.unlink()  # a link: the other tree has it too
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), cfile=str(module), doraise=True, invalidation_mode=unchecked)
    (made / "RELEASE").write_text(json.dumps({**about, "version": version}))
    seal(made)
    return made


def seal(made: Path) -> None:
    """Writes the MANIFEST of a tree."""
    files = sorted(path for path in made.rglob("*") if path.is_file() and path.name != "MANIFEST")
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(made)}\n"
        for path in files
    ]
    (made / "MANIFEST").write_text("".join(lines))
