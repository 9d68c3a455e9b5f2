"""Looks for all that is podwire's on a node. Changes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cni_plugin.cluster.conflist import SUFFIXES
from cni_plugin.cni.errors import CNIError
from cni_plugin.disk import DiskRecords
from cni_plugin.install.look import litter, names
from cni_plugin.install.place import LAUNCHERS, Place
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.marks import attached, marked
from cni_plugin.model.plan import Step, describe
from cni_plugin.uninstall.annotations import read_annotations
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import (
    ANNOTATION,
    CONFLIST,
    KERNEL,
    LAUNCHER,
    STATE,
    STORE,
    TREE,
    Found,
    Hurdles,
    Thing,
)
from ipam.errors import IpamError, LockTimeout
from ipam.listing import all_listings
from ipam.lock import acquire

OWN_TYPES = ("podwire", "podwire-ipam")


def look(scope: Scope) -> Found:
    """All of it. What cannot be looked at is among the failures, so that nobody takes it for
    nothing.

    Attached is a pod whose link is there: it lives as long as the pod's namespace. A record without
    one is of a pod that has gone without a DEL, or with another plugin's, and holds nobody up."""
    things: list[Thing] = []
    failures: list[str] = []
    others: tuple[str, ...] = ()
    kept: list[tuple[str, str]] = []
    hurdles, blind = Hurdles(), ""
    with _told(failures):
        lists, others = _conflists(scope, failures)
        things += lists
    with _told(failures):
        things += _annotations(scope)
    with _told(failures):
        things += _kernel()
    try:
        hurdles = look_for_hurdles(scope)
        if not any(thing.kind == KERNEL for thing in things):
            blind = _elsewhere(scope)
    except (CNIError, OSError) as error:
        blind = _said(error)
    with _told(failures):
        things += _folders(scope)
    with _told(failures):
        for path, said in _stores(scope):
            if scope.reservations:
                things.append(Thing(STORE, path, f"rm -r {path}"))
            else:
                kept.append((path, said))
    with _told(failures):
        things += look_for_files(scope.place)
    return Found(
        tuple(things),
        hurdles.attachments,
        hurdles.agent,
        blind,
        others,
        tuple(kept),
        tuple(failures),
    )


@contextmanager
def _told(failures: list[str]) -> Iterator[None]:
    """What cannot be looked at keeps nobody from looking at the rest."""
    try:
        yield
    except (CNIError, IpamError, OSError) as error:
        failures.append(_said(error))


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)


def look_for_hurdles(scope: Scope) -> Hurdles:
    """Raises CNIError."""
    host = Host()
    try:
        attachments = (*attached(host), *_under_way(scope))
    except OSError as error:
        raise CNIError(_said(error)) from error
    finally:
        host.close()
    return Hurdles(attachments, _agent(scope))


def _kernel() -> Iterator[Thing]:
    host = Host()
    try:
        for obj in marked(host):
            line = describe(Step(None, obj))
            yield Thing(KERNEL, line, line, obj)
    finally:
        host.close()


def _agent(scope: Scope) -> str:
    """Who holds the agent's lock; empty when nobody does."""
    path = f"{scope.state_dir}/agent.lock"
    if not os.path.exists(path):
        return ""
    try:
        os.close(acquire(path, 0))
    except LockTimeout as error:
        return error.held_by
    except OSError:
        return ""
    return ""


def _elsewhere(scope: Scope) -> str:
    """With nothing of podwire's in this network namespace: whether there should be something."""
    records = DiskRecords(scope.state_dir)
    count = sum(len(records.of_network(network)) for network in records.networks())
    if not count:
        return ""
    return (
        f"there are {count} records of attachments, and nothing of podwire's in this network"
        " namespace: is it the node's (hostNetwork)? if it is, --force goes on"
    )


def _under_way(scope: Scope) -> Iterator[str]:
    """Calls that are being served: what they make may not be seen yet."""
    for name in DiskRecords(scope.state_dir).held_locks():
        yield f"a call under way (lock {name})"


