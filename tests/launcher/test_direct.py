"""The call without an agent: the same Python, executed in the launcher's place."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launcher.conftest import Ran, Run
from tests.launcher.peer import Peer, answer

AS_PYTHON = ["-I", "-B", "-m", "cni_plugin"]


def assert_direct(ran: Ran, stdin: str) -> None:
    """It ran as a new call, with nothing of the launcher's left behind."""
    assert (ran.status, ran.stdout) == (3, b"from Python\n"), ran
    assert ran.direct is not None
    assert ran.direct["argv"][1:] == AS_PYTHON
    assert ran.direct["stdin"] == stdin
    assert "PODWIRE_REQUEST" not in ran.direct["environ"]
    report = "3"  # the recorder's own
    assert ran.direct["descriptors"].keys() == {"0", "1", "2", report}


def test_an_absent_agent(run: Run) -> None:
    ran = run({"CNI_NETNS": "/proc/self/ns/net", "TRACEPARENT": "t", "OTHER": "o"}, b"config")
    assert_direct(ran, "config")
    assert ran.stderr == ""
    assert ran.direct is not None
    assert ran.direct["environ"].items() >= {"CNI_COMMAND": "ADD", "OTHER": "o"}.items()


def test_as_podwire_ipam_it_asks_no_agent(
    run: Run, launcher: Path, tmp_path: Path, socket_path: Path
) -> None:
    program = tmp_path / "podwire-ipam"
    shutil.copy(launcher, program)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        listener.setblocking(False)
        ran = run(stdin=b"config", program=program)
        with pytest.raises(BlockingIOError):  # nobody has come
            listener.accept()
    assert (ran.status, ran.stdout) == (3, b"from Python\n"), ran
    assert ran.direct is not None
    assert ran.direct["argv"][1:] == ["-I", "-B", "-m", "ipam.plugin"]
    assert ran.direct["stdin"] == "config"


