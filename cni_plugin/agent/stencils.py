"""For which ADDs there is a stencil, and whether it fits what is on the node now."""

from __future__ import annotations

import time
from typing import NamedTuple

from cni_plugin.agent.ground import Ground, Hear, Lookout
from cni_plugin.agent.known import Known
from cni_plugin.agent.stencil import Base, Stencil, cut
from cni_plugin.agent.subject import Kind
from cni_plugin.cni.values import NetConf, RuntimeConf
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.host_ports import CONNECTIONLESS

KINDS_MAX = 32  # of ADDs that are remembered
KEPT_S = 60.0  # a kind that was asked for within is not given up for another one
SIGHTS_MAX = 256  # kinds that were seen once
PORTS_MAX = 16  # of one pod: with many, what a stencil is cut by is found elsewhere by chance, too
STUMBLES_MAX, REST_CALLS = 3, 100
Name = tuple[int, Kind]  # of a config, by its id, and a kind of its ADDs


class Ready(NamedTuple):
    """One kind of ADD: where it looks, what it saw last, and the stencil for that."""

    name: Name
    lookout: Lookout
    ground: Ground
    stencil: Stencil


class Luck:
    """What is in the way of one ADD mostly is in the way of the next one of its kind (a second
    interface that wants the first one's route): after some they go the general way for a while."""

    def __init__(self) -> None:
        self._counts: dict[Name, int] = {}  # stumbles in a row; below 0: calls to be passed over

    def may_try(self, name: Name) -> bool:
        """Asked once a call."""
        count = self._counts.get(name, 0)
        if count < 0:
            self._counts[name] = count + 1
        return count >= 0

    def stumbled(self, name: Name) -> None:
        """It had to be undone."""
        count = self._counts.get(name, 0) + 1
        self._note(name, count if count < STUMBLES_MAX else -REST_CALLS)

    def hopeless(self, name: Name) -> None:
        """It cannot be tried at all."""
        self._note(name, -REST_CALLS)

    def _note(self, name: Name, count: int) -> None:
        if name not in self._counts and len(self._counts) >= KINDS_MAX:
            self._counts.pop(next(iter(self._counts)))
        self._counts[name] = count

    def went_well(self, name: Name) -> None:
        """Nothing was in the way."""
        self._counts.pop(name, None)

    def forget(self) -> None:
        """Names are used again."""
        self._counts.clear()


class Stencils:
    """For one thread."""

    def __init__(self, host: Host, hear: Hear) -> None:
        """hear: see ground.Lookout."""
        self._host = host
        self._hear = hear
        # Kinds that have a place, who waited longest first: with and without the network's chain.
        self._ready: dict[Name, list[Ready]] = {}
        self._used_s: dict[Name, float] = {}  # on the monotonic clock
        # What pods share does not depend on the kind, but for the chains of host ports: to listen
        # for each would have every change of the bridge read as often.
        self._lookouts: dict[tuple[int, bool], Lookout] = {}
        self._sights: set[Name] = set()
        self._luck = Luck()
        self._fit: dict[int, tuple[NetConf, bool]] = {}  # kept alive: the id stays its own

    def fits(self, seen: Known) -> bool:
        """Whether there may be a stencil at all."""
        conf = seen.conf
        judged = self._fit.get(id(conf))
        if judged is None or judged[0] is not conf:
            if len(self._fit) >= KINDS_MAX:
                self._fit.clear()
                self.close()
            judged = self._fit[id(conf)] = (conf, _is_plain(conf))
        return judged[1] and _asks_little(seen.asked)

    def get(self, conf: NetConf, kind: Kind) -> Ready | None:
        """None: this ADD has more to do than others, or there is no stencil for it."""
        name = id(conf), kind
        if not self._luck.may_try(name):
            return None
        seen = self._ready.pop(name, None)
        if seen is None and not self._has_place(name):
            return None
        self._ready[name] = seen = seen or []
        self._used_s[name] = time.monotonic()
        lookout = self._lookout(conf, kind)
        ground = lookout.ground()
        if ground is None:
            return None
        for ready in seen:
            if ground.like(ready.ground):
                return ready._replace(ground=ground)
        stencil = cut(Base(conf, ground.facts, ground.found, ground.indexes), kind)
        if stencil is None:
            self._luck.hopeless(name)
            return None
        del seen[:-1]
        seen.append(Ready(name, lookout, ground, stencil))
        return seen[-1]

    def stumbled(self, name: Name) -> None:
        """An ADD had to be undone."""
        self._luck.stumbled(name)

    def went_well(self, name: Name) -> None:
        """Nothing was in an ADD's way."""
        self._luck.went_well(name)

    def close(self) -> None:
        """Gives back what it listens with."""
        for lookout in self._lookouts.values():
            lookout.close()
        self._lookouts.clear()
        self._used_s.clear()
        self._sights.clear()
        self._ready.clear()
        self._luck.forget()

    def _lookout(self, conf: NetConf, kind: Kind) -> Lookout:
        where = id(conf), bool(kind.asked.port_mappings)
        if where not in self._lookouts:
            self._lookouts[where] = Lookout(self._host, conf, kind, self._hear)
        return self._lookouts[where]

    def _has_place(self, name: Name) -> bool:
        """Whether a stencil would pay. To cut one takes as long as an ADD the general way, so what
        one pod alone asks for has none; and where there are more kinds than places, those that have
        one keep it."""
        _, kind = name
        if kind.asked != RuntimeConf() and name not in self._sights:
            if len(self._sights) >= SIGHTS_MAX:
                self._sights.clear()
            self._sights.add(name)
            return False
        if len(self._ready) >= KINDS_MAX:
            oldest = next(iter(self._ready))
            if time.monotonic() - self._used_s[oldest] < KEPT_S:
                return False
            del self._ready[oldest], self._used_s[oldest]
        return True


def _asks_little(asked: RuntimeConf) -> bool:
    """UDP and SCTP ports take a walk through all connections of the node: too long for one thread
    that others wait for."""
    if asked.ips or asked.mac or asked.aliases or len(asked.port_mappings) > PORTS_MAX:
        return False
    return all(mapping.protocol not in CONNECTIONLESS for mapping in asked.port_mappings)


def _is_plain(conf: NetConf) -> bool:
    """Whether an ADD of the config may have a stencil at all."""
    ipam = conf.ipam
    if ipam is None or not ipam.in_process or ipam.sticky or ipam.resolv_conf:
        return False
    if conf.enable_dad or conf.stable_mac or conf.runtime != RuntimeConf():
        return False
    return all(len(range_set) == 1 for range_set in ipam.range_sets)
