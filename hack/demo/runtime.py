"""A container runtime's part of CNI, as libcni plays it: config lists, CNI_PATH, CNI_*, stdin.

It knows nothing of podwire: an executable is found by its `type`, and only its stdout, stderr and
exit status count.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]

PLUGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IFNAME = "eth0"
LIMIT_S = 30.0


class Refused(Exception):
    """A plugin's error, as a runtime would log it."""

    def __init__(self, plugin: str, verb: str, error: Json) -> None:
        self.code = int(error.get("code", 0))
        self.details = str(error.get("details") or "")
        self.message = str(error.get("msg", "no message"))
        super().__init__(
            f'plugin type="{plugin}" failed ({verb.lower()}): {self.message}'
            + (f"; {self.details}" if self.details else "")
        )


@dataclass
class Sandbox:
    """A pod as a runtime knows it; result is what ADD answered."""

    name: str
    container_id: str
    netns: str
    result: Json | None = None


@dataclass
class Runtime:
    """Runs the chain of one config list. enter: the command that enters the node, when it is
    another than this one. notes: what the plugins wrote to stderr."""

    conf_file: Path
    cni_path: Path
    enter: tuple[str, ...] = ()
    notes: dict[str, None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._list: Json = json.loads(self.conf_file.read_text())

    def add(self, pod: Sandbox) -> float:
        """ADD along the chain; the milliseconds it took."""
        started = time.perf_counter()
        result: Json | None = None
        for plugin in self._list["plugins"]:
            result = self._run("ADD", plugin, pod, pod.netns, {"prevResult": result})
        pod.result = result
        return (time.perf_counter() - started) * 1000

    def check(self, pod: Sandbox) -> float:
        """CHECK along the chain, with ADD's result; the milliseconds it took."""
        started = time.perf_counter()
        for plugin in self._list["plugins"]:
            self._run("CHECK", plugin, pod, pod.netns, {"prevResult": pod.result})
        return (time.perf_counter() - started) * 1000

    def delete(self, pod: Sandbox, *, netns: str | None = None) -> float:
        """DEL in reverse, with ADD's result. netns "": the runtime knows that it is gone."""
        started = time.perf_counter()
        path = pod.netns if netns is None else netns
        for plugin in reversed(self._list["plugins"]):
            self._run("DEL", plugin, pod, path, {"prevResult": pod.result})
        return (time.perf_counter() - started) * 1000

    def collect(self, living: list[Sandbox]) -> float:
        """GC with the attachments that are still valid."""
        started = time.perf_counter()
        valid = [{"containerID": pod.container_id, "ifname": IFNAME} for pod in living]
        for plugin in self._list["plugins"]:
            self._run("GC", plugin, None, "", {"cni.dev/valid-attachments": valid})
        return (time.perf_counter() - started) * 1000

    def status(self) -> float:
        """STATUS, whether ADD can be served; the milliseconds it took."""
        started = time.perf_counter()
        for plugin in self._list["plugins"]:
            self._run("STATUS", plugin, None, "", {})
        return (time.perf_counter() - started) * 1000

    def _run(
        self, verb: str, plugin: Json, pod: Sandbox | None, netns: str, extra: Json
    ) -> Json | None:
        """One plugin, one verb. Raises Refused with the plugin's own error."""
        head = {"cniVersion": self._list["cniVersion"], "name": self._list["name"]}
        given = {key: value for key, value in extra.items() if value is not None}
        try:
            done = subprocess.run(
                [*self.enter, self.cni_path / plugin["type"]],
                input=json.dumps({**plugin, **head, **given}).encode(),
                capture_output=True,
                env=_environment(verb, pod, netns, self.cni_path),
                cwd="/",
                timeout=LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(plugin["type"], verb, {"msg": f"no answer in {LIMIT_S} s"}) from error
        self._note(done.stderr)
        answer = _answer(done.stdout, done.stderr)
        if done.returncode != 0:
            raise Refused(plugin["type"], verb, answer or {"msg": f"exit {done.returncode}"})
        return answer

    def _note(self, stderr: bytes) -> None:
        for line in stderr.decode(errors="replace").splitlines():
            self.notes[line] = None


def _answer(stdout: bytes, stderr: bytes) -> Json | None:
    if not stdout.strip():
        return None
    try:
        return dict(json.loads(stdout))
    except ValueError:
        shown = (stdout + stderr).decode(errors="replace")
        return {"code": 999, "msg": f"stdout is no JSON: {shown[:500]}"}


def _environment(verb: str, pod: Sandbox | None, netns: str, path: Path) -> dict[str, str]:
    """As little as a runtime can be relied on to give."""
    name = pod.name if pod else ""
    args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={name}" if pod else ""
    return {
        "PATH": PLUGIN_PATH,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id if pod else "",
        "CNI_NETNS": netns,
        "CNI_IFNAME": IFNAME if pod else "",
        "CNI_ARGS": args,
        "CNI_PATH": os.fspath(path),
    }
