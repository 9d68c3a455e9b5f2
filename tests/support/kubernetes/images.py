"""The images that kubeadm's static pods and the manifests name, of programs on this machine."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.kind.image import archive

VERSION = "v1.20.2"  # of hack/kubernetes.sh
REGISTRY = "podwire.invalid"  # that no machine has: nothing may be fetched
ETCD = "etcd:3.4.13-0"  # as that kubeadm calls it
SERVERS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
FOLDERS = ("dev", "etc", "proc", "sys", "tmp")


def control_plane(programs: Path, root: Path, to: Path) -> list[Path]:
    """Archives of its four images. root: a Debian's, for the C library that etcd loads."""
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    loader = next(libraries.glob("ld-linux-*"))
    of_etcd = {
        "usr/local/bin/etcd": programs / "etcd",
        f"lib64/{loader.name}": loader,
        "lib/libc.so.6": libraries / "libc.so.6",
    }
    made = [
        _image(to, f"{name}:{VERSION}", {f"usr/local/bin/{name}": programs / name})
        for name in SERVERS
    ]
    return [*made, _image(to, ETCD, of_etcd)]


def _image(to: Path, name: str, files: Mapping[str, Path]) -> Path:
    """files: by their paths in it."""
    layer = to / f"{name.partition(':')[0]}.layer"
    with tarfile.open(layer, "w") as tar:
        for folder in FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for inside, file in files.items():
            tar.add(file.resolve(), inside)
    made = archive(
        layer.with_suffix(".tar"), f"{REGISTRY}/{name}", layer.read_bytes(),
        {"Env": ["PATH=/usr/local/bin"]},
    )  # fmt: skip
    layer.unlink()
    return made
