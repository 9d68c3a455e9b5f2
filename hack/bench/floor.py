"""The kernel's share of an ADD and a DEL: podwire's own messages, sent again with nothing around.

Run on a node (its namespaces entered) as: floor.py CONFIG NETNS TIMES. One ADD and one DEL are made
in this process while every message that changes the kernel, and every value written below
/proc/sys, is written down; then the same bytes are sent TIMES times. Prints {"ADD": [ms, ...],
"DEL": [ms, ...]} as JSON.
"""

# ruff: noqa: SLF001  what is measured is below the socket's own methods
from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from cni_plugin.kernel import namespace, netlink, sysctl
from cni_plugin.wiring import serve

ID, IFNAME = "floor", "eth0"


class Sent(NamedTuple):
    """A datagram, the socket it went through, and how many acknowledgements it asks for."""

    socket: netlink.Socket
    data: bytes
    answers: int

    def again(self) -> None:
        """Sends it, and takes the answers."""
        raw = self.socket._socket
        raw.send(self.data)
        left = self.answers
        while left > 0:
            data = raw.recv(netlink.RECEIVE_BYTES)
            left -= sum(1 for _ in netlink.messages_in(data))


class Written(NamedTuple):
    """A value below /proc/sys."""

    path: tuple[str, ...]
    value: str
    in_pod: bool

    def again(self) -> None:
        """Writes it."""
        sysctl.write(self.path, self.value)


class Recorder:
    """Notes what a call changes. Its sockets stay open, to be used again."""

    def __init__(self) -> None:
        self.steps: list[Sent | Written] = []
        self._in_pod = False
        self._send, self._write, self._inside = (
            netlink.Socket._send_flagged, sysctl.write, namespace.inside,
        )  # fmt: skip

    def start(self) -> None:
        """From now on."""
        recorder = self

        def send(self: netlink.Socket, messages: object) -> None:
            pairs = list(messages)  # type: ignore[call-overload]
            first = self._sequence + 1
            recorder._send(self, iter(pairs))
            if not any(flags & netlink.NLM_F_ACK for _, flags in pairs):
                return  # a question
            data = b"".join(
                netlink.encode(message, first + index, flags)
                for index, (message, flags) in enumerate(pairs)
            )
            answers = sum(1 for _, flags in pairs if flags & netlink.NLM_F_ACK)
            recorder.steps.append(Sent(self, data, answers))

        def write(path: tuple[str, ...], value: str) -> None:
            recorder._write(path, value)
            recorder.steps.append(Written(path, value, recorder._in_pod))

        def inside(descriptor: int, work: Callable[[], object], home: int | None = None) -> object:
            recorder._in_pod = True
            try:
                return recorder._inside(descriptor, work, home)
            finally:
                recorder._in_pod = False

        netlink.Socket._send_flagged = send  # type: ignore[method-assign]
        sysctl.write = write
        for module in ("places",):
            sys.modules[f"cni_plugin.kernel.{module}"].inside = inside  # type: ignore[attr-defined]
        netlink.Socket.close = lambda _self: None  # type: ignore[method-assign]

    def taken(self) -> list[Sent | Written]:
        """What was noted since the last time."""
        steps, self.steps = self.steps, []
        return steps


def _call(verb: str, netns: str, config: bytes) -> None:
    environ = {
        "CNI_COMMAND": verb, "CNI_CONTAINERID": ID, "CNI_IFNAME": IFNAME,
        "CNI_NETNS": netns, "CNI_PATH": "/opt/cni/bin",
    }  # fmt: skip
    reply = serve(environ, config)
    if reply.status:
        sys.exit(reply.stdout.decode())


def _repeat(steps: list[Sent | Written], descriptor: int) -> float:
    """Milliseconds for all steps; those in the pod's /proc in one visit."""
    began = time.perf_counter()
    visit = [step for step in steps if isinstance(step, Written) and step.in_pod]
    for step in steps:
        if step not in visit:
            step.again()
        elif step is visit[0]:
            namespace.inside(descriptor, lambda: [one.again() for one in visit])
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """See above."""
    path, netns, times = sys.argv[1:]
    with open(path, "rb") as file:
        config = file.read()
    for verb in ("ADD", "DEL"):  # the bridge and the rules are there from now on
        _call(verb, netns, config)
    recorder = Recorder()
    recorder.start()
    plans: dict[str, list[Sent | Written]] = {}
    for verb in ("ADD", "DEL"):
        _call(verb, netns, config)
        plans[verb] = recorder.taken()
    descriptor = namespace.open_pod_netns(netns)
    measured: dict[str, list[float]] = {"ADD": [], "DEL": []}
    for _ in range(int(times)):
        for verb, steps in plans.items():
            measured[verb].append(_repeat(steps, descriptor))
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
