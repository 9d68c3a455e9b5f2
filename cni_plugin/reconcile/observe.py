"""Reads the evidence: the one module here that looks at the node. It changes nothing.

Each source is read once, whole: no round trip for each attachment. The store comes first and the
living after it, so that what an ADD reserves meanwhile is not taken for dead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from cni_plugin.cni.errors import CNIError
from cni_plugin.folder import STATE_DIR, Folder
from cni_plugin.kernel import census
from cni_plugin.reconcile import links
from cni_plugin.reconcile.evidence import (
    NETNS_GONE,
    NETNS_UNKNOWN,
    Cached,
    Evidence,
    KernelFacts,
    RuntimeFacts,
    Subject,
    netns_paths,
    subjects,
)
from cni_plugin.reconcile.life import is_told
from cni_plugin.record import Record, load
from ipam.evidence import host_routes
from ipam.listing import Listing, all_listings
from ipam.values import DEFAULT_DATA_DIR

RESULTS_DIR = "/var/lib/cni/results"  # libcni, CacheDir; containerd and CRI-O keep it there
CACHE_KIND = "cniCacheV1"  # libcni/api.go, CNICacheV1
CACHE_MAX_BYTES = 1 << 20
PIECE_BYTES = 1 << 14  # a buffer of a megabyte for each of thousands of files would be mapped anew
PID_NAMESPACE_OF_THE_NODE = 0xEFFFFFFC  # PROC_PID_INIT_INO, linux/proc_ns.h


class Seen(NamedTuple):
    """The node at one moment. torn_records: paths of records that do not parse."""

    listings: tuple[Listing, ...]
    records: tuple[Record, ...]
    torn_records: tuple[str, ...]
    subjects: tuple[Subject, ...]
    evidence: Evidence


class Observer:
    """Where the evidence lies on this node. whole False: records come without their objects and
    listings without the other files, enough to tell who lives; and what nobody depends on is not
    read. Who frees needs it whole."""

    def __init__(
        self,
        data_dirs: Iterable[str] = (DEFAULT_DATA_DIR,),
        *,
        state_dir: str = STATE_DIR,
        results_dir: str = RESULTS_DIR,
        whole: bool = True,
    ) -> None:
        self._data_dirs = tuple(data_dirs)
        self._attachments = f"{state_dir}/attachments"
        self._results_dir = results_dir
        self._whole = whole

    def look(self, network: str = "") -> Seen:
        """Everything, or one network. Raises OSError for a store or records that cannot be read."""
        listings = tuple(all_listings(self._data_dirs, whole=self._whole))
        records, torn = self._records()
        more = {record.data_dir for record in records} - {"", *self._data_dirs}
        if more:  # these too come before what lives
            listings += tuple(all_listings(tuple(sorted(more)), whole=self._whole))
            records, torn = self._records()
        if network:
            listings = tuple(one for one in listings if one.network == network)
            records = tuple(one for one in records if one.network == network)
        joined = subjects(listings, records)
        return Seen(listings, records, torn, joined, self.evidence(joined))

    def evidence(self, seen: Iterable[Subject]) -> Evidence:
        """What tells the living from the dead, now."""
        seen = tuple(seen)
        if not self._whole:
            glance = KernelFacts(read_links())
            if all(is_told(subject, glance) for subject in seen):
                return Evidence(glance, RuntimeFacts(), {})
        kernel, runtime = read_kernel(), read_cache(self._results_dir)
        return Evidence(kernel, runtime, netns_inodes(netns_paths(seen, runtime)))

    def _records(self) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        found: list[Record] = []
        torn: list[str] = []
        for network in Folder(self._attachments).names():
            folder = Folder(f"{self._attachments}/{network}")
            for name in folder.names():
                try:
                    data = _read(f"{folder.path}/{name}")
                except FileNotFoundError:
                    continue
                record = load(data, whole=self._whole)
                if record is None:
                    torn.append(f"{folder.path}/{name}")
                else:
                    found.append(record)
        return tuple(found), tuple(torn)


def read_links() -> dict[str, str]:
    """The host's links; none when the kernel does not answer: then nothing is told by them."""
    try:
        return links.read_links()
    except CNIError:
        return {}


