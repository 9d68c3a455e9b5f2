"""The text of the two logs, `.released` and `.sticky`: parse and format, no I/O.

Both are appended to and only steer which address is chosen. So a line that does not parse (a
power cut, a foreign hand) is skipped, and losing a log costs no address.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

NEVER_S = float("-inf")  # release time of an address that need not cool down
PAST_MAX = 1024  # releases remembered that need not cool: free addresses known without a listing


def released_line(address: str, at_s: float) -> str:
    """The address was released at that boot-time clock (seconds), or is known to be free."""
    return f"{address} {at_s:.3f}\n"


def given_line(address: str) -> str:
    """The address was given again."""
    return f"-{address}\n"


def parse_released(log: bytes) -> dict[str, float]:
    """Address text to release time in seconds, oldest first; the texts may be garbled."""
    found: dict[str, float] = {}
    add_released(found, log)
    return found


def add_released(found: dict[str, float], lines: bytes) -> None:
    """Brings what `parse_released` found up to date with lines that were added to the log."""
    for line in lines.decode("ascii", "replace").split("\n"):
        if line.startswith("-"):
            found.pop(line[1:], None)
            continue
        address, _space, at = line.partition(" ")
        try:
            at_s = float(at)
        except ValueError:
            continue
        found.pop(address, None)
        found[address] = at_s


def format_released(released: Mapping[str, float]) -> bytes:
    """A log that parses to the same mapping."""
    return "".join(released_line(address, at_s) for address, at_s in released.items()).encode()


def worth_keeping(released: Mapping[str, float], cool: Container[str]) -> dict[str, float]:
    """Those that cool, and of the others the latest. In a range of many addresses each release is
    of another one, so a log of all would grow for ever, and each ADD goes through it."""
    past = [address for address in released if address not in cool]
    passed_over = frozenset(past[:-PAST_MAX])
    return {name: at_s for name, at_s in released.items() if name not in passed_over}


def is_loggable(pod: str) -> bool:
    """True for a `namespace/name` that fits in a line; Kubernetes makes no others."""
    return bool(pod) and pod.isprintable() and " " not in pod


def sticky_lines(pod: str, addresses: Iterable[str]) -> bytes:
    """The pod has these addresses now."""
    return "".join(f"{pod} {address}\n" for address in addresses).encode()


def parse_sticky(log: bytes) -> dict[str, str]:
    """Address text to the pod that had it last, oldest first."""
    found: dict[str, str] = {}
    for line in log.decode("utf-8", "replace").split("\n"):
        pod, _space, address = line.partition(" ")
        if pod and address:
            found.pop(address, None)
            found[address] = pod
    return found


def sticky_addresses(log: bytes, pod: str) -> tuple[str, ...]:
    """What the pod had last, latest first, without those that another pod had since."""
    if not is_loggable(pod) or pod.encode() not in log:
        return ()
    return tuple(a for a, who in reversed(parse_sticky(log).items()) if who == pod)
