"""Brings this node's routes, tunnels and filter to what the cluster wants.

A whole pass looks at all that bears our mark and does the difference. A change of the source alone
needs no look: what was found and done since is known, so only what the change asks for is done.
Nothing is taken away on half the evidence: not before the source was heard, not while this node's
own entry or address is missing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from cni_plugin.backend import desired, pod_mtu
from cni_plugin.backend.view import Settings, View
from cni_plugin.cluster.admission import OF_RANGES, Admitted, Claims, Rules, admit
from cni_plugin.cluster.desired import Desired, Objects
from cni_plugin.cluster.filtering import Policy
from cni_plugin.cluster.former import former_gateways
from cni_plugin.cluster.installed import installed
from cni_plugin.cluster.living import living
from cni_plugin.cluster.sound import Sound
from cni_plugin.cluster.steps import Ages, Steps, steps_of
from cni_plugin.cluster.values import HOST_GW, Cluster, Node, Refused, Underlay
from cni_plugin.kernel import cluster as kernel
from cni_plugin.kernel.execute import Outcome, apply
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.refusal import StepFailed
from cni_plugin.model.objects import Key, Obj, Vxlan, key
from cni_plugin.model.plan import Step, describe
from ipam.values import IPAddress, IPInterface

TOLD_MAX = 10  # failures and repairs of one pass, a line each
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # after the first, second, ... pass that failed


class Plan(NamedTuple):
    """What the agent's config says. name: this node's."""

    name: str
    backend: str
    rules: Rules = Rules()
    settings: Settings = Settings()
    policy: Policy = Policy()


class Report(NamedTuple):
    """One pass. counts: of the steps, by add, change, remove and fail. repaired: what somebody else
    had taken away or changed. reasons: why this node is not ready. again_s: when another whole pass
    is due before its turn. node: this one, as others should know it. mtu: bytes that fit into a
    packet of a pod, whichever node it goes to."""

    whole: bool
    took_s: float
    backend: str
    counts: dict[str, int]
    repaired: tuple[str, ...]
    failures: tuple[str, ...]
    refused: tuple[Refused, ...]
    reasons: tuple[str, ...]
    again_s: float | None
    node: Node | None
    peers: int
    mtu: int | None = None


class Reconciler:
    """For one thread. host: sockets that nobody else uses meanwhile."""

    def __init__(
        self,
        plan: Plan,
        host: Host,
        clock_s: Callable[[], float] = time.monotonic,
        living: Callable[[], Collection[IPAddress] | None] = living,
    ) -> None:
        self._living = living
        self._plan = plan
        self._host = host
        self._clock_s = clock_s
        self.desired = Desired(plan.policy)
        self.indices: dict[str, int] = {}  # of our tunnels and of what they go over, by name
        self._links: dict[str, int] = {}  # of every link
        self._gateways: tuple[tuple[str, IPInterface], ...] = ()  # of podwire's bridges
        self._claims: Claims = {}
        self._sound = Sound()
        self._underlays: dict[IPAddress, Underlay] = {}  # by this node's addresses, ever seen
        self._interfaces: dict[IPAddress, Underlay] = {}
        self._there: Objects | None = None  # what is there of ours; None: not known
        self._held_s: dict[Key, float] = {}  # routes that are held back, and since when
        self._unwanted_s: dict[str, float] = {}
        self._failed = 0  # passes in a row
        self._lacking: tuple[str, ...] = ()  # of what the node itself needs

    def run(self, cluster: Cluster, *, whole: bool) -> Report:
        """One pass. Raises CNIError when the node cannot be looked at."""
        begun_s = time.perf_counter()
        whole = whole or self._there is None
        believed = self._there or {}
        try:
            looked = self._look() if whole else believed
            report = self._pass(cluster, looked, believed, whole=whole)
        except BaseException:
            self._there = None
            self._host.close()  # nobody knows what the sockets still hold
            raise
        return report._replace(took_s=time.perf_counter() - begun_s)

    def _look(self) -> Objects:
        seen = kernel.look(self._host)
        self._interfaces = {one.address.ip: one for one in seen.interfaces}
        self._links = seen.indices
        self._gateways = seen.gateways
        self._there = {key(obj): obj for obj in seen.objects}
        return self._there

    def _pass(self, cluster: Cluster, there: Objects, believed: Objects, *, whole: bool) -> Report:
        name = self._plan.name
        own = cluster.node(name)
        underlays, missing = self._own_underlays(own)
        tunnels = [obj.name for obj in there.values() if isinstance(obj, Vxlan)]
        self.indices = self._indices(tunnels, underlays)
        networks = [one.address.network for one in underlays]
        before = self._claims or installed(cluster.nodes, there.values())
        used = admit(cluster, name, self._plan.rules, networks, before, self._sound)
        self._claims = used.claims
        reasons = list(_reasons(name, used, missing))
        if used.me is None:
            return self._report(cluster, used, reasons, whole=whole)
        view = View(used.me, used.peers, underlays, self._plan.settings, kernel.has_ipv6())
        backend = cluster.backend or self._plan.backend
        change = self.desired.update(backend, view, tunnels=bool(tunnels))
        complete = cluster.synced and not missing
        former = self._clear(used.me, used.peers) if whole and complete else Outcome((), ())
        wanted, doomed = self._considered(change.wanted, change.gone, there, whole=whole)
        ages, doomed = self._ages(tunnels), doomed if complete else []
        chosen = steps_of(wanted, doomed, there, ages, lambda: set(desired(HOST_GW, view)))
        self._hold(chosen.held, whole=whole)
        outcome = self._apply(chosen.steps, there)
        drift = [s for s in outcome.done if _was_there(s, believed)] if whole else []
        drift += former.done
        lacking = tuple(_lacking(outcome, self.desired.common))
        # A pass of one change says nothing of what an earlier one could not make.
        self._lacking = lacking if whole else lacking or self._lacking
        reasons += self._lacking
        report = self._report(cluster, used, reasons, whole=whole)
        mtu = pod_mtu(report.backend, underlays, self._plan.settings.mtu)
        return self._with_outcome(report, chosen, outcome, drift)._replace(mtu=mtu)

    def _clear(self, me: Node, peers: tuple[Node, ...]) -> Outcome:
        """First of all: what stands in the way of routes. What fails does so again by them."""
        former = former_gateways(self._gateways, me, peers, self._living)
        return self._apply(tuple(Step(None, address) for address in former), {})

    def _considered(
        self, wanted: Objects, gone: Objects, there: Objects, *, whole: bool
    ) -> tuple[Iterable[Obj], list[Obj]]:
        """What may be missing, and what is there and not wanted."""
        if not whole:
            return wanted.values(), [there[k] for k in gone if k in there]
        everything = self.desired.objects
        there.update(kernel.settings(everything.values()))
        chains = (*everything.values(), *self.desired.obsolete)
        there.update(kernel.chains(self._host, chains))
        missing = [obj for k, obj in everything.items() if there.get(k) != obj]
        return missing, [obj for k, obj in there.items() if k not in everything]

    def _own_underlays(self, own: Node | None) -> tuple[tuple[Underlay, ...], list[IPAddress]]:
        """The links that this node's addresses are on, and the addresses that are on none. One that
        is away for a moment is taken for where it was."""
        found: list[Underlay] = []
        missing: list[IPAddress] = []
        for address in own.addresses if own else ():
            underlay = self._interfaces.get(address)
            if underlay is None:
                missing.append(address)
                underlay = self._underlays.get(address)
            if underlay is not None:
                self._underlays[address] = underlay
                found.append(underlay)
        return tuple(found), missing

    def _indices(self, tunnels: Iterable[str], underlays: tuple[Underlay, ...]) -> dict[str, int]:
        names = {*tunnels, *(one.link for one in underlays)}
        return {name: self._links[name] for name in names if name in self._links}

    def _ages(self, tunnels: Iterable[str]) -> Ages:
        """Of what waits. tunnels: names of those that are there."""
        now_s, wanted = self._clock_s(), self.desired.objects
        unwanted = {name for name in tunnels if ("Vxlan", name) not in wanted}
        self._unwanted_s = {name: self._unwanted_s.get(name, now_s) for name in unwanted}
        return Ages(
            {k: now_s - since_s for k, since_s in self._held_s.items()},
            {name: now_s - since_s for name, since_s in self._unwanted_s.items()},
        )

    def _hold(self, held: Iterable[Key], *, whole: bool) -> None:
        """A pass of one change says nothing of other changes' routes."""
        now_s = self._clock_s()
        new = {k: self._held_s.get(k, now_s) for k in held}
        self._held_s = new if whole else {**self._held_s, **new}

    def _apply(self, steps: tuple[Step, ...], there: Objects) -> Outcome:
        """And what is there afterwards."""
        if not steps:
            return Outcome((), ())
        places = Places(host=self._host)
        try:
            outcome = apply(places, steps, stop=False)
        finally:
            places.close()
        for step in outcome.done:
            if isinstance(step.subject, Vxlan) and step.wanted is None:
                _forget_link(step.subject.name, there)
            elif step.wanted is None:
                there.pop(key(step.subject), None)
            else:
                there[key(step.subject)] = step.wanted
        return outcome

    def _report(
        self, cluster: Cluster, used: Admitted, reasons: list[str], *, whole: bool
    ) -> Report:
        unreached = [_unreachable(*one) for one in self.desired.unreached.items()]
        backend = cluster.backend or self._plan.backend
        common = self.desired.common.values()
        return Report(
            whole=whole,
            took_s=0.0,
            backend=backend,
            counts={},
            repaired=(),
            failures=(),
            refused=(*used.refused, *unreached),
            reasons=tuple(reasons),
            again_s=None,
            node=announced(used.me, common, backend) if used.me else None,
            peers=len(used.peers),
        )

    def _with_outcome(
        self, report: Report, chosen: Steps, outcome: Outcome, drift: list[Step]
    ) -> Report:
        counts = Counter(_kind(step) for step in outcome.done)
        counts["fail"] = len(outcome.failures)
        waits = [] if chosen.wait_s is None else [chosen.wait_s]
        if outcome.failures:
            waits.append(PAUSES_S[min(self._failed, len(PAUSES_S) - 1)])
            self._failed += 1
        else:
            self._failed = 0
        if any(isinstance(step.wanted, Vxlan) and step.found is None for step in outcome.done):
            waits.append(PAUSES_S[0])  # it has an index now, which events name
        return report._replace(
            counts=dict(counts),
            repaired=_first([describe(step) for step in drift]),
            failures=_first([str(one) for one in outcome.failures]),
            again_s=min(waits, default=None),
        )