def _conflists(scope: Scope, failures: list[str]) -> tuple[list[Thing], tuple[str, ...]]:
    """The config lists that name podwire, whoever wrote them: without it every pod would fail by
    them. And the others."""
    own: list[Thing] = []
    others: list[str] = []
    own_path = scope.at(scope.conflist)
    temporary = f"{os.path.dirname(own_path)}/.{os.path.basename(own_path)}.tmp"
    paths = [f"{scope.at(scope.net_dir)}/{name}" for name in names(scope.at(scope.net_dir))]
    paths += [path for path in (own_path, temporary) if os.path.lexists(path)]
    for path in dict.fromkeys(paths):
        if path == temporary:
            own.append(Thing(CONFLIST, path, f"rm {path}"))
        elif path.endswith(SUFFIXES) and not os.path.basename(path).startswith("."):
            try:
                mine = _names_podwire(path)
            except (FileNotFoundError, IsADirectoryError):
                continue  # no runtime reads it either; or it has just gone
            except OSError as error:
                failures.append(f"{path}: {error.strerror}")
                continue
            if mine:
                own.append(Thing(CONFLIST, path, f"rm {path}"))
            else:
                others.append(path)
    return own, tuple(others)


def _names_podwire(path: str) -> bool:
    with open(path, "rb") as file:
        data = file.read()
    try:
        document = json.loads(data)
        plugins = document.get("plugins", [document])
        return any(_is_own(plugin) for plugin in plugins)
    except (ValueError, AttributeError, TypeError, RecursionError):
        return False  # no config list: no runtime takes it for one


def _is_own(plugin: dict[str, object]) -> bool:
    ipam = plugin.get("ipam")
    types = (plugin.get("type"), ipam.get("type") if isinstance(ipam, dict) else None)
    return any(one in OWN_TYPES for one in types)


def _annotations(scope: Scope) -> Iterator[Thing]:
    if scope.choice is None:
        return
    for name in read_annotations(scope.choice, scope.node):
        yield Thing(ANNOTATION, name, f"kubectl annotate node {scope.node} {name}-")


def _folders(scope: Scope) -> Iterator[Thing]:
    """A mount point without anything in it is not podwire's but of who mounted it."""
    for path in scope.folders:
        if os.path.lexists(path) and not (os.path.ismount(path) and not os.listdir(path)):
            yield Thing(STATE, path, f"rm -r {path}")


def _stores(scope: Scope) -> Iterator[tuple[str, str]]:
    """The folders of reservations that podwire has taken over, each with why it stays."""
    for listing in all_listings(tuple(map(scope.at, scope.data_dirs))):
        if listing.marked:
            count = sum(entry.owner is not None for entry in listing.entries)
            yield listing.path, f"reservations: {count}; `--reservations` removes it"


def look_for_files(place: Place) -> Iterator[Thing]:
    """What an installer puts there. Raises OSError."""
    for path in map(place.launcher, LAUNCHERS):
        if os.path.lexists(path):
            yield Thing(LAUNCHER, path, f"rm {path}")
    for path in litter(place):
        yield Thing(LAUNCHER, path, f"rm {path}")
    yield from _tree(place)


def _tree(place: Place) -> Iterator[Thing]:
    """The folder itself goes with what is in it, unless somebody else has put something there."""
    mine = {os.path.basename(path) for path in (place.versions, place.lock, place.current)}
    there = names(place.tree_dir)
    if not mine.intersection(there) and (there or not os.path.isdir(place.tree_dir)):
        return
    if os.path.lexists(place.current):
        yield Thing(TREE, place.current, f"rm {place.current}")
    for name in names(place.versions):
        yield Thing(TREE, f"{place.versions}/{name}", f"rm -r {place.versions}/{name}")
    if os.path.lexists(place.versions):
        yield Thing(TREE, place.versions, f"rmdir {place.versions}")
    if os.path.lexists(place.lock):
        yield Thing(TREE, place.lock, f"rm {place.lock}")
    if mine.issuperset(there) and not os.path.ismount(place.tree_dir):
        yield Thing(TREE, place.tree_dir, f"rmdir {place.tree_dir}")
