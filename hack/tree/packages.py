"""Python's part: modules of the standard library and of the packages, compiled, without sources.

Everything lies in the standard library's folder: it is the one in which Python always looks.
"""

from __future__ import annotations

import py_compile
import re
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from contents import EXTRAS, PACKAGES_LEFT_OUT, ROOT, in_stdlib, is_extension_wanted
from native import copy_executable

REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*(?:;.*extra == ['\"]([^'\"]+)['\"])?")
DATA = (".json", ".typed", ".c")


def add_stdlib(stdlib: Path, dynload: Path, lib: Path) -> None:
    """lib: the folder of the tree for it."""
    for entry in sorted(stdlib.iterdir()):
        if not in_stdlib(entry.name):
            continue
        files = sorted(entry.rglob("*.py")) if entry.is_dir() else [entry]
        for file in files:
            relative = file.relative_to(stdlib)
            if file.suffix == ".py" and not {"test", "tests", "__pycache__"} & {*relative.parts}:
                compile_to(file, lib / relative, f"{lib.name}/{relative}")
    (lib / "lib-dynload").mkdir(parents=True)
    for file in sorted(dynload.glob("*.so")):
        if is_extension_wanted(file.name):
            copy_executable(file, lib / "lib-dynload" / file.name)


def add_packages(tree: Path, site: Path, lib: Path) -> None:
    """podwire and what it requires, and everybody's licence."""
    for one in closure(site):
        for file in one.files or ():
            source = Path(str(one.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts:
                continue  # console scripts; compiled anew
            if file.parts[0].endswith(".dist-info"):
                if re.match(r"(?i)licen[cs]e|copying|notice", file.name):
                    _copy(source, tree / "licenses" / one.name / file.name)
            elif file.suffix == ".py":
                compile_to(source, lib / file, f"{lib.name}/{file}")
            elif file.suffix == ".so":
                (lib / file).parent.mkdir(parents=True, exist_ok=True)
                copy_executable(source, lib / file)
            elif file.suffix in DATA:
                _copy(source, lib / file)


def closure(site: Path) -> Iterator[Distribution]:
    """podwire and, of what it requires, everything that is in the tree. Raises SystemExit."""
    there = {_normal(one.name): one for one in distributions(path=[str(site)])}
    left, seen = [(ROOT, EXTRAS)], set()
    while left:
        name, extras = left.pop()
        if name in seen or name in PACKAGES_LEFT_OUT:
            continue
        seen.add(name)
        if name not in there:
            raise SystemExit(f"{site} lacks the package {name}")
        yield there[name]
        left += [(needed, ()) for needed in _requirements(there[name].requires or (), extras)]


def _requirements(lines: Iterable[str], extras: tuple[str, ...]) -> Iterator[str]:
    for line in lines:
        found = REQUIREMENT.match(line)
        if found and (found[2] is None or found[2] in extras) and "python_version <" not in line:
            yield _normal(found[1])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def compile_to(source: Path, target: Path, shown: str) -> None:
    """As a .pyc in the source's place. shown: what tracebacks call it, so that the content does not
    depend on where the tree was made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    py_compile.compile(
        str(source),
        cfile=str(target.with_suffix(".pyc")),
        dfile=shown,
        doraise=True,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
