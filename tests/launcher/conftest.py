"""The launcher as built, a scripted agent, and a Python that only tells how it was executed."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import need

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "cni_plugin" / "launcher" / "launcher.c"
SANITIZERS = (
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
RECORDER = """#!{python} -I
import json, os, sys
with open({report!r}, "w") as report:
    json.dump(
        {{
            "argv": sys.argv,
            "environ": dict(os.environ),
            "stdin": os.read(0, 1 << 22).decode() if os.environ.get("CNI_COMMAND") else None,
            "descriptors": {{
                x: os.readlink("/proc/self/fd/" + x)
                for x in os.listdir("/proc/self/fd")
                if os.path.lexists("/proc/self/fd/" + x)
            }},
        }},
        report,
    )
print("from Python")
sys.exit(3)
"""


@dataclasses.dataclass
class Ran:
    """How one run of the launcher ended, and how it executed Python, if it did."""

    status: int
    stdout: bytes
    stderr: str
    direct: dict[str, Any] | None

    @property
    def error(self) -> dict[str, Any]:
        """The error JSON that it printed itself."""
        assert (self.status, self.direct) == (1, None), self
        assert self.stdout.endswith(b"}\n"), self
        error = json.loads(self.stdout)
        assert error.keys() == {"cniVersion", "code", "msg", "details"}
        assert error["cniVersion"] == "1.0.0"
        return error


Run = Callable[..., Ran]


def compile_c(target: Path, *arguments: str | Path) -> Path:
    """`target`, compiled with the sanitizers."""
    need.tool("gcc")
    subprocess.run(["gcc", *SANITIZERS, *arguments, "-o", target], check=True)
    return target


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher that ends with a report at the first wrong access."""
    return compile_c(tmp_path_factory.mktemp("sanitized") / "podwire", SOURCE)


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """Where the scripted agent listens, and the launcher looks."""
    return tmp_path / "agent.sock"


@pytest.fixture
def run(launcher: Path, tmp_path: Path, socket_path: Path) -> Run:
    """One run of the launcher in an environment that holds only what is said here."""
    report = tmp_path / "report.json"
    recorder = tmp_path / "python3"
    recorder.write_text(RECORDER.format(python=sys.executable, report=str(report)))
    recorder.chmod(0o700)

    def once(
        env: Mapping[str, str | bytes | None] | None = None,
        stdin: bytes | int = b"{}",
        *,
        arguments: Sequence[str] = (),
        program: Path = launcher,
        stdout: int = subprocess.PIPE,
        closed: Sequence[int] = (),
    ) -> Ran:
        report.unlink(missing_ok=True)
        environment = {
            "CNI_COMMAND": "ADD",
            "PODWIRE_SOCKET": str(socket_path),
            "PODWIRE_PYTHON": str(recorder),
            **(env or {}),
        }
        close = " ".join(f"{number}>&-" for number in closed)
        ended = subprocess.run(
            # A shell can start a program with a stream that is not there.
            ["/bin/sh", "-c", f'exec "$@" {close}', "sh", program, *arguments],
            env={name: value for name, value in environment.items() if value is not None},
            input=stdin if isinstance(stdin, bytes) else None,
            stdin=stdin if isinstance(stdin, int) else None,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            timeout=40,
        )
        direct = json.loads(report.read_text()) if report.exists() else None
        return Ran(ended.returncode, ended.stdout or b"", ended.stderr.decode(), direct)

    return once
