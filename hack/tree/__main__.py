"""Makes podwire's relocatable Python tree out of the Python that runs this.

    PYTHON hack/tree OUTPUT [--site FOLDER]

OUTPUT is replaced. --site: where podwire and its packages are installed, otherwise where this
Python has its own. docs/installer.md says what is in it. Needs ldd, a C compiler and, for the size,
strip.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from native import add_interpreter, add_libraries, add_programs
from packages import add_packages, add_stdlib, closure


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="hack/tree")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parser.add_argument("--site", type=Path, default=Path(sysconfig.get_path("purelib")))
    args = parser.parse_args()
    tree: Path = args.output
    temporary = tree.with_name(f".{tree.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    build(temporary, args.site)
    shutil.rmtree(tree, ignore_errors=True)
    temporary.rename(tree)
    count, size = _measure(tree)
    print(f"{tree}: {count} files, {size / 2**20:.1f} MiB")


def build(tree: Path, site: Path) -> None:
    """All of it at `tree`, which is not there yet."""
    base = sysconfig.get_config_vars()["installed_base"]
    paths = sysconfig.get_paths(vars={"base": base, "installed_base": base})
    stdlib = Path(os.__file__).parent
    lib = tree / "lib" / Path(paths["stdlib"]).name
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    dynload = next(Path(p) for p in sys.path if p.endswith("lib-dynload"))
    add_interpreter(tree, python)
    add_stdlib(stdlib, dynload, lib)
    add_packages(tree, site, lib)
    origins = [python, *dynload.glob("*.so"), *site.rglob("*.so")]
    names = {file.name for file in lib.rglob("*.so")}
    add_libraries(tree, [one for one in origins if one == python or one.name in names])
    (tree / "bin").mkdir()
    add_programs(tree)
    version = next(one.version for one in closure(site))
    release = {"version": version, "arch": platform.machine(), "python": platform.python_version()}
    (tree / "RELEASE").write_text(json.dumps(release) + "\n")
    _write_manifest(tree)


def _write_manifest(tree: Path) -> None:
    """As `sha256sum -c` reads it."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tree)}\n"
        for path in files
    ]
    (tree / "MANIFEST").write_text("".join(lines))


def _measure(tree: Path) -> tuple[int, int]:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


if __name__ == "__main__":
    main()
