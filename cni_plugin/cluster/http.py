"""HTTP/1.1 to one server: a request, and its answer as a whole or piece by piece.

h11 knows the protocol, asyncio and ssl carry its bytes. Every wait has a limit: a peer that says
nothing any more is as good as gone. Only this module imports h11.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import NamedTuple

import h11

PIECE = 1 << 16  # bytes read at once
# A peer that vanished without a word is noticed by the kernel, tcp(7): after 15 s of silence three
# probes, 5 s apart; and data that nobody acknowledges for 30 s ends the connection.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class Broken(Exception):
    """The exchange could not be carried out. The text says where and why, for a person."""


class Server(NamedTuple):
    """Where requests go. tls None: in the clear. name: what the certificate must be for, and the
    host of the Host header."""

    host: str
    port: int
    name: str
    tls: SSLContext | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Request(NamedTuple):
    """target: path and query, percent-encoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


class Connection:
    """Requests one after another, each when the answer before was read to its end (`free`)."""

    def __init__(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)

    @property
    def free(self) -> bool:
        """Whether another request may go this way."""
        states = {self._protocol.our_state, self._protocol.their_state}
        return states in ({h11.IDLE}, {h11.DONE})

    async def ask(self, request: Request, limit_s: float) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the answer. Raises Broken, also when they
        are not there in limit_s seconds."""
        if self._protocol.our_state is h11.DONE:
            self._protocol.start_next_cycle()
        host = f"[{self._server.name}]" if ":" in self._server.name else self._server.name
        length = {"Content-Length": str(len(request.body))} if request.body else {}
        headers = {"Host": f"{host}:{self._server.port}", **length, **request.headers}
        head = h11.Request(
            method=request.method, target=request.target, headers=list(headers.items())
        )
        await self._send(head, request.body)
        while True:
            event = await self._next(limit_s)
            if isinstance(event, h11.Response):
                return event.status_code, {
                    name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers
                }

    async def pieces(self, idle_s: float) -> AsyncIterator[bytes]:
        """The answer's body as it comes, until it ends as the protocol says. Raises Broken, also
        when nothing comes for idle_s seconds or the server hangs up in the middle."""
        while True:
            event = await self._next(idle_s)
            if isinstance(event, h11.EndOfMessage):
                return
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def body(self, idle_s: float, most: int) -> bytes:
        """The whole body. Raises Broken as `pieces` does, and beyond `most` bytes."""
        whole = bytearray()
        async for piece in self.pieces(idle_s):
            whole += piece
            if len(whole) > most:
                raise Broken(f"{self._server} sends more than {most} bytes in one answer")
        return bytes(whole)

    async def _send(self, head: h11.Request, body: bytes) -> None:
        events = [head, h11.Data(data=body), h11.EndOfMessage()]
        try:
            for event in events:
                self._writer.write(self._protocol.send(event) or b"")
            await self._writer.drain()
        except (
            h11.LocalProtocolError
        ) as error:  # a header that cannot be sent, a token with a newline
            raise Broken(f"no request for {self._server} can be made: {error}") from error
        except OSError as error:
            raise Broken(f"{self._server} cannot be reached: {_reason(error)}") from error

    async def _next(self, limit_s: float) -> h11.Event:
        try:
            while not isinstance(event := self._protocol.next_event(), h11.Event):
                async with asyncio.timeout(limit_s):
                    self._protocol.receive_data(await self._reader.read(PIECE))
        except TimeoutError as error:
            raise Broken(f"{self._server} has said nothing for {limit_s:g} s") from error
        except h11.RemoteProtocolError as error:
            raise Broken(f"{self._server} broke off: {error}") from error
        except OSError as error:
            raise Broken(f"{self._server} is lost: {_reason(error)}") from error
        if isinstance(event, h11.ConnectionClosed):
            raise Broken(f"{self._server} closed the connection")
        return event


@asynccontextmanager
async def connected(server: Server, limit_s: float) -> AsyncIterator[Connection]:
    """A connection, closed at the end. Raises Broken when there is none in limit_s seconds."""
    try:
        async with asyncio.timeout(limit_s):
            reader, writer = await asyncio.open_connection(
                server.host,
                server.port,
                ssl=server.tls,
                server_hostname=server.name if server.tls else None,
            )
    except TimeoutError as error:
        raise Broken(f"{server} does not answer within {limit_s:g} s") from error
    except OSError as error:  # among them ssl.SSLError: a certificate that is not trusted
        raise Broken(f"{server} cannot be reached: {_reason(error)}") from error
    try:
        for level, option, value in KEEPALIVE:
            writer.get_extra_info("socket").setsockopt(level, option, value)
        yield Connection(server, reader, writer)
    finally:
        writer.transport.abort()  # TLS's farewell would wait for a peer that may be gone


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
