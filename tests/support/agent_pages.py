"""A real agent on a node, and a client that speaks the launcher's part to it.

    with agent_on(node, metrics="unix:/run/podwire/metrics.sock") as agent:
        answer = agent.add(pod, CONF)           # an Answer: kind, status, stdout, stderr, json
        agent.delete(pod, CONF)
        status, text = agent.get("/metrics")    # over the socket of `metrics`
    agent.log()                                 # its stderr, a list of lines

agent_on(...) sees to it that the agent serves, and has ended in the end. Its keywords are keys of
the agent's config; without metrics there are none, so that several agents can be on one network.
"""

from __future__ import annotations

import array
import http.client
import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cni_plugin.agent.wire import (
    DELIVERED,
    FLAG_NETNS,
    REPLY_HEAD,
    REQUEST_HEAD,
    REQUEST_MAGIC,
    VERSION,
)
from tests.support.node import Node, Pod, wait_until

SOCKET = "/run/podwire/agent.sock"
METRICS = "/run/podwire/metrics.sock"
CONFIG, LOG = "/run/agent.yaml", "/run/agent.log"
PATIENCE_MS = 30_000
LIMIT_S = 30.0


class Answer(NamedTuple):
    """What the agent sent. kind: wire.KIND_DONE or KIND_DECLINED."""

    kind: int
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def json(self) -> Any:
        """The document on stdout; None when there is none."""
        return json.loads(self.stdout) if self.stdout else None

    def ok(self) -> Answer:
        """Itself, after asserting success."""
        assert (self.kind, self.status) == (0, 0), self
        return self


def request(environ: Mapping[str, str], stdin: bytes, *, netns: bool) -> bytes:
    """The message of a call."""
    entries = b"".join(f"{k}={v}".encode() + b"\0" for k, v in environ.items())
    flags = FLAG_NETNS if netns else 0
    head = REQUEST_HEAD.pack(REQUEST_MAGIC, VERSION, flags, len(entries), len(stdin), PATIENCE_MS)
    return head + entries + stdin


def exchange(path: Path, environ: Mapping[str, str], stdin: bytes, netns: Path | None) -> Answer:
    """One call from beginning to end. Raises OSError and EOFError."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(str(path))
        message = request(environ, stdin, netns=netns is not None)
        if netns is None:
            client.sendall(message)
        else:
            _send_with(client, message, netns)
        answer = _receive(client)
        client.sendall(DELIVERED)
        return answer


def _send_with(client: socket.socket, message: bytes, netns: Path) -> None:
    descriptor = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    try:
        rights = array.array("i", [descriptor])
        sent = client.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        os.close(descriptor)
    client.sendall(message[sent:])


def _receive(client: socket.socket) -> Answer:
    head = _exactly(client, REPLY_HEAD.size)
    _magic, _version, kind, status, out, err = REPLY_HEAD.unpack(head)
    return Answer(kind, status, _exactly(client, out), _exactly(client, err))


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise EOFError(f"the agent closed after {len(data)} of {count} bytes")
        data += piece
    return data


class _UnixHTTP(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("agent", timeout=LIMIT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(str(self._path))


def get(path: Path, page: str, method: str = "GET") -> tuple[int, str]:
    """Status and text of a page served on a unix socket. Raises OSError."""
    connection = _UnixHTTP(path)
    try:
        connection.request(method, page)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


class Agent:
    """An agent that runs on a node."""

    def __init__(self, node: Node, process: subprocess.Popen[str]) -> None:
        self.node = node
        self.process = process

    def call(self, environ: Mapping[str, str], conf: Any, netns: str | None = None) -> Answer:
        """One call. netns: a path of the node, opened as the launcher does."""
        full = {"CNI_PATH": str(self.node.cni_bin), "PODWIRE_REQUEST": uuid.uuid4().hex, **environ}
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        opened = self.node.path(netns) if netns else None
        return exchange(self.node.path(SOCKET), full, stdin, opened)

    def add(self, pod: Pod, conf: Any, **more: str) -> Answer:
        """ADD of eth0."""
        return self.call({**_attachment("ADD", pod), **more}, conf, pod.netns)

    def delete(self, pod: Pod, conf: Any, **more: str) -> Answer:
        """DEL of eth0."""
        return self.call({**_attachment("DEL", pod), **more}, conf, pod.netns)

    def get(self, page: str, method: str = "GET") -> tuple[int, str]:
        """A page on METRICS, for an agent with metrics=f"unix:{METRICS}"."""
        return get(self.node.path(METRICS), page, method)

    def log(self) -> list[str]:
        """The lines of its stderr so far."""
        return self.node.path(LOG).read_text().splitlines()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.ask_to_stop()
        return self.process.wait(LIMIT_S)


def _attachment(verb: str, pod: Pod) -> dict[str, str]:
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": pod.netns,
    }


def start(node: Node, config: Mapping[str, Any], **environ: str) -> subprocess.Popen[str]:
    """Starts an agent, which may still fail."""
    node.path(CONFIG).write_text(json.dumps({"metrics": "off", **config}))  # JSON is YAML
    with node.path(LOG).open("a") as log:
        return node.spawn(
            node.cni_bin / "podwire", "agent", "--config", CONFIG,
            stdin=subprocess.DEVNULL, stderr=log, env={**os.environ, **environ},
        )  # fmt: skip


@contextmanager
def agent_on(
    node: Node, environ: Mapping[str, str] | None = None, **config: Any
) -> Iterator[Agent]:
    """An agent that serves, until the end of the with block."""
    agent = Agent(node, start(node, config, **(environ or {})))
    try:
        wait_until(lambda: serves(node) or agent.process.poll() is not None, "the agent serves")
        assert agent.process.poll() is None, "\n".join(agent.log())
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait(LIMIT_S)


def serves(node: Node) -> bool:
    """Whether somebody accepts calls."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(node.path(SOCKET)))
        except OSError:
            return False
    return True
