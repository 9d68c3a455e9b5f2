"""Standard streams that are closed, full, or read by nobody: no traceback, and an honest status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cni_plugin.cli.app import CLOSED_PIPE, USAGE_ERROR

ROOT = Path(__file__).resolve().parent.parent.parent.parent
SAMPLE = str(ROOT / "manifests" / "samples" / "10-bridge.conflist")
# schema prints more than a buffer holds.
PRINTING = ["--help", "--version", f"validate {SAMPLE}", f"plan {SAMPLE}", "schema"]
PRINTING += ["completion bash", "ipam --help", "agent --check-config"]
CLOSED = "stdout cannot be written: Bad file descriptor"
FULL = "stdout cannot be written: No space left on device"


def run(podwire: Path, command: str, how: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of the command with the shell's redirections in `how`."""
    line = f'exec "$0" {command} {how}'
    done = subprocess.run(
        ["/bin/sh", "-c", line, str(podwire)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", PRINTING)
@pytest.mark.parametrize(("how", "why"), [(">&-", CLOSED), (">/dev/full", FULL)])
def test_what_cannot_be_printed_is_an_error(
    podwire: Path, command: str, how: str, why: str
) -> None:
    assert run(podwire, command, how) == (1, "", f"podwire: {why}\n")


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_has_left_is_none(podwire: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [podwire, *command.split()],
            stdout=writing, stderr=subprocess.PIPE, timeout=20, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (CLOSED_PIPE, b"")


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_complaint_that_cannot_be_printed_is_lost(podwire: Path, how: str) -> None:
    assert run(podwire, "nonsense", how) == (USAGE_ERROR, "", "")
    assert run(podwire, "--version", how)[0] == 0


def test_with_all_streams_closed_the_status_is_left(podwire: Path) -> None:
    assert run(podwire, "--version", "<&- >&- 2>&-")[0] == 1
    assert run(podwire, "nonsense", "<&- >&- 2>&-")[0] == USAGE_ERROR


@pytest.mark.parametrize("command", ["validate -", "plan -"])
def test_a_closed_stdin_cannot_be_read(podwire: Path, command: str) -> None:
    status, out, complaint = run(podwire, command, "<&-")
    assert status in {1, USAGE_ERROR}
    assert "Bad file descriptor" in out + complaint
    assert "Traceback" not in complaint


def test_no_file_gets_a_closed_streams_number(tmp_path: Path) -> None:
    """Otherwise what is printed lands in it."""
    program = (
        "from cni_plugin.cli.streams import take_streams; take_streams();"
        f" print(open({str(tmp_path / 'file')!r}, 'w').fileno() > 2, file=open('/dev/fd/9', 'w'))"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 9>&1 <&- >&- 2>&-', sys.executable, program],
        capture_output=True, text=True, timeout=20, check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"
