"""Clients that are slow, or many, do not keep a probe from its answer."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event, Thread

import pytest

from cni_plugin.agent import http
from cni_plugin.agent.http import CLIENTS_MAX, Http, application
from tests.support.agent_pages import get

LIMIT_S = 10.0


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where the pages are served; all is well there."""
    tmp_path.chmod(0o700)
    path = tmp_path / "http.sock"
    served = Http(f"unix:{path}", application("no metrics", tuple, tuple))
    yield path
    served.close()


def client(path: Path, said: bytes = b"") -> socket.socket:
    """A connection that has said something, and no more."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(LIMIT_S)
    made.connect(str(path))
    made.sendall(said)
    return made


def ended(one: socket.socket) -> bool:
    """Whether the server closes the connection."""
    with suppress(ConnectionResetError):
        return one.recv(1) == b""
    return True


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nX: "])
def test_clients_that_do_not_go_on_do_not_keep_others_out(place: Path, said: bytes) -> None:
    with ExitStack() as slow:
        clients = [slow.enter_context(client(place, said)) for _ in range(3 * CLIENTS_MAX)]
        assert get(place, "/healthz") == (200, "ok\n")
        assert ended(clients[0])  # the oldest


def test_a_drop_now_and_then_does_not_make_the_time_longer(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "CLIENT_LIMIT_S", 0.5)
    stop = Event()

    def drip(one: socket.socket) -> None:
        with suppress(OSError):
            for byte in itertools.cycle(b"GET /"):
                if stop.wait(0.05):
                    return
                one.sendall(bytes([byte]))

    with client(place) as slow:
        began_s = time.monotonic()
        thread = Thread(target=drip, args=(slow,))
        thread.start()
        try:
            assert ended(slow)
        finally:
            stop.set()
            thread.join()
    assert time.monotonic() - began_s < LIMIT_S / 2


def test_a_client_that_does_not_read_loses_its_place(tmp_path: Path) -> None:
    """A page that is more than a socket holds is waited for as a request is."""
    tmp_path.chmod(0o700)
    path = tmp_path / "http.sock"
    page = application("x" * (8 << 20), tuple, tuple)
    served = Http(f"unix:{path}", page)
    try:
        with ExitStack() as deaf:
            for _ in range(CLIENTS_MAX):
                one = deaf.enter_context(client(path, b"GET /metrics HTTP/1.0\r\n\r\n"))
                assert one.recv(1) == b"H"
            assert get(path, "/healthz") == (200, "ok\n")
    finally:
        served.close()


def test_notes_stand_below_what_counts_and_only_on_readyz(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    reasons: list[str] = []
    app = application("", lambda: tuple(reasons), lambda: tuple(reasons), lambda: ("note: a: b",))
    served = Http(f"unix:{tmp_path / 'http.sock'}", app)
    try:
        assert get(tmp_path / "http.sock", "/readyz") == (200, "ok\nnote: a: b\n")
        assert get(tmp_path / "http.sock", "/healthz") == (200, "ok\n")
        reasons.append("c: d")
        assert get(tmp_path / "http.sock", "/readyz") == (503, "c: d\nnote: a: b\n")
    finally:
        served.close()
