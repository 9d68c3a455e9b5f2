"""Removes what a plan says, best effort: what could not be removed is told, and the rest goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from cni_plugin.cni.errors import CNIError
from cni_plugin.durable import remove_durably
from cni_plugin.folder import ABSENT
from cni_plugin.install.lock import locked
from cni_plugin.install.node import remove_version
from cni_plugin.install.place import INTERPRETER
from cni_plugin.kernel.execute import apply
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import key
from cni_plugin.model.plan import removal
from cni_plugin.uninstall.annotations import remove_annotations
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import ANNOTATION, CONFLIST, KERNEL, LAUNCHER, ORDER, TREE, Thing
from ipam.errors import LockTimeout
from ipam.lock import acquire


def act(scope: Scope, things: Iterable[Thing]) -> tuple[str, ...]:
    """Removes the things, kind by kind; what failed, a sentence each."""
    things = tuple(things)
    failures: list[str] = []
    with _no_agent(scope):
        for kind in ORDER:
            some = tuple(thing for thing in things if thing.kind == kind)
            if some:
                failures += _remove(scope, kind, some)
    return tuple(failures)


def _remove(scope: Scope, kind: str, things: tuple[Thing, ...]) -> Iterator[str]:
    if kind == KERNEL:
        yield from _from_kernel(things)
    elif kind == ANNOTATION:
        assert scope.choice is not None  # noqa: S101  what found them had one
        try:
            remove_annotations(scope.choice, scope.node, [thing.what for thing in things])
        except CNIError as error:
            yield str(error)
    else:
        try:
            with ExitStack() as held:
                if kind in (LAUNCHER, TREE) and os.path.isdir(scope.place.tree_dir):
                    held.enter_context(locked(scope.place))
                for thing in things:
                    yield from _one_from_disk(kind, thing.what)
        except (OSError, CNIError) as error:
            yield str(error)


def _one_from_disk(kind: str, path: str) -> Iterator[str]:
    try:
        yield from _from_disk(kind, path)
    except OSError as error:
        yield f"{error.filename or path}: {error.strerror}"


def _from_kernel(things: tuple[Thing, ...]) -> Iterator[str]:
    """By the same plan and the same messages as a DEL."""
    objects = [thing.obj for thing in things if thing.obj is not None]
    places = Places()
    try:
        outcome = apply(places, removal(objects, {key(obj): obj for obj in objects}), stop=False)
    except CNIError as error:
        yield str(error)
    else:
        yield from map(str, outcome.failures)
    finally:
        places.close()


def _from_disk(kind: str, path: str) -> Iterator[str]:
    if kind in (CONFLIST, LAUNCHER):
        remove_durably(path)
    elif kind == TREE:
        yield from _from_tree(path)
    else:
        _clear(path)


def _from_tree(path: str) -> Iterator[str]:
    """A version only when nobody runs from it, and a folder only when nothing else is in it."""
    if os.path.exists(f"{path}/{INTERPRETER}") or os.path.islink(path):
        reason = remove_version(path)
        if reason:
            yield f"{path}: {reason}"
    elif os.path.isdir(path):
        if os.path.basename(os.path.dirname(path)) == "versions":
            shutil.rmtree(path)  # the rest of a version
        else:
            with suppress(OSError):
                os.rmdir(path)
    else:
        with suppress(*ABSENT):
            os.unlink(path)


def _clear(path: str) -> None:
    """A folder with all that is in it; of a mount point what is in it."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    elif os.path.ismount(path):
        for name in os.listdir(path):
            _clear(f"{path}/{name}")
    else:
        shutil.rmtree(path)


@contextmanager
def _no_agent(scope: Scope) -> Iterator[None]:
    """None starts meanwhile. Where there is no state there is none, and one that has started since
    the look gives way to nobody: then what is found afterwards says so."""
    try:
        held = acquire(f"{scope.state_dir}/agent.lock", 0)
    except (LockTimeout, *ABSENT):
        yield
        return
    try:
        yield
    finally:
        os.close(held)


def release_own_version(prefix: str) -> None:
    """Drops the lock by which this process says that it runs from the tree: what it needs of it is
    loaded. prefix: the tree's folder."""
    interpreter = os.path.realpath(f"{prefix}/{INTERPRETER}")
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.path.realpath(f"/proc/self/fd/{name}") == interpreter:
                os.close(int(name))
