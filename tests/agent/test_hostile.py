"""Nothing that a client does, or leaves undone, disturbs the agent or its other clients."""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cni_plugin.agent.wire import (
    ENVIRON_MAX,
    FLAG_NETNS,
    KIND_DECLINED,
    KIND_DONE,
    REPLY_HEAD,
    REQUEST_HEAD,
    REQUEST_MAGIC,
    STDIN_MAX,
)
from tests.netns.kit import conf, env
from tests.support.agent import SOCKET, Agent
from tests.support.node import Node, Pod, wait_until

Head = tuple[int, int, bytes]  # kind, exit status, stdout
VERSION_CALL = b"CNI_COMMAND=VERSION\0"


def request(
    environ: bytes = VERSION_CALL,
    stdin: bytes = b"{}",
    *,
    magic: bytes = REQUEST_MAGIC,
    version: int = 1,
    flags: int = 0,
    environ_bytes: int | None = None,
    stdin_bytes: int | None = None,
) -> bytes:
    """A request, with what is given in place of what would be right."""
    sizes = (
        len(environ) if environ_bytes is None else environ_bytes,
        len(stdin) if stdin_bytes is None else stdin_bytes,
    )
    return REQUEST_HEAD.pack(magic, version, flags, *sizes, 1000) + environ + stdin


