"""Container images without a registry: an archive in the OCI image layout, for `ctr images import`.

Source: opencontainers/image-spec, image-layout.md, manifest.md, config.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MEDIA = "application/vnd.oci.image"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# A name that no registry has: nothing may be fetched.
SHELL_IMAGE = "podwire.invalid/shell:1"
APPLETS = ("cat", "hostname", "httpd", "ip", "ping", "sh", "sleep")
Blobs = dict[str, bytes]


def shell_image(to: Path) -> Path:
    """busybox, and a command that does nothing: a pod's pause container and its shell."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    with tarfile.open(to.with_suffix(".layer"), "w") as layer:
        layer.add(busybox, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            layer.addfile(link)
        for folder in ("dev", "etc", "proc", "sys", "tmp", "www"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(entry)
    data = to.with_suffix(".layer").read_bytes()
    return archive(to, SHELL_IMAGE, data, {"Cmd": ["/bin/sleep", "1000000"]})


def archive(to: Path, name: str, layer: bytes, config: Mapping[str, Any]) -> Path:
    """An image of one layer, a tar. config: the image's execution parameters."""
    blobs: Blobs = {}
    described = _blob(blobs, "layer.v1.tar", layer)
    about = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [described["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": _blob(blobs, "config.v1+json", json.dumps(about).encode()),
        "layers": [described],
    }
    entry = _blob(blobs, "manifest.v1+json", json.dumps(manifest).encode())
    # By this name containerd keeps it: its core/images/archive, AnnotationImageName.
    entry["annotations"] = {"io.containerd.image.name": name}
    index = {"schemaVersion": 2, "manifests": [entry]}
    files = [("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')]
    files += [("index.json", json.dumps(index).encode())]
    files += [(f"blobs/sha256/{digest}", data) for digest, data in blobs.items()]
    _write(to, files)
    return to


def _blob(blobs: Blobs, kind: str, data: bytes) -> dict[str, Any]:
    """Keeps it; its descriptor."""
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": f"{MEDIA}.{kind}", "digest": f"sha256:{digest}", "size": len(data)}


def _write(to: Path, files: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(to, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
