"""Repair: what others took away from under live pods is put back.

The same way as everything else: the state that ADD would want, compared with what is there, and the
difference applied. The wanted state follows from what the attachment's record keeps. A pass looks
at all attachments in a few dumps; not everything is in those, so in turn a few are asked about one
by one. Closely, with its lock held, only those are looked at that miss something or that an event
named, and the one whose turn it is.

The pod's own namespace is the pod's: it is touched only to make a pair again that is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from cni_plugin.attach.wiring import DEFAULT_MTU, BridgeFacts, Facts
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment
from cni_plugin.commands.standing import Standing, on_host, standing, tolerant, uncontested
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.disk import DiskRecords
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.monitor import Suspects
from cni_plugin.kernel.namespace import InvalidNetns
from cni_plugin.kernel.port import NodeKernel, node_kernel, pod_netns
from cni_plugin.model.objects import (
    POD,
    Addr,
    Bridge,
    Element,
    Ifb,
    Key,
    Obj,
    Port,
    RouteTo,
    RuleChain,
    Up,
    Veth,
    key,
)
from cni_plugin.model.plan import Found, Step, describe, diff, inverse
from cni_plugin.ports import Netns
from cni_plugin.reconcile.paces import Paces
from cni_plugin.reconcile.turns import Turns
from cni_plugin.record import DONE, Record, load, noted
from ipam.lean_typing import NamedTuple

IN_DUMPS = (Bridge, Veth, Ifb, Port, Up, Addr, RouteTo)
IN_FILTER = (Element, RuleChain)  # read again only when somebody has changed nftables' rules
ATTEMPTS = 3  # a parallel ADD may make the bridge between looking and acting

Name = tuple[str, Attachment]  # network and attachment


class Mended(NamedTuple):
    """One pass. done, failures: a sentence each. paces: what is put back less often from now on,
    or no longer so, a sentence each. again_s: when something waits to be tried again; None: nothing
    does."""

    done: tuple[str, ...]
    failures: tuple[str, ...]
    paces: tuple[str, ...]
    again_s: float | None


class _Known(NamedTuple):
    """A record as last read. wanted: its state on the host, where all is well with the node."""

    data: bytes
    name: Name
    wanted: tuple[Obj, ...]


class _Healed(NamedTuple):
    """What was put back for one attachment, and the first failure, if any."""

    done: tuple[Step, ...] = ()
    failure: CNIError | None = None


class Repairer:
    """Repairs this node, pass by pass. host: sockets that nobody else uses meanwhile."""

    def __init__(
        self,
        host: Host,
        records: DiskRecords | None = None,
        netns: Callable[[str], AbstractContextManager[Netns]] = pod_netns,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._records = records or DiskRecords()
        self._netns = netns
        self._clock_s = clock_s
        self._known: dict[tuple[str, str], _Known] = {}
        self._in_dumps: tuple[Obj, ...] = ()  # of all that are known, each once
        self._in_filter: tuple[Obj, ...] = ()
        self._lost_in_filter: set[Obj] = set()
        self._generation: int | None = None  # of the rule set in which those were lost
        self._turns: Turns[Name] = Turns()
        self._paces: Paces[Key] = Paces()
        self._slower: list[str] = []  # in this pass

    def run(self, suspects: Suspects) -> Mended:
        """One pass. Raises CNIError when the node cannot be looked at, OSError for records that
        cannot be listed; what fails with one attachment is told."""
        self._read()
        self._slower = self._paces.begin(self._clock_s())
        known = {one.name: one for one in self._known.values()}
        sample = self._turns.sample(known, self._clock_s())
        missing = self._missing([known[name] for name in sample])
        chosen = self._turns.choose(
            known,
            {*missing, *_named(known.values(), suspects), *sample[:1]},
            self._clock_s(),
            everything=suspects.everything,
        )
        done: list[str] = []
        failures: dict[str, list[str]] = {}
        for name in chosen:
            network, (container_id, ifname) = name
            who = f"{ifname} of {container_id} in {network}"
            healed = self._attend(name)
            if healed is None:
                self._turns.busy(name, self._clock_s())
                continue
            done += [f"{who}: {describe(step)}" for step in healed.done]
            if healed.failure:
                failures.setdefault(str(healed.failure), []).append(who)
            self._turns.looked(name, self._clock_s(), failed=healed.failure is not None)
        told = tuple(f"{_and_others(who)}: {why}" for why, who in failures.items())
        now_s = self._clock_s()
        both = (self._turns.again_s(now_s), self._paces.again_s(now_s))
        again_s = min((wait_s for wait_s in both if wait_s is not None), default=None)
        return Mended(tuple(done), told, tuple(self._slower), again_s)

    # a look at all

    def _read(self) -> None:
        """The records, each parsed only when it is another than before."""
        now: dict[tuple[str, str], _Known] = {}
        for file, data in self._records.contents():
            before = self._known.get(file)
            if before is not None and before.data == data:
                now[file] = before
                continue
            record = load(data)
            made = standing(record) if record and record.phase == DONE else None
            if record is not None and made is not None:
                now[file] = _Known(data, (record.network, record.attachment), _usual(made))
        if now != self._known:
            self._known = now
            everything = dict.fromkeys(obj for one in now.values() for obj in one.wanted)
            self._in_dumps = tuple(obj for obj in everything if isinstance(obj, IN_DUMPS))
            self._in_filter = tuple(obj for obj in everything if isinstance(obj, IN_FILTER))
            self._generation = None

    def _missing(self, sample: Iterable[_Known]) -> set[Name]:
        """Who misses something that a look at all can see; of the sample, something that has to be
        asked for one by one."""
        wanted = [*self._in_dumps]
        wanted += (obj for one in sample for obj in one.wanted if not _in_bulk(obj))
        if not self._known:
            return set()
        with self._kernel(None) as kernel:
            generation = kernel.filter_generation()  # first: a change meanwhile costs a reading
            if generation != self._generation:
                wanted += self._in_filter
            found = kernel.survey(wanted)
        lost = {step.subject for step in diff(wanted, found)}
        if generation != self._generation:
            self._lost_in_filter = {obj for obj in lost if isinstance(obj, IN_FILTER)}
            self._generation = generation
        lost |= self._lost_in_filter
        due = self._paces.due({key(obj) for obj in lost}, self._clock_s())
        lost = {obj for obj in lost if key(obj) in due}
        if not lost:
            return set()
        return {one.name for one in self._known.values() if not lost.isdisjoint(one.wanted)}

    # one attachment

    def _attend(self, name: Name) -> _Healed | None:
        """None: somebody works on it."""
        with self._records.try_lock(*name) as free:
            if not free:
                return None
            try:
                record = self._records.load(*name)
                made = standing(record) if record and record.phase == DONE else None
                if record is None or made is None:
                    return _Healed()
                return self._heal(record, made)
            except CNIError as error:
                return _Healed(failure=error)

    def _heal(self, record: Record, made: Standing) -> _Healed:
        """Again while somebody else changes what was looked at."""
        healed = self._once(record, made)
        done = healed.done
        for _ in range(1, ATTEMPTS):
            if not getattr(healed.failure, "stale", False):
                break
            healed = self._once(record, made)
            done += healed.done
        return _Healed(done, healed.failure)

    def _once(self, record: Record, made: Standing) -> _Healed:
        with self._kernel(None) as kernel:
            wanted = _wanted(made, kernel)
            here = [obj for obj in map(on_host, wanted) if obj is not None]
            found = kernel.observe(here)
            if all(key(obj) in found for obj in wanted if _is_pair(obj)):
                steps = self._due(diff(_as_found(here, found, made), found))
                if not steps:
                    return _Healed()
                self._remember(record, wanted)
                outcome = kernel.apply(steps, stop=False)
                self._note(outcome.done)
                return _Healed(outcome.done, next(iter(outcome.failures), None))
            if not self._due(step for step in diff(here, found) if _is_pair(step.subject)):
                return _Healed()
        return self._whole(record, made)

    def _remember(self, record: Record, wanted: tuple[Obj, ...]) -> None:
        """Before it is made: an older podwire's record does not have all that goes with the
        attachment now, and DEL takes away what the record has."""
        had = {key(obj) for obj in record.owned}
        new = tuple(obj for obj in owned(wanted) if key(obj) not in had)
        if new:
            self._records.save(record._replace(owned=(*record.owned, *noted(new))))

    def _due(self, steps: Iterable[Step]) -> tuple[Step, ...]:
        """Without those that somebody undoes so often that they wait."""
        steps = tuple(steps)
        due = self._paces.due({key(step.subject) for step in steps}, self._clock_s())
        return tuple(step for step in steps if key(step.subject) in due)

    def _note(self, done: Iterable[Step]) -> None:
        for step in done:
            slower = self._paces.repaired(key(step.subject), describe(step), self._clock_s())
            self._slower += [slower] if slower else []

    def _whole(self, record: Record, made: Standing) -> _Healed:
        """The pair is gone: everything is made again in the pod's namespace, while it is still the
        one that ADD wired. Otherwise the pod is dead, and others take away what it left."""
        try:
            with self._netns(record.netns) as netns:
                if netns.inode != record.netns_inode:
                    return _Healed()
                with self._kernel(netns) as kernel:
                    return self._make(record, made, kernel)
        except InvalidNetns:
            return _Healed()

    def _make(self, record: Record, made: Standing, kernel: NodeKernel) -> _Healed:
        """All or nothing, as ADD: what is not ours in the pod is not given our addresses."""
        wanted = _wanted(made, kernel)
        self._remember(record, wanted)
        found = kernel.observe(wanted)
        outcome = kernel.apply(diff(_as_found(wanted, found, made), found), stop=True)
        if not outcome.failures:
            self._note(outcome.done)
            return _Healed(outcome.done)
        own = {key(obj) for obj in owned(wanted)}
        kernel.apply(
            tuple(step for step in inverse(outcome.done) if key(step.subject) in own), stop=False
        )
        return _Healed(failure=outcome.failures[0])

    @contextmanager
    def _kernel(self, netns: Netns | None) -> Iterator[NodeKernel]:
        try:
            with node_kernel(netns, self._host) as kernel:
                yield kernel
        except BaseException:
            self._host.close()  # nobody knows what the sockets still hold
            raise


def _and_others(who: list[str]) -> str:
    """One line for a hundred pods that fail for the same reason."""
    return who[0] if len(who) == 1 else f"{who[0]} and {len(who) - 1} more"


def _wanted(made: Standing, kernel: NodeKernel) -> tuple[Obj, ...]:
    desired = desired_state(made.wiring(made.as_made(kernel.facts(made.conf))))
    return uncontested(desired.objects, desired.obsolete)


def _as_found(wanted: Iterable[Obj], found: Found, made: Standing) -> tuple[Obj, ...]:
    """What is there may have another MTU by now, what is made gets ADD's."""
    return tuple(tolerant(obj, made.conf) if key(obj) in found else obj for obj in wanted)


