"""The executables: interpreter, loader, shared libraries, and the two static programs in C."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = re.compile(r"(\S+) => (/\S+) \(")
LOADER = re.compile(r"^\s*(/\S+/ld-\S+) \(|(\S*/ld-linux\S*) => (/\S+) \(", re.MULTILINE)


def needed(executable: Path) -> tuple[dict[str, Path], Path | None]:
    """The shared libraries that an executable or library loads, by the name that is asked for, and
    its loader. Source: ldd(1)."""
    done = subprocess.run(["ldd", executable], capture_output=True, text=True, check=False)
    if "not found" in done.stdout:
        raise SystemExit(f"{executable} lacks a library:\n{done.stdout}")
    libraries = {name: Path(path) for name, path in LIBRARY.findall(done.stdout)}
    loader = LOADER.search(done.stdout)
    found = next((Path(path) for path in (loader.groups() if loader else ()) if path), None)
    return {name: path for name, path in libraries.items() if "/" not in name}, found


def add_interpreter(tree: Path, python: Path) -> None:
    """lib/python3 and its loader, named after podwire because that is what `ps` shows."""
    lib = tree / "lib"
    lib.mkdir(parents=True, exist_ok=True)
    _libraries, loader = needed(python)
    if loader is None:
        raise SystemExit(f"{python} has no loader: it is not linked dynamically")
    copy_executable(python, lib / "python3")
    copy_executable(loader, lib / "podwire-python")


def add_libraries(tree: Path, origins: Iterable[Path]) -> None:
    """Into lib: all that the files load, each under the name by which it is asked for."""
    for origin in origins:
        for name, path in needed(origin)[0].items():
            target = tree / "lib" / name
            if not target.exists():
                copy_executable(path, target)


def copy_executable(source: Path, target: Path) -> None:
    """Without debugging symbols, where `strip` is there."""
    shutil.copyfile(source.resolve(), target)
    target.chmod(0o755)
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", target], check=True)


def add_programs(tree: Path) -> None:
    """bin/python3 and bin/podwire, static."""
    launcher = str(HERE.parent / "launcher.sh")
    for source, name in (("hack/tree/python3.c", "python3"), ("", "podwire")):
        environ = {**os.environ, "SOURCE": source}
        subprocess.run([launcher, str(tree / "bin" / name)], env=environ, check=True)
