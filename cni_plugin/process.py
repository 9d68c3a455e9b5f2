"""One call as a process: streams, signals and exit status around a function that serves.

A result that cannot be delivered is no result: the runtime saw a failed ADD, so the pod must not
stay wired. A runtime that gives up sends a signal, and what was begun is undone.
"""

from __future__ import annotations

# `signal` would make enums of all signals; the type stubs do not know its core.
import _signal  # type: ignore[import-not-found]
import os
from collections.abc import Callable, Mapping

from cni_plugin.cni.env import REQUEST_ID, UNDOES
from cni_plugin.cni.errors import Interrupted, IoFailure
from cni_plugin.cni.skel import error_reply
from cni_plugin.cni.values import Reply

Serve = Callable[[Mapping[str, str], bytes], Reply]
STDIN, STDOUT, STDERR = 0, 1, 2
READ_BYTES = 1 << 16
ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)


def run(serve: Serve, environ: Mapping[str, str]) -> int:
    """Serves one call on the process's streams and answers the exit status."""
    _hold_places()
    for number in ENDING:
        _signal.signal(number, _interrupt)
    try:
        stdin = _read_all() if environ.get("CNI_COMMAND") else b""
    except OSError as error:
        reply = error_reply(IoFailure(f"stdin cannot be read: {error.strerror}"))
    else:
        environ = {REQUEST_ID: os.urandom(16).hex(), **environ}
        reply = serve(environ, stdin)
        _ignore_signals()  # too late: what was done is being told
        if not _deliver(STDOUT, reply.stdout):
            return _undelivered(serve, environ, stdin, reply)
        reply = reply._replace(stdout=b"")
    _deliver(STDERR, reply.stderr)
    _deliver(STDOUT, reply.stdout)
    return reply.status


def _undelivered(serve: Serve, environ: Mapping[str, str], stdin: bytes, reply: Reply) -> int:
    _deliver(STDERR, reply.stderr + b"stdout cannot be written: the call is undone\n")
    if environ.get("CNI_COMMAND") == "ADD" and reply.status == 0:
        call = environ[REQUEST_ID]
        undone = serve({**environ, "CNI_COMMAND": "DEL", UNDOES: call}, stdin)
        _deliver(STDERR, undone.stderr + undone.stdout)
    return 1


def _hold_places() -> None:
    """A stream that is closed is taken by one that refuses: otherwise the next socket would get
    its number, and the reply."""
    for descriptor, refusing in (
        (STDIN, os.O_WRONLY),
        (STDOUT, os.O_RDONLY),
        (STDERR, os.O_RDONLY),
    ):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open("/dev/null", refusing)  # the lowest free number: this one


def _interrupt(number: int, _frame: object) -> None:
    """Raises where the call is; from then on it is let finish its undoing."""
    _ignore_signals()
    raise Interrupted(f"the call was ended by signal {number}", "what it had begun is undone")


def _ignore_signals() -> None:
    for ending in ENDING:
        _signal.signal(ending, _signal.SIG_IGN)


def _read_all() -> bytes:
    chunks = []
    while chunk := os.read(STDIN, READ_BYTES):
        chunks.append(chunk)
    return b"".join(chunks)


def _deliver(descriptor: int, data: bytes) -> bool:
    """Whether all of it could be written. Not through sys.stdout: a flush that fails as the
    interpreter ends would print a traceback and change the exit status."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return False
    return True
