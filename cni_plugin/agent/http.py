"""What the agent answers to GET: /metrics, /healthz and /readyz, by the standard library's server.

In threads of its own, so that a probe measures the loop instead of stopping it. Served on the
loopback or a unix socket: nothing here needs a secret, and nothing can be changed through it.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TextIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from cni_plugin.agent.config import UNIX
from cni_plugin.agent.hosts import host_port
from cni_plugin.agent.place import listen, verify_folder
from cni_plugin.cni.errors import IoFailure

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

CLIENT_LIMIT_S = 10.0  # for a connection from its begin to its end; a probe may think for 3
CLIENTS_MAX = 16  # at a time
BACKLOG = 16
TEXT = ("Content-Type", "text/plain; charset=utf-8")

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
Reasons = Callable[[], tuple[str, ...]]


def application(metrics: App | str, alive: Reasons, ready: Reasons, notes: Reasons = tuple) -> App:
    """The agent's pages. metrics: an application, or why there is none; alive, ready: reasons
    against it, a line each; notes: what /readyz says beside."""

    def serve(environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(start, HTTPStatus.METHOD_NOT_ALLOWED, "only GET is answered")
        path = environ["PATH_INFO"]
        if path == "/metrics" and isinstance(metrics, str):
            return _text(start, HTTPStatus.SERVICE_UNAVAILABLE, metrics)
        if path == "/metrics" and not isinstance(metrics, str):
            return metrics(environ, start)
        if path in ("/healthz", "/readyz"):
            reasons = alive() if path == "/healthz" else ready()
            status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
            beside = notes() if path == "/readyz" else ()
            return _text(start, status, "\n".join((*(reasons or ("ok",)), *beside)))
        return _text(start, HTTPStatus.NOT_FOUND, "here are /metrics, /healthz and /readyz")

    return serve


def _text(start: StartResponse, status: HTTPStatus, text: str) -> list[bytes]:
    start(f"{status.value} {status.phrase}", [TEXT])
    return [f"{text}\n".encode(errors="backslashreplace")]


class Http:
    """The pages at a place of the config's form: HOST:PORT or unix:PATH."""

    def __init__(self, place: str, app: App) -> None:
        self._path = place.removeprefix(UNIX) if place.startswith(UNIX) else ""
        self._server = _Server(_listen_unix(self._path) if self._path else _listen_tcp(place))
        self._server.set_app(app)
        # It need not look around for close(), which wakes it.
        serve = partial(self._server.serve_forever, poll_interval=3600.0)
        Thread(target=serve, name="http", daemon=True).start()

    def close(self) -> None:
        """Ends it; the socket's file goes too."""
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        self._server.socket.shutdown(socket.SHUT_RDWR)
        self._server.shutdown()
        self._server.server_close()


def _listen_tcp(place: str) -> socket.socket:
    at = host_port(place)
    assert at is not None  # noqa: S101  the config was checked
    try:
        family, kind, _, _, address = socket.getaddrinfo(*at, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise _unusable(place, error) from error
    try:
        # After a restart connections of the last agent may still be in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _unusable(place, error) from error
    return listener


def _listen_unix(path: str) -> socket.socket:
    """The agent's lock is for its calls' socket only, so what lies here may be in use."""
    verify_folder(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as other:
        try:
            other.connect(path)
        except OSError:
            return listen(path, "metrics")  # nobody there: what lies there is stale
    raise _unusable(f"{UNIX}{path}", OSError(0, "another process serves there"))


def _unusable(place: str, error: OSError) -> IoFailure:
    who = "" if place.startswith(UNIX) else " (`ss -ltnp` shows who has it)"
    return IoFailure(
        f"metrics cannot be served at {place}: {error.strerror}{who}",
        "set `metrics` in the agent's config to another HOST:PORT, to unix:/PATH or to off",
    )


class _Stream(io.RawIOBase):
    """What a client sends and gets, with one deadline for all of it: however slowly it does, it
    has its place no longer than that. idle: the client is waited for."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._until_s = time.monotonic() + CLIENT_LIMIT_S
        self.idle = False

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Raises TimeoutError, as all here, when the deadline has passed."""
        return int(self._waiting(self._connection.recv_into, buffer))

    def write(self, data: ReadableBuffer) -> int:
        self._waiting(self._connection.sendall, data)
        return memoryview(data).nbytes

    def _waiting(self, act: Callable[[Any], Any], data: object) -> Any:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
        self.idle = True
        try:
            return act(data)
        finally:
            self.idle = False


class _Server(ThreadingMixIn, WSGIServer):
    """A WSGI server on a socket that listens already, for a few clients at a time. When there is
    no place left, the client that has been waited for the longest loses its own."""

    daemon_threads = True  # a client that hangs does not hold up the agent's end
    block_on_close = False

    def __init__(self, listener: socket.socket) -> None:
        # Not bound by the base class, which would ask DNS for this host's full name.
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = "podwire", 0
        self.setup_environ()
        self._open: dict[socket.socket, _Stream] = {}  # in the order in which they came
        self._lock = Lock()

    def get_request(self) -> tuple[socket.socket, Any]:
        """A peer on a unix socket has no address; the base classes want one."""
        client, address = super().get_request()
        return client, address or ("unix", 0)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            has_place = len(self._open) < CLIENTS_MAX or self._leave_oldest()
            if has_place:
                self._open[request] = _Stream(request)
        if has_place:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def _leave_oldest(self) -> bool:
        """False: all are being answered."""
        idle = (client for client, stream in self._open.items() if stream.idle)
        oldest = next(idle, None)
        if oldest is None:
            return False
        del self._open[oldest]
        with suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)  # its thread wakes, and ends
        return True

    def stream(self, request: socket.socket) -> _Stream:
        """What its thread reads and writes."""
        return self._open[request]  # a place is not lost before its client is waited for

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left or was too slow: nothing for a log."""


class _Handler(WSGIRequestHandler):
    """One request a connection."""

    server: _Server

    def setup(self) -> None:
        """The base class's streams have a time limit for each read or write instead."""
        stream = self.server.stream(self.request)
        self.connection = self.request
        self.rfile = io.BufferedReader(stream)
        self.wfile = cast("io.BufferedIOBase", stream)  # each write is written at once

    def get_stderr(self) -> TextIO:
        """Where the base class writes tracebacks; on stderr each event is one line."""
        return io.StringIO()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Probes come every few seconds."""
