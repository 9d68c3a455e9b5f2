"""The agent's socket: connections in, calls to the desk, answers out.

One connection is one call. Nothing that a client does, or leaves undone, costs more than its own
connection: messages are capped and timed, and a peer that is not root is not read at all.
"""

from __future__ import annotations

import array
import asyncio
import os
import resource
import select
import socket
import struct
from contextlib import suppress

from cni_plugin.agent.calls import Call
from cni_plugin.agent.desk import Desk
from cni_plugin.agent.report import Sink
from cni_plugin.agent.wire import (
    DELIVERED,
    REQUEST_HEAD,
    Head,
    OtherVersion,
    WireError,
    encode_declined,
    encode_reply,
    parse_environ,
    parse_head,
)
from cni_plugin.cni.errors import InvalidEnvironment
from cni_plugin.cni.skel import error_reply
from cni_plugin.cni.values import Reply

CONNECTIONS_MAX = 2048
OWN_DESCRIPTORS = 128  # of the limit of open files: what is open without any call
DESCRIPTORS_A_CALL = 4  # its connection and namespace; a socket and a file while it runs
TOO_FEW_FILES = (
    "no call is served: the limit of open files is too low, launchers run their calls themselves;"
    f" raise it to {OWN_DESCRIPTORS + DESCRIPTORS_A_CALL} at least (LimitNOFILE= of systemd)"
)
REQUEST_LIMIT_S = 5.0  # from the first byte's connection to the request's last
DELIVERY_LIMIT_S = (
    5.0  # for an answer to be taken, where the launcher did not say how long it waits
)
ACCEPT_PAUSE_S = 0.1
ACCEPTS = 8  # connections at a time
PIECE_BYTES = 1 << 17
DESCRIPTORS_MAX = 4  # room for more than the one that is expected, so that all can be closed
UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid


class Server:
    """The listening socket and its connections."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listener: socket.socket, desk: Desk, sink: Sink
    ) -> None:
        self.loop = loop
        self.desk = desk
        self.sink = sink
        self.connections: set[Connection] = set()
        self.closed = asyncio.Event()  # one of them was
        files, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = min(CONNECTIONS_MAX, max(0, (files - OWN_DESCRIPTORS) // DESCRIPTORS_A_CALL))
        if not self._most:
            sink.event("warning", TOO_FEW_FILES, {"limit": files})
        self._listener = listener
        listener.setblocking(False)
        self._again: asyncio.TimerHandle | None = None
        self._listen()

    def _listen(self) -> None:
        self.loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS):  # a call may be served within: others want their turn too
            try:
                client, _address = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor left: the backlog keeps them for a while
                self.sink.event("error", f"a call cannot be accepted: {error.strerror}", {})
                self.loop.remove_reader(self._listener)
                self._again = self.loop.call_later(ACCEPT_PAUSE_S, self._listen)
                return
            if not self._is_ours(client):
                client.close()
            elif len(self.connections) < self._most:
                Connection(self, client)
            else:
                with suppress(OSError):
                    client.send(encode_declined())  # its launcher runs the call itself
                client.close()

    def _is_ours(self, client: socket.socket) -> bool:
        """Only our own user (root) may ask: the socket's folder says so as well."""
        pid, uid, _gid = UCRED.unpack(
            client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
        )
        if uid == os.geteuid():
            return True
        self.sink.event("warning", "a client of another user was refused", {"pid": pid, "uid": uid})
        return False

    async def drain(self, limit_s: float) -> bool:
        """Waits until every answer has been taken; False when that takes too long."""
        try:
            async with asyncio.timeout(limit_s):
                while self.connections:
                    self.closed.clear()
                    await self.closed.wait()
        except TimeoutError:
            return False
        return True

    def listen_at(self, listener: socket.socket) -> None:
        """From now on at another socket: the file of the one before is gone."""
        self.stop_listening()
        self._listener = listener
        listener.setblocking(False)
        self._listen()

    def hang_up(self) -> None:
        """Leaves every client that is still there."""
        for connection in list(self.connections):
            connection.leave()

    def stop_listening(self) -> None:
        """From now on launchers find nobody and run their calls themselves."""
        if self._again is not None:
            self._again.cancel()
        self.loop.remove_reader(self._listener)
        self._listener.close()