def test_a_socket_that_nobody_serves(run: Run, socket_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        listener.bind(str(socket_path))
    assert_direct(run(stdin=b"config"), "config")


def test_a_full_backlog(run: Run, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(socket_path))
        listener.listen(0)
        waiting.connect(str(socket_path))
        assert_direct(run(stdin=b"config"), "config")


def test_a_file_in_the_sockets_place(run: Run, socket_path: Path) -> None:
    socket_path.write_text("")
    assert_direct(run(), "{}")


def test_a_path_that_is_too_long_for_a_socket(run: Run) -> None:
    assert_direct(run({"PODWIRE_SOCKET": "/" + "a" * 107}), "{}")


@pytest.mark.parametrize("off", [{"PODWIRE_AGENT": "off"}, {"PODWIRE_SOCKET": ""}])
def test_the_agent_switched_off_is_not_asked(
    run: Run, socket_path: Path, off: dict[str, str]
) -> None:
    with Peer(socket_path, answer()) as peer:
        assert_direct(run(off), "{}")
    assert peer.request is None


def test_an_agent_of_another_user_gets_nothing(run: Run, socket_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can serve a socket as another user")

    def listen_as_nobody(listener: socket.socket) -> None:
        # The kernel keeps who called listen: that is whom SO_PEERCRED names.
        try:
            os.seteuid(65534)
        except OSError:
            pytest.skip("this user namespace has no other user")
        try:
            listener.listen()
        finally:
            os.seteuid(0)

    with Peer(socket_path, answer(), listen_as=listen_as_nobody) as peer:
        ran = run(stdin=b"config")
    assert_direct(ran, "config")
    assert ran.stderr == (
        f"podwire: the agent's socket {socket_path} is served by uid 65534, not by 0: "
        "the call runs without the agent\n"
    )
    assert peer.request is None


def test_the_largest_stdin_arrives_whole(run: Run) -> None:
    stdin = "0123456789abcdef" * (1 << 16)
    assert_direct(run(stdin=stdin.encode()), stdin)


@pytest.mark.parametrize("command", [None, ""])
def test_without_a_verb_it_is_the_command_line(run: Run, command: str | None) -> None:
    arguments = ["ipam", "ls", "", "-o json", 'a"b\n']
    ran = run({"CNI_COMMAND": command}, arguments=arguments)
    assert ran.direct is not None
    assert ran.direct["argv"][1:] == [*AS_PYTHON, *arguments]
    assert ran.status == 3


def test_the_command_line_reads_its_stdin_itself(run: Run, tmp_path: Path) -> None:
    shell = tmp_path / "cat"
    shell.write_text("#!/bin/sh\nexec cat\n")
    shell.chmod(0o700)
    stdin = b"x" * (2 << 20)  # more than a call may have
    ran = run({"CNI_COMMAND": None, "PODWIRE_PYTHON": str(shell)}, stdin)
    assert ran.stdout == stdin


def test_python_and_its_children_are_ended_by_sigpipe_again(run: Run, tmp_path: Path) -> None:
    shell = tmp_path / "signals"  # no Python: that ignores SIGPIPE itself
    shell.write_text("#!/bin/sh\nexec grep SigIgn /proc/self/status\n")
    shell.chmod(0o700)
    ran = run({"PODWIRE_PYTHON": str(shell)})
    ignored = int(ran.stdout.split()[1], 16)
    assert not ignored >> signal.SIGPIPE - 1 & 1


@pytest.mark.parametrize(
    ("python", "shown"),
    [
        ("absent", "absent"),
        ('a"b\\c\nd\te\x01\x7f', 'a"b\\c\nd\te\x01\x7f'),
        ("caf\udce9-ü", "caf\\xe9-\\xc3\\xbc"),
    ],
)
def test_without_python_the_error_names_both_ways(
    run: Run, tmp_path: Path, socket_path: Path, python: str, shown: str
) -> None:
    error = run({"PODWIRE_PYTHON": os.fsencode(tmp_path / python)}).error
    assert error["code"] == 5
    assert error["msg"] == (
        f"{tmp_path}/{shown} cannot be executed: No such file or directory; "
        f"the agent's socket is {socket_path}"
    )
    assert "PODWIRE_PYTHON" in error["details"]


def test_a_long_path_leaves_the_error_whole(run: Run) -> None:
    both = {"PODWIRE_PYTHON": "/\x01" * 5000, "PODWIRE_SOCKET": "/\x02" * 5000}
    error = run(both).error
    assert error["msg"].count("\x01") == error["msg"].count("\x02") == 500


def test_paths_are_compiled_in(tmp_path: Path, launcher: Path) -> None:
    built = tmp_path / "podwire"
    script = Path(__file__).resolve().parent.parent.parent / "hack" / "launcher.sh"
    chosen = {"CC": "gcc", "PYTHON_TREE": f"{tmp_path}/tree", "AGENT_SOCKET": f"{tmp_path}/s"}
    subprocess.run([script, built], check=True, env={**os.environ, **chosen})

    def call() -> bytes:
        env = {"CNI_COMMAND": "ADD"}
        ran = subprocess.run([built], input=b"", env=env, capture_output=True, check=False)
        return ran.stdout

    assert json.loads(call())["msg"] == (
        f"{tmp_path}/tree/bin/python3 cannot be executed: No such file or directory; "
        f"the agent's socket is {tmp_path}/s"
    )
    with Peer(tmp_path / "s", answer(b"from the agent")):
        assert call() == b"from the agent"


def test_it_needs_no_loader_and_no_library(launcher: Path) -> None:
    """A node's image has neither the C library's files nor Python's."""
    ran = subprocess.run(["readelf", "-lW", launcher], capture_output=True, text=True, check=True)
    assert "GNU_RELRO" in ran.stdout
    assert "INTERP" not in ran.stdout
    stack = next(line for line in ran.stdout.splitlines() if "GNU_STACK" in line)
    assert " RW " in stack


def test_the_real_python_answers(run: Run) -> None:
    ran = run(
        {"CNI_COMMAND": "VERSION", "PODWIRE_PYTHON": sys.executable}, b'{"cniVersion":"1.0.0"}'
    )
    assert ran.status == 0, ran
    assert "1.1.0" in json.loads(ran.stdout)["supportedVersions"]


def test_the_real_command_line_answers(run: Run) -> None:
    ran = run({"CNI_COMMAND": None, "PODWIRE_PYTHON": sys.executable}, arguments=["--version"])
    assert ran.stdout.startswith(b"podwire ")
