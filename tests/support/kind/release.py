"""Images of podwire: of this tree, and as other versions for upgrades.

The image's content is what hack/image/stage.sh lays out for the Dockerfile too; its base, Debian
with iptables, is left out: a node's iptables are not what is tried here.
"""

from __future__ import annotations

import hashlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.support.kind.image import archive

ROOT = Path(__file__).resolve().parents[3]
TREE = "usr/lib/podwire"
INSTALLED = "/opt/podwire/current"  # where launchers look for it on a node
PACKAGES = ("cni_plugin", "ipam")
# Where the DaemonSet mounts something: a read-only root cannot make them.
PLACES = (
    "dev", "etc/cni/net.d", "etc/podwire", "host", "proc", "run", "sys", "tmp",
    "var/lib/cni", "var/lib/podwire", "var/run/secrets",
)  # fmt: skip
CONFIG = {
    "Entrypoint": ["/usr/local/bin/podwire"],
    "Cmd": ["agent"],
    "Env": ["PODWIRE_PYTHON=/usr/lib/podwire/bin/python3"],
}


class Release(NamedTuple):
    """A version of podwire as an image. archive: for `ctr images import`."""

    version: str
    image: str
    archive: Path


def build_content(to: Path) -> Path:
    """What the image has beside its base, of what is installed beside this Python."""
    site = {"PYTHON": sys.executable, "SITE": sysconfig.get_path("purelib")}
    done = subprocess.run(
        [ROOT / "hack" / "image" / "stage.sh", to],
        env={**os.environ, **site}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return to


def renamed(content: Path, to: Path, version: str) -> Path:
    """The same as another version: what it calls itself, and so its content's digest."""
    shutil.copytree(content, to, symlinks=True)
    _call(to, version)
    return to


def of_commit(content: Path, to: Path, commit: str) -> Path:
    """The same with podwire's own code as it was at that commit, its launcher too. The version is
    0.0.0-COMMIT."""
    source = to.with_suffix(".source")
    source.mkdir()
    wanted = [*PACKAGES, "hack/launcher.sh"]
    packed = subprocess.run(
        ["git", "-C", ROOT, "archive", commit, *wanted], stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", source], input=packed.stdout, check=True)
    shutil.copytree(content, to, symlinks=True)
    lib = next((to / TREE).glob("lib/python3*/cni_plugin")).parent
    for package in PACKAGES:
        shutil.rmtree(lib / package)
        for file in (source / package).rglob("*.*"):
            target = lib / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".py":
                _compile(file, target.with_suffix(".pyc"))
            else:
                target.write_bytes(file.read_bytes())
    (to / TREE / "bin" / "podwire").unlink()
    subprocess.run(
        [source / "hack" / "launcher.sh", to / TREE / "bin" / "podwire"],
        env={**os.environ, "PYTHON_TREE": INSTALLED}, check=True,
    )  # fmt: skip
    _call(to, f"0.0.0-{commit}")
    return to


def _call(content: Path, version: str) -> None:
    """The tree's version is this one from now on."""
    tree = content / TREE
    source = content.with_suffix(".py")
    source.write_text(f'__version__ = "{version}"\n')
    _compile(source, next(tree.glob("lib/python3*/cni_plugin/__init__.pyc")))
    source.unlink()
    about = json.loads((tree / "RELEASE").read_text())
    (tree / "RELEASE").write_text(json.dumps(about | {"version": version}) + "\n")
    _list_files(tree)


def _compile(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), str(target), doraise=True, invalidation_mode=unchecked)


def _list_files(tree: Path) -> None:
    """MANIFEST, as hack/tree writes it."""
    (tree / "MANIFEST").unlink(missing_ok=True)
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    lines = (f"{_digest(path)}  {path.relative_to(tree)}\n" for path in files)
    (tree / "MANIFEST").write_text("".join(lines))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def of_image(file: Path) -> Release:
    """One that `make image` built, as an archive in the OCI layout. Its version is its tag."""
    with tarfile.open(file) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        told = json.loads(index.read())["manifests"][0]["annotations"]
    image = str(told.get("io.containerd.image.name") or told["org.opencontainers.image.ref.name"])
    return Release(image.rpartition(":")[2], image, file)


def release(content: Path, to: Path, name: str = "podwire.invalid/podwire") -> Release:
    """The image. to: the archive that is made. name: without the version."""
    version = json.loads((content / TREE / "RELEASE").read_text())["version"]
    layer = to.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        tar.add(content / "usr", "usr")
        for place in PLACES:
            folder = tarfile.TarInfo(place)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    image = f"{name}:{version}"
    made = Release(version, image, archive(to, image, layer.read_bytes(), CONFIG))
    layer.unlink()
    return made
