"""The programs that are run, and what is said of those that are not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REMEDIES = {
    "docker": "install Docker Engine (package docker.io of Debian and Ubuntu)",
    "kind": "install kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "install kubectl: https://kubernetes.io/docs/tasks/tools/",
}
MAKES_OWN = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "ARGS")
NO_DAEMON = (
    "docker is there, its daemon is not to be had: {reason}; start it (systemctl start docker), and"
    " see that this user may use it (group docker)"
)


class Missing(Exception):
    """What this machine lacks, a line each with the remedy."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


class Failed(Exception):
    """A step failed: the command and what it said."""


def say(line: str) -> None:
    """Progress and complaints go to stderr: stdout is the report's."""
    print(f"podwire: {line}", file=sys.stderr, flush=True)


def _environment() -> dict[str, str]:
    """kind's provider is the docker that was asked for; and a make that is run has its own
    variables, not those of the one that runs this."""
    kept = {name: value for name, value in os.environ.items() if name not in MAKES_OWN}
    return {**kept, "KIND_EXPERIMENTAL_PROVIDER": "docker"}


class Tools:
    """Runs programs; kubectl in the context of the cluster of that name."""

    def __init__(self, name: str) -> None:
        self._kubectl = ("kubectl", "--context", f"kind-{name}")

    def need(self, *names: str) -> None:
        """Raises Missing with everything that is not there."""
        lines = [f"{name} is missing; {REMEDIES[name]}" for name in names if not shutil.which(name)]
        if "docker" in names and shutil.which("docker"):
            done = self.run("docker", "info", "--format", "{{.ServerVersion}}", check=False)
            if done.returncode:
                reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
                lines.append(NO_DAEMON.format(reason=(reason or ["docker info failed"])[0]))
        if lines:
            raise Missing(lines)

    def run(
        self, *command: str, stdin: str | None = None, check: bool = True, shown: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """The finished program. shown: what it says goes to stderr at once. Raises Failed."""
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=sys.stderr if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=_environment(),
            check=False,
        )
        if check and done.returncode:
            words = "" if shown else f": {(done.stderr or done.stdout or '').strip()}"
            raise Failed(f"`{' '.join(command)}` failed with status {done.returncode}{words}")
        return done

    def kubectl(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The same of kubectl."""
        return self.run(*self._kubectl, *arguments, **options)
