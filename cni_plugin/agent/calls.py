"""One call on its way through the agent, and how a worker serves it."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from cni_plugin.agent.ports import Busy, Declined, Worker
from cni_plugin.agent.report import CallReport, Sink
from cni_plugin.agent.stages import Stages
from cni_plugin.agent.wire import NETNS_ERRNO
from cni_plugin.cni.env import REQUEST_ID, UNDOES, parse_args
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf, Reply
from cni_plugin.handle import handle

# Verbs of one attachment; two calls for the same one never run at the same time.
ATTACHMENT_VERBS = ("ADD", "DEL", "CHECK")


class Call:
    """One call. netns_fd is the call's own and closed with it. ended gets the reply, None for a
    call that is declined; it is called once, in the loop's thread."""

    def __init__(
        self,
        environ: Mapping[str, str],
        stdin: bytes,
        netns_fd: int | None,
        ended: Callable[[Reply | None], None],
    ) -> None:
        self.environ = environ
        self.stdin = stdin
        self.netns_fd = netns_fd
        self.ended = ended
        self.began_s = time.time()
        self.arrived_s = time.perf_counter()
        self.abandoned = False  # nobody waits for the answer any more
        self.network = ""
        self.outcome = ""

    @property
    def verb(self) -> str:
        return self.environ.get("CNI_COMMAND", "")

    @property
    def key(self) -> tuple[str, str] | None:
        """What calls of one attachment have in common; None: it waits for no other."""
        if self.verb not in ATTACHMENT_VERBS:
            return None
        return self.environ.get("CNI_CONTAINERID", ""), self.environ.get("CNI_IFNAME", "")

    def undoing(self, sink: Sink) -> Call:
        """The call that takes away what this one has made; sink hears when it cannot."""
        name = self.environ.get(REQUEST_ID, "")
        changes = {"CNI_COMMAND": "DEL", "CNI_NETNS": "", UNDOES: name}
        environ = {**self.environ, **changes}

        def ended(reply: Reply | None) -> None:
            if reply is None or reply.status:
                said = _failure(reply)[1] or "it was declined"
                fields = {key: environ.get(key, "") for key in ("CNI_CONTAINERID", "CNI_IFNAME")}
                sink.event("error", f"an ADD could not be undone: {said}", fields)

        return Call(environ, self.stdin, None, ended)

    def close(self) -> None:
        """Gives the descriptor back."""
        if self.netns_fd is not None:
            os.close(self.netns_fd)
            self.netns_fd = None


def serve(call: Call, worker: Worker) -> tuple[Reply | None, CallReport]:
    """Runs the call; None when it is declined. Raises Busy."""
    stages = Stages()
    lines: list[str] = []
    begun_s = time.perf_counter()

    def load_conf(
        document: dict[str, Any], warn: Callable[[str], None], *, lenient: bool
    ) -> NetConf:
        with stages.timed("config"):
            conf = worker.load_conf(document, call.stdin, warn, lenient=lenient)
        call.network = conf.name
        return conf

    ports = worker.ports(call.netns_fd, netns_errno(call.environ), stages, lines.append)
    reply: Reply | None
    try:
        reply = handle(call.environ, call.stdin, ports, load_conf)
    except Declined:
        reply = None
    except Busy:
        stages.seconds.clear()
        raise
    if reply is not None:
        log = "".join(f"podwire: {line}\n" for line in lines)
        reply = reply._replace(stderr=log.encode(errors="replace") + reply.stderr)
    ended_s = time.perf_counter()
    return reply, report(call, reply, begun_s - call.arrived_s, ended_s - begun_s, stages)


def netns_errno(environ: Mapping[str, str]) -> int:
    """Why the launcher could not open CNI_NETNS; ENOENT when it does not say so in digits."""
    number = environ.get(NETNS_ERRNO, "")
    return int(number) if number.isascii() and number.isdigit() else errno.ENOENT


def report(
    call: Call, reply: Reply | None, waited_s: float, ran_s: float, stages: Stages
) -> CallReport:
    """What there is to say of the call."""
    code, message = _failure(reply)
    done = "undone" if UNDOES in call.environ else "done"
    outcome = call.outcome or ("declined" if reply is None else "failed" if reply.status else done)
    environ = call.environ
    return CallReport(
        verb=call.verb,
        network=call.network,
        container_id=environ.get("CNI_CONTAINERID", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        netns=environ.get("CNI_NETNS", ""),
        pod=_pod(environ.get("CNI_ARGS", "")),
        request=environ.get(REQUEST_ID, ""),
        outcome=outcome,
        code=code,
        message=message,
        began_s=call.began_s,
        waited_s=waited_s,
        ran_s=ran_s,
        stages=tuple(stages.seconds.items()),
        environ=environ,
        starts=tuple((name, at - call.arrived_s) for name, at in stages.began_s.items()),
    )


def _failure(reply: Reply | None) -> tuple[int, str]:
    if reply is None or reply.status == 0:
        return 0, ""
    try:
        document = json.loads(reply.stdout)
        details = document.get("details") or ""
        return int(document["code"]), document["msg"] + (f"; {details}" if details else "")
    except (ValueError, TypeError, KeyError, AttributeError):
        return 999, reply.stdout.decode(errors="replace")


def _pod(text: str) -> str:
    try:
        args = parse_args(text)
    except CNIError:
        return ""
    name = args.get("K8S_POD_NAME", "")
    return f"{args.get('K8S_POD_NAMESPACE', '')}/{name}" if name else ""
