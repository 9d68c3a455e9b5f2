"""Removals that arrive together are done together.

The kernel waits for its readers once for a whole group of links and about 20 ms for each that is
deleted alone, and what changes many sets' elements in one transaction takes their lock once. So
whoever comes while others are at it waits, and all who wait go next, in one plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Condition

from cni_plugin.cni.errors import CNIError
from cni_plugin.kernel.execute import Outcome, apply
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.refusal import StepFailed
from cni_plugin.model.objects import Key, key
from cni_plugin.model.plan import Step, in_order_of_removal


class _Asked:
    """One caller's steps, and what became of them."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None


class JointRemoval:
    """Applies removals on the host for many threads, with a host of its own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._free = Condition()
        self._waiting: list[_Asked] = []
        self._busy = False

    def apply(self, steps: Sequence[Step]) -> Outcome:
        """Best effort, as execute.apply without `stop`. One of those who wait does it for all."""
        asked = _Asked(steps)
        with self._free:
            self._waiting.append(asked)
            while self._busy and asked.outcome is None and asked.error is None:
                self._free.wait()
            if asked.outcome is None and asked.error is None:
                self._busy = True
                batch, self._waiting = self._waiting, []
            else:
                batch = []
        if batch:
            self._do(batch)
        if asked.outcome is None:
            raise asked.error or CNIError("a removal ended without an outcome")
        return asked.outcome

    def _do(self, batch: list[_Asked]) -> None:
        try:
            self._share(batch)
        except BaseException as error:  # noqa: BLE001  whoever waits must be told, whatever it is
            for asked in batch:
                asked.error = asked.error or error
        finally:
            with self._free:
                self._busy = False
                self._free.notify_all()

    def _share(self, batch: list[_Asked]) -> None:
        together = {key(step.subject): step for asked in batch for step in asked.steps}
        places = Places(host=self._host)
        try:
            outcome = apply(places, in_order_of_removal(together.values()), stop=False)
        finally:
            places.close()
        done = {key(step.subject) for step in outcome.done}
        if outcome.failures:
            self._host.close()  # after a failure nobody knows what the sockets still hold
        for asked in batch:
            asked.outcome = _own(asked.steps, done, outcome.failures)


def _own(steps: Sequence[Step], done: set[Key], failures: Sequence[CNIError]) -> Outcome:
    """One caller's part of what became of all steps."""
    keys = {key(step.subject) for step in steps}
    return Outcome(
        tuple(step for step in steps if key(step.subject) in done),
        tuple(one for one in failures if _key_of(one) is None or _key_of(one) in keys),
    )


def _key_of(failure: CNIError) -> Key | None:
    return key(failure.step.subject) if isinstance(failure, StepFailed) else None
