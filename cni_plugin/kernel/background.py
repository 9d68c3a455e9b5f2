"""Links are deleted in a thread of their own, for who need not wait for the kernel's memory.

RTM_DELLINK keeps its caller for some 20 ms after the link is gone: the lock is free, addresses,
routes and neighbours are flushed, and netdev_run_todo only waits for the last readers before it
gives the memory back (net/core/dev.c). A process that ends has to wait for that; the agent has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import local

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.netlink import KernelError, Message, Socket

THREADS = 16  # deletions whose end the kernel still waits for; more of them wait in line
LOOK_S = 0.0003  # until the first look, and between looks

Outcomes = list[KernelError | None]


class Background:
    """Threads that send deletions, each with a socket of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "deletions")
        self._own = local()

    def delete(self, message: Message, names: Sequence[str], looking: Socket) -> Outcomes:
        """Sends a deletion and returns when the links of those names are gone, or when it has
        ended: then with its outcome, an empty list otherwise. looking: the caller's socket.
        Raises KernelError."""
        sent = self._threads.submit(self._send, message)
        questions = [rtnl.get_link(name) for name in names]
        while not _has_ended(sent):
            if not any(looking.get_many(questions)):
                # A change of what is not there: it is refused as soon as the lock is free, and
                # then all that hung on the links has been flushed.
                looking.batch([rtnl.change_link(names[0], rtnl.LinkChange(up=False), "")])
                return []
        return sent.result()

    def _send(self, message: Message) -> Outcomes:
        if not hasattr(self._own, "socket"):
            self._own.socket = Socket()
        outcomes: Outcomes = self._own.socket.batch([message])
        return outcomes


def _has_ended(sent: Future[Outcomes]) -> bool:
    wait([sent], LOOK_S)
    return sent.done()
