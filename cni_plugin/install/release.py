"""A tree as it was built: what it is, which files it has, and whether it has them still.

A tree has RELEASE (JSON: version, arch, python) and MANIFEST (a line a file, for sha256sum). Its
name is the version and the digest of MANIFEST, so that two builds of one version are two.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from cni_plugin.cni.errors import CNIError, DecodeFailure, IoFailure

NAME_DIGITS = 12
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\0\n][^\0\n]*)\n")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}", re.ASCII)
REMEDY = "build the tree again (`make tree`), or use another image"


class Entry(NamedTuple):
    """A file: its path in the tree and its SHA-256 in hexadecimal."""

    path: str
    digest: str


class Release(NamedTuple):
    """A tree that can be installed. arch: as uname tells it. size: bytes of all files."""

    path: str
    name: str
    version: str
    arch: str
    size: int
    entries: tuple[Entry, ...]

    def digest(self, path: str) -> str:
        """Of a file; empty when the tree does not have it."""
        return next((one.digest for one in self.entries if one.path == path), "")


def read_release(path: str) -> Release:
    """The tree in this folder. Raises CNIError when it is none."""
    if not os.path.exists(f"{path}/MANIFEST"):
        raise IoFailure(
            f"{path} is no tree: it has no MANIFEST",
            "name a tree by --from, build/tree after `make tree`, or run this from one",
        )
    manifest = _read(f"{path}/MANIFEST")
    try:
        about = json.loads(_read(f"{path}/RELEASE"))
        version, arch = about["version"], about["arch"]
    except (ValueError, KeyError, TypeError) as error:
        raise DecodeFailure(f"{path}/RELEASE tells neither version nor arch", REMEDY) from error
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise DecodeFailure(f"{path}/RELEASE has the version {version!r}, which is none", REMEDY)
    entries = tuple(_entries(manifest, path))
    name = f"{version}-{hashlib.sha256(manifest).hexdigest()[:NAME_DIGITS]}"
    entries += (Entry("MANIFEST", hashlib.sha256(manifest).hexdigest()),)
    return Release(path, name, version, str(arch), _size(path, entries), entries)


def _entries(manifest: bytes, path: str) -> Iterator[Entry]:
    for line in manifest.decode(errors="replace").splitlines(keepends=True):
        found = _LINE.fullmatch(line)
        if not found or ".." in found[2].split("/"):
            raise DecodeFailure(f"{path}/MANIFEST has a line that names no file: {line!r}", REMEDY)
        yield Entry(found[2], found[1])


def damage(release: Release, path: str) -> str:
    """The first file of the release that is not as it was built in the folder `path`, with the
    reason; empty when all are."""
    for entry in release.entries:
        try:
            data = _read(f"{path}/{entry.path}")
        except CNIError as error:
            return error.msg
        if hashlib.sha256(data).hexdigest() != entry.digest:
            return f"{path}/{entry.path} is not as it was built"
    return ""


def read_entry(release: Release, entry: Entry) -> bytes:
    """A file's content. Raises CNIError unless it is what it was when the tree was built."""
    data = _read(f"{release.path}/{entry.path}")
    if hashlib.sha256(data).hexdigest() != entry.digest:
        raise IoFailure(f"{release.path}/{entry.path} is not as it was built", REMEDY)
    return data


def _size(path: str, entries: tuple[Entry, ...]) -> int:
    try:
        return sum(os.stat(f"{path}/{entry.path}").st_size for entry in entries)
    except OSError as error:
        raise IoFailure(f"{error.filename}: {error.strerror}", REMEDY) from error


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise IoFailure(f"{path} cannot be read: {error.strerror}", REMEDY) from error
