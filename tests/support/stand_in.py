"""Stand-ins for docker, kind, kubectl and make: they tell what they were asked, and answer as the
real ones would of a cluster that works, or that has the faults a test names.

    stand_in = StandIn(tmp_path, family="dual", faults=["cross"])
    done = stand_in.run("--ip-family", "dual")
    stand_in.calls                            # [["kind", "get", "clusters"], ...]; .stdin likewise

This proves hack/kind-up.sh's side of the talk, and nothing of the real programs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("docker", "kind", "kubectl", "make")
Json = dict[str, Any]

_PROGRAM = """#!{python} -ISB
import sys
sys.path.insert(0, {root!r})
from tests.support.stand_in_answers import answer
sys.exit(answer({folder!r}))
"""


class StandIn:
    """Programs on a PATH of their own. without: those that are missing.
    faults: see stand_in_answers."""

    def __init__(
        self,
        folder: Path,
        family: str = "ipv4",
        faults: Iterable[str] = (),
        without: Iterable[str] = (),
        clusters: Sequence[str] = (),
    ) -> None:
        self._bin, self._log = folder / "bin", folder / "calls"
        self._bin.mkdir()
        self._log.touch()
        settings = {"family": family, "faults": list(faults), "clusters": list(clusters)}
        (folder / "settings").write_text(json.dumps(settings))
        text = _PROGRAM.format(python=sys.executable, root=str(ROOT), folder=str(folder))
        for name in set(NAMES) - set(without):
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o755)
        (self._bin / "python3").symlink_to(sys.executable)
        for name in ("sh", "env", "dirname"):
            (self._bin / name).symlink_to(f"/usr/bin/{name}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """hack/kind-up.sh with nothing else on PATH."""
        command = [str(ROOT / "hack" / "kind-up.sh"), *arguments]
        environment = {"PATH": str(self._bin), "HOME": os.environ.get("HOME", "/")}
        return subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=50, check=False
        )

    @property
    def _entries(self) -> list[Json]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    @property
    def calls(self) -> list[list[str]]:
        """Every command in turn, without kubectl's --context and the requests of the test."""
        told = [
            [part for part in one["argv"] if part not in _context(one)] for one in self._entries
        ]
        return [words for words in told if "exec" not in words]

    @property
    def requests(self) -> list[list[str]]:
        """The requests of the test."""
        return [one["argv"] for one in self._entries if "exec" in one["argv"]]

    @property
    def contexts(self) -> set[str]:
        """Those that kubectl was given."""
        return {one["argv"][2] for one in self._entries if one["argv"][0] == "kubectl"}

    def stdin(self, *words: str) -> str:
        """What the first command with these words read."""
        found = next(one for one in self._entries if set(words) <= set(one["argv"]))
        return str(found["stdin"])

    def kept(self) -> dict[str, str]:
        """The files of the folder that was applied, as they were then."""
        files: dict[str, str] = next(one["files"] for one in self._entries if one.get("files"))
        return files


def _context(entry: Json) -> tuple[str, ...]:
    argv = entry["argv"]
    return ("--context", argv[2]) if argv[0] == "kubectl" else ()
