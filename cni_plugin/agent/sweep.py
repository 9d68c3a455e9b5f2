"""Quick DELs: those that wait are done together, by one thread.

What a DEL takes away its record tells, whoever asked for it, so many are one difference to nothing
and one plan (commands.delete.remove_attachments), as for GC. One that needs more than its record,
or that fails, goes the general way, which tells of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from cni_plugin.agent.calls import Call, report
from cni_plugin.agent.known import known
from cni_plugin.agent.ports import Busy, Shared, Worker
from cni_plugin.agent.report import CallReport
from cni_plugin.agent.stages import Stages
from cni_plugin.cni.env import UNDOES, parse_environment
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, NetConf, Reply
from cni_plugin.commands.delete import remove_attachments
from cni_plugin.disk import DiskRecords
from cni_plugin.record import Record
from ipam.errors import IpamError
from ipam.values import IpamConf

Done = tuple[Reply, CallReport]


class _Doomed(NamedTuple):
    """An attachment whose lock is held."""

    call: Call
    conf: NetConf
    attachment: Attachment
    record: Record


class Sweep:
    """For one thread, with a worker of its own."""

    def __init__(self, shared: Shared, worker: Worker) -> None:
        self._shared = shared
        self._worker = worker
        self._records = DiskRecords()

    def delete(self, calls: Sequence[Call]) -> list[Done | None]:
        """What became of each, in their order; None: it is for the general way."""
        begun_s = time.perf_counter()
        stages = Stages()
        with ExitStack() as locks:
            doomed = [one for call in calls if (one := self._doomed(call, locks, stages))]
            done = self._remove(doomed, stages)
        found: list[Done | None] = []
        for call in calls:
            reply = done.get(id(call))
            found.append(None if reply is None else (reply, _told(call, reply, begun_s, stages)))
        return found

    def _doomed(self, call: Call, locks: ExitStack, stages: Stages) -> _Doomed | None:
        """None: it needs more than its record."""
        wanted = self._wanted(call)
        if wanted is None:
            return None
        conf, attachment = wanted
        call.network = conf.name
        release = self._records.lock_now(conf.name, attachment)
        if release is None:
            return None
        locks.callback(release)
        with suppress(CNIError), stages.timed("record"):
            record = self._records.load(conf.name, attachment)
            if record is not None and IpamConf(record.ipam_type).in_process:
                return _Doomed(call, conf, attachment, record)
        return None

    def _wanted(self, call: Call) -> tuple[NetConf, Attachment] | None:
        """None: there is something to be validated, or to be told."""
        seen = known(self._shared, call.stdin, chained=True)
        if seen is None or UNDOES in call.environ:
            return None
        said: list[str] = []
        try:
            who = parse_environment(call.environ, said.append)
        except CNIError:
            return None
        blind = who.netns and call.netns_fd is None
        return None if said or blind else (seen.conf, who.attachment)

    def _remove(self, doomed: Sequence[_Doomed], stages: Stages) -> dict[int, Reply]:
        """By the calls' ids, those that are gone."""
        replies: dict[int, Reply] = {}
        networks = {one.conf.name: one.conf for one in doomed}
        for name, conf in networks.items():
            own = [one for one in doomed if one.conf.name == name]
            replies |= self._remove_of(conf, own, stages)
        return replies

    def _remove_of(
        self, conf: NetConf, doomed: Sequence[_Doomed], stages: Stages
    ) -> dict[int, Reply]:
        lines: list[str] = []  # each is about one of them, and all are told
        ports = self._worker.ports(None, 0, stages, lines.append)
        records: dict[Attachment, Record | None] = {one.attachment: one.record for one in doomed}
        try:
            with ports.kernel(None) as kernel:
                removed = remove_attachments(conf, records, ports, kernel, there=True)
        except (CNIError, IpamError, Busy):
            return {}
        done = set(removed.done)
        said = "".join(f"podwire: {line}\n" for line in lines).encode(errors="replace")
        return {id(one.call): Reply(0, b"", said) for one in doomed if one.attachment in done}


def _told(call: Call, reply: Reply, begun_s: float, stages: Stages) -> CallReport:
    """Each has taken as long as all."""
    waited_s = begun_s - call.arrived_s
    return report(call, reply, waited_s, time.perf_counter() - begun_s, stages)
