"""Applies a plan's steps: in order, batched, with every failure attributed to its step."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, takewhile

from cni_plugin.cni.errors import CNIError
from cni_plugin.filter.masquerade import is_network_chain
from cni_plugin.filter.tables import DATA_MAPS
from cni_plugin.kernel import nft, rtnl, sysctl
from cni_plugin.kernel.host import Changes
from cni_plugin.kernel.link_messages import messages_of
from cni_plugin.kernel.netlink import KernelError, Message
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.refusal import StepFailed
from cni_plugin.model.objects import (
    HOST,
    POD,
    Bridge,
    Element,
    FilterTable,
    ForwardAccept,
    ForwardChain,
    Ifb,
    PortVlan,
    Redirect,
    RuleChain,
    Sysctl,
    Tbf,
    TxChecksum,
    Veth,
    Vxlan,
    key,
)
from cni_plugin.model.plan import Step, describe
from ipam.lean_typing import NamedTuple

# What a removal answers when the object, or the link it hung on, is gone already.
GONE = (errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENXIO)
# EBUSY on a chain: another pod's element still leads into it, so it stays.
IN_USE = (errno.EBUSY,)
BATCH_MAX = 128  # messages sent at once: their answers must fit the socket's receive buffer
LINK_GROUP = 0x70770000  # "pw", and 16 bits of our pid: links about to be deleted together


class Outcome(NamedTuple):
    """What was done, and what was not. With stop=True there is at most one failure."""

    done: tuple[Step, ...]
    failures: tuple[CNIError, ...]


def apply(places: Places, steps: Sequence[Step], *, stop: bool) -> Outcome:
    """Applies the steps in order. stop: give up at the first failure (ADD); otherwise go on and
    report them all (DEL, undoing)."""
    done: list[Step] = []
    failures: list[CNIError] = []
    for channel, group in groupby(steps, _channel):
        outcome = channel(places, tuple(group), stop)
        places.forget()
        done += outcome.done
        failures += outcome.failures
        if stop and failures:
            break
    return Outcome(tuple(done), tuple(failures))


class Batch(NamedTuple):
    """Messages that go in one datagram. place: of the rtnetlink socket; "": one transaction of
    nftables. chains: those that it makes, as they are then; ports: there are host ports in it,
    which have to be settled afterwards (see host_ports.settle)."""

    place: str
    messages: tuple[Message, ...]
    chains: Changes = ()
    ports: bool = False


class Writes(NamedTuple):
    """Values below /proc/sys/net of one place."""

    place: str
    sysctls: tuple[Sysctl, ...]


def rehearse(places: Places, steps: Sequence[Step]) -> Iterator[Batch | Writes]:
    """What `apply` sends and writes for the steps where all of them succeed. Raises ValueError for
    a step that takes more than messages and values, StepFailed for a link that is not known."""
    for channel, group in groupby(steps, _channel):
        part = tuple(group)
        if channel is _through_filter:
            messages = (message for step in _tables(part) for message in step)
            yield Batch("", tuple(messages), _chain_changes(part), any(map(_is_port, part)))
        elif channel in (_host_sysctls, _pod_sysctls):
            place = POD if channel is _pod_sysctls else HOST
            yield Writes(place, tuple(s.wanted for s in part if isinstance(s.wanted, Sysctl)))
        elif channel in (_host_links, _pod_links):
            place = POD if channel is _pod_links else HOST
            for run in _runs(part):
                yield Batch(place, tuple(one for step in run for one in messages_of(places, step)))
        else:
            raise ValueError(describe(part[0]))


Channel = Callable[[Places, tuple[Step, ...], bool], Outcome]


def _channel(step: Step) -> Channel:
    """Which kernel interface a step goes through; neighbours of one channel share a batch."""
    obj = step.subject
    if isinstance(obj, (RuleChain, Element, FilterTable)):
        return _through_filter
    if isinstance(obj, Sysctl):
        return _pod_sysctls if obj.place == POD else _host_sysctls
    if isinstance(obj, (ForwardAccept, ForwardChain)):
        return _through_iptables
    if isinstance(obj, TxChecksum):
        return _through_ethtool
    return _pod_links if getattr(obj, "place", HOST) == POD else _host_links


# links, addresses, routes ------------------------------------------------------------------------


def _host_links(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    pairs = tuple(takewhile(_is_pair_removal, steps))
    if stop or len(pairs) < (1 if places.on_host.background else 2):
        return _links(places, HOST, steps, stop)
    together = _remove_together(places, pairs)
    return _joined((together, _links(places, HOST, steps[len(pairs) :], stop)))


def _is_pair_removal(step: Step) -> bool:
    return step.wanted is None and isinstance(step.subject, (Veth, Ifb))


def _remove_together(places: Places, steps: tuple[Step, ...]) -> Outcome:
    """Many pairs in one go: the kernel waits for its readers once for a whole group of links, and
    about 20 ms for each that is deleted by name. What is refused is tried one by one."""
    group = LINK_GROUP | os.getpid() & 0xFFFF
    marks = [rtnl.join_group(_name(step), group, describe(step)) for step in steps]
    try:
        for start in range(0, len(marks), BATCH_MAX):
            places.host.batch(marks[start : start + BATCH_MAX])
        deletion = rtnl.delete_group(group, f"ip link delete group {group}")
        if places.on_host.background:
            places.on_host.background.delete(deletion, [*map(_name, steps)], places.host)
        else:
            places.host.batch([deletion])
    except KernelError:
        return _links(places, HOST, steps, False)
    places.forget()
    left = tuple(step for step in steps if places.link(HOST, _name(step)) is not None)
    gone = Outcome(tuple(step for step in steps if step not in left), ())
    return _joined((gone, _links(places, HOST, left, False)))


def _name(step: Step) -> str:
    assert isinstance(step.subject, (Veth, Ifb))  # noqa: S101  for the type checker
    return step.subject.name


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    outcomes = tuple(outcomes)
    return Outcome(
        tuple(step for outcome in outcomes for step in outcome.done),
        tuple(failure for outcome in outcomes for failure in outcome.failures),
    )


def _pod_links(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    return _links(places, POD, steps, stop)


def _links(places: Places, place: str, steps: tuple[Step, ...], stop: bool) -> Outcome:
    """One batch, cut where a message needs what the ones before it leave."""
    done: list[Step] = []
    failures: list[CNIError] = []
    for run in _runs(steps):
        outcome = _batch(places, place, run)
        places.forget()
        done += outcome.done
        failures += outcome.failures
        if stop and failures:
            break
    return Outcome(tuple(done), tuple(failures))


def _runs(steps: tuple[Step, ...]) -> Iterator[list[Step]]:
    run: list[Step] = []
    for step in steps:
        if run and (isinstance(run[-1].subject, (Bridge, Vxlan)) or _asks(step, run[-1])):
            yield run
            run = []
        run.append(step)
    if run:
        yield run


def _asks(step: Step, before: Step) -> bool:
    """Whether its message is made of what the messages before it leave: the index of the port that
    gets a VLAN or a queue, or the ports of a bridge that goes only when it has none."""
    if isinstance(step.subject, (Tbf, Redirect)):
        return not isinstance(before.subject, (Tbf, Redirect))
    return isinstance(step.subject, PortVlan if step.wanted else Bridge)


def _batch(places: Places, place: str, steps: list[Step]) -> Outcome:
    owners: list[Step] = []
    messages: list[Message] = []
    failed: dict[int, StepFailed] = {}
    for step in steps:
        try:
            wanted = list(messages_of(places, step))
        except StepFailed as gone:
            failed[id(step)] = gone
            continue
        owners += [step] * len(wanted)
        messages += wanted
    for step, error in zip(owners, places.socket(place).batch(messages), strict=True):
        if error is not None and not (step.wanted is None and error.errno in GONE):
            failed.setdefault(id(step), StepFailed(error, step))
    return Outcome(
        tuple(step for step in steps if id(step) not in failed),
        tuple(failed[id(step)] for step in steps if id(step) in failed),
    )


# sysctls, nftables, iptables ---------------------------------------------------------------------


def _host_sysctls(_places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    return _one_by_one(steps, _write_sysctl, stop)


def _pod_sysctls(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    return places.run(POD, lambda: _one_by_one(steps, _write_sysctl, stop))


def _write_sysctl(step: Step) -> None:
    if isinstance(step.wanted, Sysctl):  # a value has no absence to go back to
        sysctl.write(step.wanted.path, step.wanted.value)


def _through_ethtool(_places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    from cni_plugin.kernel import offload  # brings ctypes

    def act(step: Step) -> None:
        if isinstance(step.wanted, TxChecksum):
            try:
                offload.set_tx_checksum(step.wanted.link, on=step.wanted.on)
            except KernelError as error:
                raise StepFailed(error, step) from error

    return _one_by_one(steps, act, stop)


def _through_iptables(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    from cni_plugin.kernel import iptables

    def act(step: Step) -> None:
        obj = step.subject
        if isinstance(obj, ForwardChain):
            if step.wanted is None:
                iptables.delete_forward_chain(obj.program)
            return
        assert isinstance(obj, ForwardAccept)  # noqa: S101  for the type checker
        change = iptables.accept_forward if step.wanted else iptables.unaccept_forward
        change(places.filter, obj.range)

    return _one_by_one(steps, act, stop)


def _through_filter(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    """One transaction for all, or, where not all must succeed, in pieces."""
    pieces = (steps,) if stop else _pieces(steps)
    return _joined(_transaction(places, piece, stop) for piece in pieces)


def _pieces(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    """A chain that is taken away goes alone: it is refused while another pod leads into it, and
    that must not cost the others a transaction each (3 ms)."""
    for alone, run in groupby(steps, _is_chain_removal):
        size = 1 if alone else BATCH_MAX
        group = tuple(run)
        yield from (group[start : start + size] for start in range(0, len(group), size))


def _is_chain_removal(step: Step) -> bool:
    return step.wanted is None and isinstance(step.subject, (RuleChain, FilterTable))


def _transaction(places: Places, steps: tuple[Step, ...], stop: bool) -> Outcome:
    """All or nothing; not `stop`: of a refused one each half is tried, down to the step that is to
    blame."""
    try:
        messages = [message for step in _tables(steps) for message in step]
        changes = _chain_changes(steps)
        whole = any(isinstance(step.subject, FilterTable) for step in steps)
        places.on_host.commit(
            messages, chains=whole or bool(changes), changes=None if whole else changes
        )
    except KernelError as error:
        if stop or len(steps) == 1:
            return _filter_refused(places, steps, error)
        halves = steps[: len(steps) // 2], steps[len(steps) // 2 :]
        return _joined(_transaction(places, half, stop) for half in halves)
    ports = tuple(filter(_is_port, steps))
    return Outcome(steps, _settled(places, ports, stop) if ports else ())


def _is_port(step: Step) -> bool:
    obj = step.subject
    return isinstance(obj, Element) and obj.set in DATA_MAPS


def _settled(places: Places, ports: tuple[Step, ...], stop: bool) -> tuple[CNIError, ...]:
    from cni_plugin.kernel import host_ports  # few pods have any

    return host_ports.settle(places, ports, gaining=stop)


def _chain_changes(steps: Iterable[Step]) -> Changes:
    """The chains that are made or taken away, as they are then."""
    chains = ((step.subject, step.wanted) for step in steps)
    return tuple(
        (key(subject), wanted if isinstance(wanted, RuleChain) else None)
        for subject, wanted in chains
        if isinstance(subject, RuleChain)
    )


def _filter_refused(places: Places, steps: tuple[Step, ...], error: KernelError) -> Outcome:
    removing = all(step.wanted is None for step in steps)
    if removing and error.errno in (*GONE, *IN_USE):
        return Outcome(steps, ())
    ports = tuple(filter(_is_port, steps)) if error.errno == errno.EEXIST else ()
    if ports:
        from cni_plugin.kernel import host_ports

        taken = host_ports.holder(places, ports)
        if taken is not None:
            return Outcome((), (taken,))
    return Outcome((), (StepFailed(error, steps[0]),))


def _tables(steps: tuple[Step, ...]) -> Iterator[list[Message]]:
    """The transaction, a list of messages a step; tables and sets first when a chain is made
    that every node has: a network's own comes after those."""
    families = {
        step.wanted.family: None
        for step in steps
        if isinstance(step.wanted, RuleChain) and not is_network_chain(step.wanted)
    }
    for family in families:
        yield list(nft.new_table(family))
    # The transaction is one moment, so what goes may go first: a range takes no other one into it.
    for step in sorted(steps, key=_is_element_gained):
        obj = step.subject
        if isinstance(obj, (RuleChain, Element)) and not nft.is_known(obj):
            continue  # only a newer podwire can take it away
        if isinstance(obj, RuleChain):
            yield list(nft.new_chain(obj) if step.wanted else nft.delete_chain(obj))
        elif _is_port(step):
            from cni_plugin.kernel import host_ports

            yield list(host_ports.messages(step))
        elif isinstance(obj, FilterTable):
            yield list(nft.new_table(obj.family)) if step.wanted else [nft.delete_table(obj.family)]
        elif isinstance(obj, Element):
            old = [nft.delete_element(step.found)] if isinstance(step.found, Element) else []
            new = [nft.new_element(step.wanted)] if isinstance(step.wanted, Element) else []
            yield old + new


def _is_element_gained(step: Step) -> bool:
    return step.wanted is not None or isinstance(step.subject, RuleChain)


def _one_by_one(steps: tuple[Step, ...], act: Callable[[Step], None], stop: bool) -> Outcome:
    done: list[Step] = []
    failures: list[CNIError] = []
    for step in steps:
        try:
            act(step)
        except CNIError as error:
            failures.append(error)
            if stop:
                break
        else:
            done.append(step)
    return Outcome(tuple(done), tuple(failures))