def _usual(made: Standing) -> tuple[Obj, ...]:
    """What is wanted on the host, as far as it does not depend on the node's present state."""
    bridge = BridgeFacts(DEFAULT_MTU, is_bridge=True, ours=False, addresses=(), idle=False, mac="")
    facts = Facts(
        bridge=bridge if made.conf.mode == "bridge" else None,
        ipv6=os.path.exists("/proc/sys/net/ipv6"),
    )
    try:
        objects = desired_state(made.wiring(made.as_made(facts))).objects
    except CNIError:
        return ()
    here = (on_host(tolerant(obj, made.conf)) for obj in objects)
    return tuple(obj for obj in here if obj is not None)


def _in_bulk(obj: Obj) -> bool:
    return isinstance(obj, (*IN_DUMPS, *IN_FILTER))


def _is_pair(obj: Obj) -> bool:
    return isinstance(obj, Veth) and obj.peer_place == POD


def _named(known: Iterable[_Known], suspects: Suspects) -> set[Name]:
    """Who has one of the links. Of those that share one any will do: the link's own state is the
    same for all, and what they miss themselves is in the dumps."""
    by_link: dict[str, Name] = {}
    for one in known:
        for obj in one.wanted:
            if isinstance(obj, (Veth, Bridge, Ifb)):
                by_link.setdefault(obj.name, one.name)
    return {by_link[link] for link in suspects.links if link in by_link}