class Connection:
    """One call: its request is read, its answer written, its delivery awaited."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._loop = server.loop
        self._client = client
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._head: Head | None = None
        self._call: Call | None = None
        self._out = b""
        self._writing = False  # the loop waits until the client takes more
        self._reply: Reply | None = None
        client.setblocking(False)
        self._limit = self._loop.call_later(REQUEST_LIMIT_S, self._too_slow)
        # By number: of a socket the loop would make a text whenever it does not know it yet.
        self._loop.add_reader(client.fileno(), self._readable)
        server.connections.add(self)  # before it may end
        self._readable()  # a launcher has mostly sent all by the time it is accepted

    # reading the request

    def _readable(self) -> None:
        try:
            self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OtherVersion as error:
            self._server.sink.event("warning", f"declined: {error}", {})
            self._send(encode_declined())
        except WireError as error:
            self._server.sink.event("warning", f"a request was refused: {error}", {})
            self._send(encode_reply(error_reply(InvalidEnvironment(str(error)))))
        except OSError:
            self._gone()

    def _receive(self) -> None:
        data, ancillary, flags, _address = self._client.recvmsg(
            PIECE_BYTES, socket.CMSG_SPACE(4 * DESCRIPTORS_MAX), socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, content in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) // 4 * 4])
                self._descriptors += numbers
        if not data:
            self._gone()
            return
        if self._call is not None or self._out:
            self._delivered(data)
            return
        self._received += data
        if len(self._descriptors) > 1:
            raise WireError("more than one descriptor came with the request")
        if flags & socket.MSG_CTRUNC and not self._descriptors:
            raise OtherVersion("no descriptor is left for the pod's namespace")
        self._parse()

    def _parse(self) -> None:
        if self._head is None:
            if len(self._received) < REQUEST_HEAD.size:
                return
            self._head = parse_head(self._received)
        more = len(self._received) - REQUEST_HEAD.size - self._head.body_bytes
        if more < 0:
            return
        if more > 0:
            raise WireError(f"{more} bytes follow the request")
        if self._head.has_netns != bool(self._descriptors):
            raise WireError("the request and what came with it differ about a descriptor")
        middle = REQUEST_HEAD.size + self._head.environ_bytes
        environ = parse_environ(bytes(self._received[REQUEST_HEAD.size : middle]))
        stdin = bytes(self._received[middle:])
        self._received.clear()
        self._limit.cancel()
        descriptor = self._descriptors.pop() if self._descriptors else None
        self._call = Call(environ, stdin, descriptor, self._ended)
        self._call.abandoned = _has_hung_up(self._client)  # which is not read before the next turn
        self._server.desk.submit(self._call)

    # writing the answer

    def _ended(self, reply: Reply | None) -> None:
        self._reply = reply
        assert self._call is not None  # noqa: S101  for the type checker
        if self._call.abandoned:
            self._undo()
            self._close()
            return
        self._send(encode_declined() if reply is None else encode_reply(reply))

    def _send(self, data: bytes) -> None:
        self._limit.cancel()
        # A launcher that was stopped for a while prints what it finds: it must still be true then.
        patience_s = self._head.patience_s if self._head else 0.0
        self._limit = self._loop.call_later(max(patience_s, DELIVERY_LIMIT_S), self._too_slow)
        self._out = data
        self._writable()

    def _writable(self) -> None:
        try:
            self._out = self._out[self._client.send(self._out) :] if self._out else b""
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._gone()
            return
        if self._out:
            self._loop.add_writer(self._client.fileno(), self._writable)
            self._writing = True
            return
        self._stop_writing()
        if self._call is None:  # an answer to what was no request: nobody confirms it
            self._close()

    # the end

    def _delivered(self, data: bytes) -> None:
        if self._reply is not None and not self._out and data == DELIVERED:
            self._close()
        else:
            self._gone()

    def leave(self) -> None:
        """As if the client had gone."""
        self._gone()

    def _too_slow(self) -> None:
        self._server.sink.event("warning", "a client took too long and was left", {})
        self._gone()

    def _gone(self) -> None:
        """The client has left. A call that was not begun is not begun; an ADD whose answer nobody
        took is undone."""
        call = self._call
        if call is not None and self._client.fileno() >= 0:
            if self._reply is None and not self._out:
                call.abandoned = True
                self._stop_listening()
                return  # until the desk has done with it
            self._undo()
        self._close()

    def _undo(self) -> None:
        call, reply = self._call, self._reply
        if call is None or reply is None or reply.status or call.verb != "ADD":
            return
        fields = {key: call.environ.get(key, "") for key in ("CNI_CONTAINERID", "CNI_IFNAME")}
        self._server.sink.event("warning", "nobody took the answer to ADD: it is undone", fields)
        self._server.desk.undo(call, self._server.sink)

    def _stop_listening(self) -> None:
        self._loop.remove_reader(self._client.fileno())
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._client.fileno())
            self._writing = False

    def _close(self) -> None:
        self._limit.cancel()
        if self._client.fileno() >= 0:
            self._stop_listening()
            self._client.close()
        for descriptor in self._descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._descriptors.clear()
        self._server.connections.discard(self)
        self._server.closed.set()


def _has_hung_up(client: socket.socket) -> bool:
    """Whether the other end is closed altogether, not for sending alone."""
    asked = select.poll()
    asked.register(client, 0)  # POLLHUP is told in any case
    return bool(asked.poll(0))
