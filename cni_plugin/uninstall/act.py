"""Removes what a plan says, best effort: what could not be removed is told, and the rest goes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from cni_plugin.cni.errors import CNIError
from cni_plugin.durable import remove_durably
from cni_plugin.folder import ABSENT
from cni_plugin.install.lock import Tell, locked
from cni_plugin.install.look import names
from cni_plugin.install.node import remove_version
from cni_plugin.install.place import INTERPRETER
from cni_plugin.kernel.execute import apply
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.refusal import StepFailed
from cni_plugin.model.objects import key
from cni_plugin.model.plan import describe, removal
from cni_plugin.uninstall.annotations import remove_annotations
from cni_plugin.uninstall.look import look_for_files
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import (
    ANNOTATION,
    CONFLIST,
    FILES,
    KERNEL,
    LAUNCHER,
    ORDER,
    TREE,
    Acted,
    Failure,
    Thing,
)
from ipam.errors import LockTimeout
from ipam.lock import acquire


def act(scope: Scope, things: Iterable[Thing], tell: Tell = lambda _line: None) -> Acted:
    """Removes the things, kind by kind. tell: what is waited for."""
    things = tuple(things)
    failures: list[Failure] = []
    with _no_agent(scope, failures):
        for kind in ORDER:
            some = tuple(thing for thing in things if thing.kind == kind)
            if some and kind not in FILES:
                failures += _remove(scope, kind, some)
        if any(thing.kind in FILES for thing in things):
            things = (*things, *_remove_files(scope, tell, failures))
    return Acted(tuple(dict.fromkeys(things)), tuple(failures))


def _remove_files(scope: Scope, tell: Tell, failures: list[Failure]) -> tuple[Thing, ...]:
    """What an installer puts there, as it is once nobody else is at it: one may have ended since
    the look, and half of what it has put there would be left."""
    had_tree = os.path.isdir(scope.place.tree_dir)  # the lock makes one
    with ExitStack() as held:
        try:
            # Where the lock cannot be (a read-only /opt) no installer can have it either.
            with suppress(OSError):
                held.enter_context(locked(scope.place, tell))
            things = tuple(look_for_files(scope.place))
        except CNIError as error:
            failures.append(Failure("podwire's files stay", str(error)))
            return ()
        except OSError as error:
            failures.append(_refused("podwire's files", error))
            return ()
        for kind in FILES:
            failures += _remove(scope, kind, [one for one in things if one.kind == kind])
    return tuple(thing for thing in things if had_tree or thing.kind == LAUNCHER)


def _remove(scope: Scope, kind: str, things: Iterable[Thing]) -> Iterator[Failure]:
    things = tuple(things)
    try:
        if kind == KERNEL:
            yield from _from_kernel(things)
        elif kind == ANNOTATION:
            assert scope.choice is not None  # noqa: S101  what found them had one
            remove_annotations(scope.choice, scope.node, [thing.what for thing in things])
        else:
            for thing in things:
                yield from _from_disk(kind, thing.what)
    except CNIError as error:
        yield from (Failure(thing.what, str(error)) for thing in things)


def _from_kernel(things: tuple[Thing, ...]) -> Iterator[Failure]:
    """By the same plan and the same messages as a DEL."""
    objects = [thing.obj for thing in things if thing.obj is not None]
    places = Places()
    try:
        outcome = apply(places, removal(objects, {key(obj): obj for obj in objects}), stop=False)
    except OSError as error:
        raise CNIError(str(error)) from error
    finally:
        places.close()
    for failure in outcome.failures:
        what = describe(failure.step) if isinstance(failure, StepFailed) else "the kernel"
        yield Failure(what, str(failure).removeprefix(f"{what}: "))


def _from_disk(kind: str, path: str) -> Iterator[Failure]:
    try:
        if kind in (CONFLIST, LAUNCHER):
            remove_durably(path)
        elif kind == TREE:
            if reason := _from_tree(path):
                yield Failure(path, reason)
        else:
            _clear(path)
    except OSError as error:
        yield _refused(path, error)


def _refused(path: str, error: OSError) -> Failure:
    """One of the thing; what of it did not go is named when it is less than the whole."""
    reason = error.strerror or str(error)
    within = error.filename not in (None, path)
    return Failure(path, f"{error.filename}: {reason}" if within else reason)


def _from_tree(path: str) -> str:
    """A version only when nobody runs from it, else why it stays; and a folder only when nothing
    else is in it. Raises OSError."""
    if os.path.exists(f"{path}/{INTERPRETER}") or os.path.islink(path):
        return remove_version(path)
    if os.path.isdir(path):
        if os.path.basename(os.path.dirname(path)) == "versions":
            shutil.rmtree(path)  # the rest of a version
        else:
            with suppress(OSError):
                os.rmdir(path)
    else:
        with suppress(*ABSENT):
            os.unlink(path)
    return ""


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
def _no_agent(scope: Scope, failures: list[Failure]) -> Iterator[None]:
    """None starts meanwhile. Where there is no state there is none, and one that has started since
    the look gives way to nobody: then what is found afterwards says so."""
    path, held = f"{scope.state_dir}/agent.lock", -1
    try:
        held = acquire(path, 0)
    except (LockTimeout, *ABSENT):
        pass
    except OSError as error:
        why = f"{error.strerror}: an agent that starts now is not kept from it"
        failures.append(Failure(path, why))
    try:
        yield
    finally:
        if held >= 0:
            os.close(held)


def release_own_version(prefix: str) -> None:
    """Drops the lock by which this process says that it runs from the tree: what it needs of it is
    loaded. prefix: the tree's folder."""
    interpreter = os.path.realpath(f"{prefix}/{INTERPRETER}")
    for name in names("/proc/self/fd"):
        with suppress(OSError):
            if os.path.realpath(f"/proc/self/fd/{name}") == interpreter:
                os.close(int(name))
