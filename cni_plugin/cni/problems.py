"""A refused part of a config: path, value, what is accepted; and how problems become one error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from cni_plugin.cni.errors import CNIError, InvalidNetworkConfig, UnsupportedField
from cni_plugin.cni.names import shown
from ipam.lean_typing import NamedTuple

OF_THE_CONFIG = "podwire validate FILE shows every problem of a config"
OF_ONE_POD = (
    "the runtime sends it for this one pod: look at the pod's ports (hostPort, hostIP) and its"
    " bandwidth annotations"
)
_LISTED = 20  # problems that details repeat; a hostile config can hold a hundred thousand


class Problem(NamedTuple):
    """One thing wrong with a config.

    accepted: a phrase that follows "accepted:", or the remedy when code is 2 (unsupported).
    missing: the key is not there at all, value means nothing.
    """

    path: str
    value: object
    accepted: str
    code: int = InvalidNetworkConfig.code
    missing: bool = False

    def __str__(self) -> str:
        if self.missing:
            return f"{self.path} is missing, accepted: {self.accepted}"
        if self.code == UnsupportedField.code:
            return f"{self.path} is {shown(self.value)}, which is not supported: {self.accepted}"
        return f"{self.path} is {shown(self.value)}, accepted: {self.accepted}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one error for all: the first is the message, all of them are in the details.

    Code 7 goes before code 2: a config that is wrong is wrong with any plugin. Nothing happens
    when there are no problems.
    """
    if not problems:
        return
    ordered = sorted(problems, key=lambda problem: problem.code == UnsupportedField.code)
    first = ordered[0]
    kind: type[CNIError] = (
        UnsupportedField if first.code == UnsupportedField.code else InvalidNetworkConfig
    )
    raise kind(str(first), _details(ordered))


def _details(problems: Sequence[Problem]) -> str:
    if len(problems) == 1:
        return OF_ONE_POD if problems[0].path.startswith("runtimeConfig") else OF_THE_CONFIG
    listed = [f"{number}) {problem}" for number, problem in enumerate(problems[:_LISTED], 1)]
    more = len(problems) - len(listed)
    listed += [f"and {more} more"] if more else []
    return f"{len(problems)} problems: {'; '.join(listed)}"


def path_of(parts: Iterable[object]) -> str:
    """("ipam", "ranges", 0, "subnet") as `ipam.ranges[0].subnet`."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else str(part)
    return path


def unknown_key(path: str, key: str, known: Iterable[str]) -> str:
    """The warning for a key that nobody reads, with the nearest known key if there is one."""
    where = path_of([path, key]) if path else key
    near = nearest(key, known)
    hint = f"; did you mean {near}?" if near else ""
    return f"{shown(where)[1:-1]} is not a key of podwire and is ignored{hint}"


def nearest(key: str, known: Iterable[str]) -> str:
    """The key that may have been meant; empty when none is near."""
    import difflib  # only for a config that has one

    by_folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(key.lower(), by_folded, n=1)
    return by_folded[near[0]] if near else ""


def forgive(problems: Iterable[Problem], warn: Callable[[str], None]) -> None:
    """DEL and GC: every problem becomes a warning."""
    for problem in problems:
        warn(f"clean-up goes on with the default: {problem}")