def read_kernel() -> KernelFacts:
    """The host's links, the addresses in use, the host routes."""
    try:
        counted = census.take()
        routes = host_routes()
    except CNIError as error:
        return KernelFacts(failure=error.msg)
    except OSError as error:
        return KernelFacts(failure=f"{error.filename}: {error.strerror}")
    present = {(one.key[0], one.key[1]): one.owner for one in counted.elements}
    return KernelFacts(counted.links, present, routes)


def read_cache(path: str = RESULTS_DIR) -> RuntimeFacts:
    """The runtime's cache by what its files say, never by their names: a network's name and a
    container id may both have dashes. A file of another kind is nobody's attachment."""
    found: dict[tuple[str, str, str], Cached] = {}
    failure = ""
    try:
        for file, document in _cache_files(path):
            if document is None:
                failure = failure or f"{file} does not parse; remove it if its container is gone"
            elif document.get("kind") == CACHE_KIND:
                key, cached = _cached(document)
                if all(key):
                    found[key] = cached
                else:
                    failure = failure or f"{file} does not say whose it is"
    except OSError as error:
        failure = f"{error.filename}: {error.strerror}"
    return RuntimeFacts(found, failure)


def netns_inodes(paths: Iterable[str]) -> dict[str, int]:
    """By path the inode of the namespace there, NETNS_GONE or NETNS_UNKNOWN.

    Gone only where its absence means something: the folder it would be in is there; and /proc is
    that of the node's own processes. A plain file is a namespace that was unmounted, or whose
    mount this process does not see.
    """
    paths = list(paths)
    ours, all_processes = _stat("/proc/self/ns/net"), _sees_all_processes()
    folders = {os.path.dirname(path) for path in paths}
    visible = {folder for folder in folders if os.path.isdir(folder)}
    found = {}
    for path in paths:
        in_proc = path.startswith("/proc/")
        if ours is None or (in_proc and not all_processes):
            found[path] = NETNS_UNKNOWN
        else:
            meaningful = in_proc or os.path.dirname(path) in visible
            found[path] = _inode(path, ours.st_dev, NETNS_GONE if meaningful else NETNS_UNKNOWN)
    return found


def _inode(path: str, device: int, absent: int) -> int:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return absent
    except (OSError, ValueError):
        return NETNS_UNKNOWN
    return found.st_ino if found.st_dev == device else NETNS_UNKNOWN


def _sees_all_processes() -> bool:
    found = _stat("/proc/self/ns/pid")
    return found is not None and found.st_ino == PID_NAMESPACE_OF_THE_NODE


def _read(path: str) -> bytes:
    """A small file, at half of what a Python file object costs: there are thousands."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = piece = os.read(descriptor, PIECE_BYTES)
        while len(piece) == PIECE_BYTES and len(data) < CACHE_MAX_BYTES:
            piece = os.read(descriptor, PIECE_BYTES)
            data += piece
        return data
    finally:
        os.close(descriptor)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _cache_files(path: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(path, JSON object), None for what is not one. Raises OSError."""
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                data = _read(entry.path)
            except FileNotFoundError:
                continue  # DEL came meanwhile
            except IsADirectoryError:
                continue
            try:
                document = json.loads(data)
            except ValueError:
                document = None
            yield entry.path, document if isinstance(document, dict) else None


def _cached(document: dict[str, Any]) -> tuple[tuple[str, str, str], Cached]:
    network, container_id, ifname, netns = (
        value if isinstance(value := document.get(name, ""), str) else ""
        for name in ("networkName", "containerId", "ifName", "netns")
    )
    return (network, container_id, ifname), Cached(netns, _pod(document.get("cniArgs")))


def _pod(arguments: object) -> str:
    """`namespace/name` of CNI_ARGS as libcni caches them, [[key, value], ...]."""
    if not isinstance(arguments, list):
        return ""
    pairs = [pair for pair in arguments if isinstance(pair, list) and len(pair) == 2]
    known = {str(key): str(value) for key, value in pairs}
    name = known.get("K8S_POD_NAME", "")
    return f"{known.get('K8S_POD_NAMESPACE', '')}/{name}" if name else ""
