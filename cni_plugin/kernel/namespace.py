"""Network namespaces as descriptors: open, verify, enter and come back.

setns(2) changes the calling thread only, and /proc/sys/net shows the caller's namespace, so the
work in a pod is done between `enter` and its return, by one thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from fcntl import ioctl

from cni_plugin.cni.errors import InvalidEnvironment, IoFailure
from ipam.lean_typing import Any, TypeVar

CLONE_NEWNET = 0x40000000  # linux/sched.h
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
OWN = "/proc/thread-self/ns/net"
STDERR = 2
ENDED = "the process ends as it is, so that nothing is done to a pod's network for the node's"

T = TypeVar("T")


class InvalidNetns(InvalidEnvironment):
    """CNI_NETNS is not a network namespace, or it is the node's own."""


class NetnsGone(InvalidNetns):
    """CNI_NETNS cannot be opened. On DEL that is fine: the kernel removed the pod's end."""


def open_pod_netns(path: str) -> int:
    """A descriptor of the namespace at path, verified; the caller closes it.

    Raises NetnsGone when it cannot be opened and InvalidNetns when it is something else or the
    namespace we are in: checked before anything is changed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would wait
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NetnsGone(
            f"CNI_NETNS {path!r} cannot be opened: {reason}",
            "it must be the path of a network namespace, for example /var/run/netns/NAME",
        ) from error
    try:
        verify(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_own_netns() -> int:
    """A descriptor of the namespace this thread is in; the caller closes it. Raises OSError."""
    return os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)


def verify(descriptor: int, path: str, own: int | None = None) -> None:
    """Raises InvalidNetns for what is no network namespace, or is the one we are in. own: a
    descriptor of that, for who has one."""
    try:
        kind = ioctl(descriptor, NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != CLONE_NEWNET:
        raise InvalidNetns(f"CNI_NETNS {path!r} is not a network namespace")
    here = os.stat(OWN) if own is None else os.fstat(own)
    if os.path.samestat(os.fstat(descriptor), here):
        raise InvalidNetns(
            f"CNI_NETNS {path!r} is the namespace podwire runs in",
            "it must be the pod's own; wiring it would change the node's network",
        )


def inode(descriptor: int) -> int:
    """The namespace's identity while it lives (nsfs inode)."""
    return os.fstat(descriptor).st_ino


def own_inode() -> int:
    """The identity of the namespace this thread is in. Raises OSError."""
    return os.stat(OWN).st_ino


def netns_identity(descriptor: int) -> tuple[int, int] | None:
    """What tells a network namespace from others while it lives; None for anything else."""
    try:
        if ioctl(descriptor, NS_GET_NSTYPE) != CLONE_NEWNET:
            return None
    except OSError:
        return None
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _setns(descriptor: int) -> None:
    """setns(2). os.setns is in Python 3.12 and newer; 3.11 needs ctypes."""
    if hasattr(os, "setns"):
        os.setns(descriptor, CLONE_NEWNET)
        return
    import ctypes

    if _libc().setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_loaded: list[Any] = []


def _libc() -> Any:
    """Loaded once: each CDLL makes a class of its own."""
    if not _loaded:
        import ctypes

        _loaded.append(ctypes.CDLL(None, use_errno=True))
    return _loaded[0]


def inside(descriptor: int, work: Callable[[], T], home: int | None = None) -> T:
    """Runs work with this thread in the namespace and comes back, also when it raises, or a signal
    does (process). home: a descriptor of the namespace this thread is in, for who has one."""
    back = open_own_netns() if home is None else home
    try:
        try:
            _setns(descriptor)
        except OSError as error:
            raise IoFailure(
                f"cannot enter the pod's network namespace: {error.strerror}",
                "podwire needs CAP_SYS_ADMIN in the namespace's user namespace (run it as root)",
            ) from error
        except BaseException:  # a signal, and it may be in there already
            _return_home(back)
            raise
        try:
            return work()
        finally:
            try:
                _setns(back)
            except BaseException:  # refused; or a signal: there is no second one
                _return_home(back)
                raise
    finally:
        if home is None:
            os.close(back)


def _return_home(home: int) -> None:
    """Ends the process where that is refused. An error would be caught by somebody, and all that
    this thread does from then on, undoing included, would be done to a pod's network."""
    try:
        _setns(home)
    except OSError as error:
        _say(f"podwire: cannot return to the node's network namespace: {error.strerror}; {ENDED}\n")
        os._exit(1)


def _say(line: str) -> None:
    """Without waiting for who reads."""
    from select import select

    if select((), (STDERR,), (), 0)[1]:
        with suppress(OSError):
            os.write(STDERR, line.encode())
