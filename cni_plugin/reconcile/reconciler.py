"""One pass: look, decide, look again under the store's lock, free what is dead still.

The freeing is DEL's own (`commands.delete.remove_attachments`). It happens with the store's lock
held, so no ADD of the same names can come in between: one that has its address already has made
another reservation, which the second look tells from the one that was judged.

An attachment that an ADD or DEL works on is not dead, so it is passed over: its own lock is asked
for without waiting. Those calls take it first and the store's after, the other way round than here;
who never waits for it cannot be part of a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from itertools import groupby
from typing import NamedTuple, Protocol

from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf
from cni_plugin.commands.delete import remove_attachments
from cni_plugin.ports import Kernel, Ports
from cni_plugin.reconcile.decide import Decision, Ruling, Strikes, decide
from cni_plugin.reconcile.evidence import Evidence, Subject
from cni_plugin.reconcile.life import DEAD, judge
from ipam.disk import DiskLeases
from ipam.errors import IpamError
from ipam.values import IpamConf

BATCH = 128  # attachments freed under one lock: about 0.2 s, then waiting ADDs have their turn
BUSY = "an ADD or DEL of it is under way"


class Look(Protocol):
    """The node at one moment, see observe.Seen."""

    @property
    def subjects(self) -> tuple[Subject, ...]: ...

    @property
    def evidence(self) -> Evidence: ...


class Observes(Protocol):
    """See observe.Observer."""

    def look(self, network: str = "") -> Look: ...


class Remembers(Protocol):
    """See strikes.StrikeFile."""

    def read(self) -> Strikes: ...

    def write(self, strikes: Strikes) -> None: ...


class Report(NamedTuple):
    """One pass. failures: one sentence each."""

    freed: tuple[Ruling, ...]
    kept: tuple[Ruling, ...]
    failures: tuple[str, ...]


class _Pass:
    """What has become of the doomed so far. busy: a call for them is under way."""

    def __init__(self) -> None:
        self.freed: list[Subject] = []
        self.busy: list[Subject] = []
        self.failures: list[str] = []


class Reconciler:
    """Frees what is dead, pass by pass. leases: a store of its own, which no other thread uses;
    clock_s: seconds since boot."""

    def __init__(
        self,
        ports: Ports,
        leases: DiskLeases,
        observer: Observes,
        strikes: Remembers,
        clock_s: Callable[[], float],
    ) -> None:
        self._ports = ports._replace(leases=leases)
        self._leases = leases
        self._observer = observer
        self._strikes = strikes
        self._clock_s = clock_s

    def look(self, network: str = "") -> Decision:
        """What a pass would do now. Changes nothing, and is no sighting."""
        seen = self._observer.look(network)
        return decide(self._clock_s(), seen.subjects, seen.evidence, self._strikes.read())

    def run_once(self) -> Report:
        """One pass over every network. Raises OSError and IpamError when the node cannot be
        looked at; what fails with one attachment is in the report."""
        decision = self.look()
        passed = _Pass()
        with self._ports.kernel(None) as kernel:
            for batch in _batches(decision.doomed):
                self._free(batch, kernel, passed)
        gone = {subject.incarnation for subject in passed.freed}
        busy = {subject.incarnation for subject in passed.busy}
        rest = {k: v for k, v in decision.strikes.items() if k not in gone | busy}
        try:
            self._strikes.write(rest)
        except OSError as error:
            passed.failures.append(
                f"the strikes cannot be kept: {error.strerror}: {error.filename}"
            )
        return Report(
            tuple(one for one in decision.rulings if one.subject.incarnation in gone),
            tuple(
                one._replace(doomed=False, reason=BUSY) if one.subject.incarnation in busy else one
                for one in decision.rulings
                if one.subject.incarnation not in gone
            ),
            tuple(passed.failures),
        )

    def _free(self, batch: Sequence[Subject], kernel: Kernel, passed: _Pass) -> None:
        """Attachments of one folder, looked at once more under its lock and their own."""
        try:
            with self._locked(batch[0]), ExitStack() as held:
                idle = [subject for subject in batch if self._is_idle(subject, held)]
                passed.busy += [subject for subject in batch if subject not in idle]
                doomed = {subject.attachment: subject for subject in self._still_dead(idle)}
                removed = remove_attachments(
                    conf_of(batch[0]),
                    {attachment: subject.record for attachment, subject in doomed.items()},
                    self._ports,
                    kernel,
                )
        except (CNIError, IpamError, OSError) as error:
            passed.failures.append(str(error))
            return
        passed.freed += [doomed[attachment] for attachment in removed.done]
        passed.failures += map(str, removed.failures)

    def _is_idle(self, subject: Subject, held: ExitStack) -> bool:
        """Whether no call works on it; then none does until `held` ends."""
        lock = self._ports.records.try_lock(subject.network, subject.attachment)
        return held.enter_context(lock)

    def _locked(self, subject: Subject) -> AbstractContextManager[bool]:
        if not subject.data_dir:
            return nullcontext(True)
        return self._leases.exclusively(conf_of(subject).ipam or IpamConf(""), subject.network)

    def _still_dead(self, batch: Sequence[Subject]) -> Iterator[Subject]:
        if not batch:
            return
        again = self._observer.look(batch[0].network)
        now = {one.incarnation: one for one in again.subjects}
        for subject in batch:
            same = now.get(subject.incarnation)
            if same is not None and judge(same, again.evidence).state == DEAD:
                yield same


def conf_of(subject: Subject) -> NetConf:
    """As much of a config as freeing needs: the network's name and where its store is."""
    ipam = IpamConf("podwire-ipam", data_dir=subject.data_dir) if subject.data_dir else None
    return NetConf("", subject.network, "podwire", ipam=ipam)


def _batches(doomed: Sequence[Subject]) -> Iterator[tuple[Subject, ...]]:
    """Of one folder each, at most BATCH."""

    def folder(subject: Subject) -> tuple[str, str]:
        return subject.data_dir, subject.network

    for _folder, group in groupby(sorted(doomed, key=folder), folder):
        subjects = tuple(group)
        for start in range(0, len(subjects), BATCH):
            yield subjects[start : start + BATCH]