@contextmanager
def connected(node: Node) -> Iterator[socket.socket]:
    """A client of the node's agent."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(str(node.path(SOCKET)))
        yield client


def answer(client: socket.socket) -> Head | None:
    """What comes back until the agent has said all; None when it says nothing."""
    data = b""
    while len(data) < REPLY_HEAD.size:
        piece = client.recv(1 << 16)
        if not piece:
            return None
        data += piece
    _magic, _version, kind, status, length, _more = REPLY_HEAD.unpack_from(data)
    while len(data) < REPLY_HEAD.size + length:
        data += client.recv(1 << 16)
    return kind, status, data[REPLY_HEAD.size :][:length]


def ask(node: Node, data: bytes, descriptors: Sequence[int] = ()) -> Head | None:
    """One request, whatever it is, and its answer."""
    with connected(node) as client:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        client.sendmsg([data], rights if descriptors else [])
        found = answer(client)
        if found is not None:
            with suppress(BrokenPipeError):  # a refusal needs no confirmation
                client.sendall(b"k")
        return found


@pytest.fixture(autouse=True)
def serves_on(node: Node, agent: Agent) -> Iterator[None]:
    """After each test the agent still serves, and has kept no descriptor."""
    pod = node.pod()  # a first one: workers keep what they open for it
    for verb in ("ADD", "DEL"):
        agent.run(verb, pod, conf())
    before = _settled(agent)
    yield
    _serves(node)
    wait_until(lambda: _descriptors(agent) <= before, "no descriptor is kept")


def _settled(agent: Agent) -> int:
    """How many descriptors it has when it has closed what it is about to close."""
    seen: list[int] = []

    def same() -> bool:
        seen.append(_descriptors(agent))
        return len(seen) > 5 and len(set(seen[-5:])) == 1

    wait_until(same, "as many descriptors as before")
    return seen[-1]


def _serves(node: Node) -> None:
    found = ask(node, request())
    assert found is not None
    assert found[:2] == (KIND_DONE, 0)


def _descriptors(agent: Agent) -> int:
    return len(os.listdir(f"/proc/{agent.process.pid}/fd"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(magic=b"GET "), id="another protocol"),
        pytest.param(request(environ=b"CNI_COMMAND=VERSION"), id="no NUL at the end"),
        pytest.param(request(environ_bytes=ENVIRON_MAX + 1), id="too much environment"),
        pytest.param(request(stdin_bytes=STDIN_MAX + 1), id="too much stdin"),
        pytest.param(request(environ_bytes=0xFFFFFFFF, stdin_bytes=0xFFFFFFFF), id="4 GiB"),
        pytest.param(request() + b"more", id="more than said"),
        pytest.param(request(flags=FLAG_NETNS), id="a descriptor is said, none comes"),
        pytest.param(request(b"\xff\xfe=\xff\0=\0\0"), id="garbage for an environment"),
        pytest.param(request(b"CNI_COMMAND=ADD\0", b"\xff\xfe{"), id="garbage for a config"),
    ],
)
def test_what_is_no_request_is_refused(node: Node, data: bytes) -> None:
    found = ask(node, data)
    assert found is not None
    kind, status, stdout = found
    # An environment without CNI_COMMAND asks for the version text, as the executable gives it.
    assert (kind, status) in {(KIND_DONE, 1), (KIND_DONE, 0)}
    assert status == 0 or b'"code"' in stdout


def test_a_socket_that_was_removed_is_made_again(node: Node, agent: Agent) -> None:
    node.path(SOCKET).unlink()
    wait_until(node.path(SOCKET).exists, "the socket is there again")
    _serves(node)
    assert any("made again" in line["message"] for line in agent.log())


def test_a_folder_that_was_removed_is_made_again(node: Node, agent: Agent) -> None:
    node.run("rm", "-r", str(Path(SOCKET).parent))
    wait_until(node.path(SOCKET).exists, "the socket is there again")
    _serves(node)
    assert any("made again" in line["message"] for line in agent.log())


def test_a_newer_launcher_is_declined(node: Node) -> None:
    found = ask(node, request(version=2))
    assert found == (KIND_DECLINED, 0, b"")


@pytest.mark.parametrize("size", [0, 1, 19, 20, 30])
def test_half_a_request_is_forgotten_with_its_client(node: Node, size: int) -> None:
    with connected(node) as client:
        client.sendall(request()[:size])


@pytest.mark.timeout(60)
def test_a_client_that_hangs_is_left_and_others_are_served_meanwhile(node: Node) -> None:
    with connected(node) as silent, connected(node) as half:
        half.sendall(request()[:25])
        _serves(node)
        assert answer(silent) is None
        assert answer(half) is None


@pytest.mark.timeout(60)
def test_a_client_that_never_takes_its_answer_is_left(node: Node) -> None:
    with connected(node) as client:
        client.sendall(request())
        found = answer(client)
        assert found is not None
        assert client.recv(1) == b""  # without the confirmation the agent hangs up


def test_a_thousand_silent_clients_do_not_keep_others_out(node: Node) -> None:
    silent = [socket.socket(socket.AF_UNIX) for _ in range(900)]
    try:
        for client in silent:
            client.connect(str(node.path(SOCKET)))
        _serves(node)
    finally:
        for client in silent:
            client.close()


def _add(pod: Pod) -> bytes:
    variables = env("ADD", pod).items()
    return b"".join(f"{key}={value}".encode() + b"\0" for key, value in variables)


def _bad(kind: str, node: Node, folder: Path) -> int:
    if kind == "file":
        return os.open(folder / "file", os.O_RDWR | os.O_CREAT)
    if kind == "user":
        return os.open("/proc/self/ns/user", os.O_RDONLY)
    if kind == "mount":
        return os.open("/proc/self/ns/mnt", os.O_RDONLY)
    if kind == "socket":
        return socket.socket(socket.AF_UNIX).detach()
    return os.open(f"/proc/{node.pid}/ns/net", os.O_RDONLY)


@pytest.mark.parametrize("kind", ["file", "user", "mount", "socket", "host"])
def test_a_descriptor_that_is_no_pods_namespace_is_refused(
    node: Node, agent: Agent, tmp_path: Path, kind: str
) -> None:
    pod, bad = node.pod(), _bad(kind, node, tmp_path)
    before = node.links()
    try:
        data = request(_add(pod), _document(), flags=FLAG_NETNS)
        found = ask(node, data, [bad])
    finally:
        os.close(bad)
    assert found is not None
    assert found[:2] == (KIND_DONE, 1)
    assert b'"code": 4' in found[2]
    assert node.links() == before


def test_several_descriptors_are_refused_and_closed(node: Node) -> None:
    pod = node.pod()
    opened = [os.open(node.path(pod.netns), os.O_RDONLY) for _ in range(3)]
    try:
        found = ask(node, request(_add(pod), _document(), flags=FLAG_NETNS), opened)
    finally:
        for one in opened:
            os.close(one)
    assert found is not None
    assert found[1] == 1


def _document() -> bytes:
    return json.dumps(conf()).encode()


# A client of another user; the agent's folder would keep it out, so it is opened for the test.
_STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(bytes.fromhex(sys.argv[2]))
print(len(client.recv(100)))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_read_at_all(node: Node, agent: Agent) -> None:
    node.run("chmod", "0755", "/run/podwire")
    node.run("chmod", "0666", SOCKET)
    program = ("/usr/bin/python3", "-I", "-S", "-c", _STRANGER, SOCKET, request().hex())
    done = node.run(*program, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this user namespace has no other user")
    hung_up = ("ConnectionResetError", "BrokenPipeError")
    assert done.stdout == "0\n" or any(name in done.stderr for name in hung_up), done
    wait_until(lambda: any("another user" in line["message"] for line in agent.log()), "it is told")
