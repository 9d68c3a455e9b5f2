"""A real agent on a node, and the least of a client for its socket."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cni_plugin.agent.wire import DELIVERED, FLAG_NETNS, REPLY_HEAD, REQUEST_HEAD, REQUEST_MAGIC
from tests.support.node import PLUGIN_PATH, Node, Pod, wait_until

SOCKET = "/run/podwire/agent.sock"
LIMIT_S = 60.0
CONFIG = "metrics: 'off'\nlog: {format: json, level: debug}\n"


class Agent:
    """`podwire agent` in a node's namespaces."""

    def __init__(self, node: Node, config: str = CONFIG, prefix: Sequence[str] = ()) -> None:
        self.node = node
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by stop
        path = node.path("/run/agent.yaml")
        path.write_text(config)
        program = ["env", f"PATH={PLUGIN_PATH}", *prefix, str(node.cni_bin / "podwire"), "agent"]
        self.process = node.spawn(*program, "--config", "/run/agent.yaml", stderr=self._log)
        wait_until(lambda: '"podwire\'s agent serves"' in self._text(), "the agent serves")

    def _text(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode()

    def log(self) -> list[dict[str, Any]]:
        """What it has written so far, an object a line."""
        return [json.loads(line) for line in self._text().splitlines()]

    def rounds(self, what: str) -> list[str]:
        """The messages of one of its rounds: repair, garbage, recovery."""
        return [line["message"] for line in self.log() if line.get("round") == what]

    def call(self, env: Mapping[str, str], conf: Mapping[str, Any], netns: str = "") -> Any:
        """One call; the document that was answered, None for an empty answer."""
        environ = {"PODWIRE_REQUEST": uuid.uuid4().hex, "CNI_PATH": "/opt/cni/bin", **env}
        packed = b"".join(f"{key}={value}".encode() + b"\0" for key, value in environ.items())
        stdin = json.dumps(conf).encode()
        flags = FLAG_NETNS if netns else 0
        head = REQUEST_HEAD.pack(REQUEST_MAGIC, 1, flags, len(packed), len(stdin), 110_000)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(str(self.node.path(SOCKET)))
            _send(client, head + packed + stdin, self.node, netns)
            _, _, kind, status, length, more = REPLY_HEAD.unpack(_exactly(client, REPLY_HEAD.size))
            stdout, stderr = _exactly(client, length), _exactly(client, more)
            client.sendall(DELIVERED)
        assert (kind, status) == (0, 0), (kind, status, stdout, stderr)
        return json.loads(stdout) if stdout else None

    def run(self, verb: str, pod: Pod, conf: Mapping[str, Any], ifname: str = "eth0") -> Any:
        """A verb for a pod."""
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.netns,
            "CNI_IFNAME": ifname,
        }
        return self.call(env, conf, pod.netns)

    def stop(self) -> None:
        """Ends it as systemd does; AssertionError unless it ends well."""
        self.process.terminate()
        status = self.process.wait(LIMIT_S)
        assert status == 0, self._text()

    def end(self) -> None:
        """Ends it at once, if it is still there."""
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._log.close()


def _send(client: socket.socket, data: bytes, node: Node, netns: str) -> None:
    if not netns:
        client.sendall(data)
        return
    descriptor = os.open(node.path(netns), os.O_RDONLY)
    try:
        rights = array.array("i", [descriptor])
        client.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    finally:
        os.close(descriptor)


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        assert piece, f"the agent hung up after {data!r}"
        data += piece
    return data


@contextlib.contextmanager
def running(node: Node, config: str = CONFIG, prefix: Sequence[str] = ()) -> Iterator[Agent]:
    """An agent for the length of a with block. prefix: a program that executes it."""
    agent = Agent(node, config, prefix)
    try:
        yield agent
    finally:
        agent.end()