def announced(me: Node, common: Iterable[Obj], backend: str) -> Node:
    """This node as others should know it: with the MACs that its tunnels have. common: what is
    wanted whichever peers there are."""
    macs = [(o.local.version, o.mac) for o in common if isinstance(o, Vxlan) and o.mac]
    return me._replace(vtep_macs=tuple(sorted(macs)), backend=backend)


def _was_there(step: Step, believed: Objects) -> bool:
    """Whether somebody else is the reason for the step: what it brings about was there already, or
    what it takes away was not."""
    name = key(step.subject)
    if step.wanted is None:
        return bool(believed) and name not in believed
    return name in believed and believed[name] != step.found


def _forget_link(name: str, there: Objects) -> None:
    """With all that went with it."""
    for k in [k for k, obj in there.items() if name in (getattr(obj, "link", ""), k[1])]:
        del there[k]


def _kind(step: Step) -> str:
    if step.wanted is None:
        return "remove"
    return "add" if step.found is None else "change"


def _unreachable(name: str, cidrs: tuple[str, ...]) -> Refused:
    text = (
        f"no way to {', '.join(cidrs)} of {name}: its addresses are not on-link, or of no IP"
        " version that this node has"
    )
    return Refused(name, "unreachable", text)


def _reasons(name: str, used: Admitted, missing: list[IPAddress]) -> Iterable[str]:
    if used.me is None:
        refused = [one.text for one in used.refused if one.node == name]
        if refused:
            yield refused[0]
            return
        yield f"the source knows no node {name}: is `cluster.node` its name?"
        return
    if not used.me.pod_cidrs:
        why = [o.text for o in used.refused if o.node == name and o.reason in OF_RANGES]
        yield f"node {name} has no podCIDR {'that can be used: ' + why[0] if why else 'yet'}"
    if not used.me.addresses:
        yield f"node {name} has no address yet"
    for address in missing:
        yield f"{address}, an address of node {name}, is on none of its links that are up"


def _lacking(outcome: Outcome, common: Collection[Key]) -> Iterable[str]:
    """What fails of one peer is that peer's, and the others are served; what the node itself needs
    it needs for all."""
    for one in outcome.failures:
        if isinstance(one, StepFailed) and key(one.step.subject) in common:
            yield f"what the node itself needs cannot be made: {one}"
            return


def _first(lines: list[str]) -> tuple[str, ...]:
    """A few lines stand for thousands."""
    more = [f"and {len(lines) - TOLD_MAX} more"] if len(lines) > TOLD_MAX else []
    return (*lines[:TOLD_MAX], *more)
