"""What the ADDs of one kind have in common, worked out once: their messages, record and answer as
bytes with holes.

There is no second way to decide anything here. Two attachments that nobody has go the way of
every ADD: `desired_state`, `diff`, the executor's messages, `record.dump`, the result's JSON. The
bytes of the first, cut at its names and numbers, are the stencil; filled with those of the second
they must give exactly the second one's bytes. What depends on more has no stencil, and its ADDs go
the general way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cni_plugin.agent.subject import Kind, Numbers, Subject, sample
from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.result import encode_result
from cni_plugin.cni.values import Dns, NetConf, Request
from cni_plugin.commands.add import Made, addressing_of, record_of
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.kernel import nft, rtnl
from cni_plugin.kernel.execute import Batch, Writes, rehearse
from cni_plugin.kernel.host import Changes
from cni_plugin.kernel.netlink import NLM_F_ACK, Message, encode
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import HOST, Obj, Veth
from cni_plugin.model.plan import Found, diff
from cni_plugin.record import DONE, PENDING, dump
from ipam.allocate import lease
from ipam.values import Lease

FIRST = 1 << 30  # the first message's number: calls that go the general way never get so far
TRIES = 8  # a random address may look like something else in the bytes, or come twice


class Sheet:
    """Bytes with holes."""

    def __init__(self, data: bytes, values: Mapping[str, bytes]) -> None:
        """Cut wherever one of the values is."""
        names = {value: name for name, value in values.items()}
        longest_first = sorted(names, key=len, reverse=True)
        parts = re.split(b"(" + b"|".join(map(re.escape, longest_first)) + b")", data)
        self.holes = tuple(names[part] for part in parts[1::2])
        self.needs = frozenset(self.holes)
        self._form = b"%b".join(part.replace(b"%", b"%%") for part in parts[::2])

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """The bytes for other values."""
        return self._form % tuple([values[name] for name in self.holes])


class Send(NamedTuple):
    """A datagram. place, chains and ports as in execute.Batch; last: the number of its last
    message, which is the one that is acknowledged."""

    place: str
    sheet: Sheet
    last: int
    chains: Changes = ()
    ports: bool = False


class Write(NamedTuple):
    """Values below sysctl.SETTINGS of one place, written while one is in it."""

    place: str
    files: tuple[tuple[Sheet, bytes], ...]


class Stencil(NamedTuple):
    """One kind of ADD. steps: in the order of the plan."""

    pending: Sheet
    steps: tuple[Send | Write, ...]
    done: Sheet
    reply: Sheet


class Encoded(NamedTuple):
    """A datagram and its last message's number; or, with -1, paths and their values."""

    place: str
    last: int
    data: tuple[bytes, ...]
    values: tuple[bytes, ...] = ()
    chains: Changes = ()
    ports: bool = False


class Rendered(NamedTuple):
    """An ADD as bytes: what a stencil is cut from, and compared with."""

    pending: bytes
    steps: tuple[Encoded, ...]
    done: bytes
    reply: bytes


class _Sketch(Places):
    """The links there will be, by index; nothing is asked."""

    def __init__(self, netns_fd: int, links: Mapping[tuple[str, str], int]) -> None:
        super().__init__(netns_fd)
        self._indexes = links

    def link(self, place: str, name: str) -> rtnl.Link | None:
        index = self._indexes.get((place, name))
        return None if index is None else rtnl.Link(index, name, "", "", 0, 0, 0, "")


class Base(NamedTuple):
    """What the stencils of a config are made for. conf: without what a runtime asks for; indexes:
    of the host's links that are there."""

    conf: NetConf
    facts: Facts
    found: Found
    indexes: Mapping[str, int]


def shared_objects(conf: NetConf, kind: Kind, facts: Facts) -> tuple[Obj, ...]:
    """The host's objects that all attachments want alike: bridge, chains, settings."""
    one, other = (_wanted(conf, facts, sample(conf, kind)).wanted.objects for _ in range(2))
    return tuple(
        obj for obj in one if obj in other and getattr(obj, "place", HOST) == HOST
    )  # fmt: skip


def cut(base: Base, kind: Kind) -> Stencil | None:
    """The stencil of a kind; None where there can be none."""
    for _ in range(TRIES):
        one, other = sample(base.conf, kind), sample(base.conf, kind)
        if any(a == b for a, b in zip(one.addresses, other.addresses, strict=True)):
            continue  # it would not tell what follows from the address
        places = [Numbers.random(), Numbers.random()]
        try:
            rendered = render(base, one, places[0])
            goal = render(base, other, places[1])
        except (ValueError, CNIError):
            return None
        made = _cut(rendered, one, places[0])
        if filled(made, other, places[1]) == goal:
            return made
    return None


# rendering: the way of every ADD -----------------------------------------------------------------


def _wanted(conf: NetConf, facts: Facts, who: Subject) -> Made:
    assert conf.ipam is not None  # noqa: S101  for the type checker
    leases: list[Lease] = []
    for number, (range_set, address) in enumerate(
        zip(conf.ipam.range_sets, who.addresses, strict=True)
    ):
        leases.append(lease(range_set, number, address))
    addressing = addressing_of(conf.ipam, leases, Dns())
    if who.asked != conf.runtime:
        conf = conf._replace(runtime=who.asked)
    request = Request("ADD", conf, who.attachment, who.netns, pod=who.pod, id=who.request)
    wanted = desired_state(Wiring(conf, who.attachment, who.pod, who.netns, addressing, facts))
    if wanted.obsolete:
        raise ValueError("something has to go first")
    return Made(request, who.inode, addressing, wanted, owned(wanted.objects))


def render(base: Base, who: Subject, numbers: Numbers) -> Rendered:
    """One ADD by the way of every ADD. Raises ValueError, CNIError where a stencil is none."""
    made = _wanted(base.conf, base.facts, who)
    steps = diff(made.wanted.objects, base.found)
    links = {(HOST, name): index for name, index in base.indexes.items()}
    parts = rehearse(_Sketch(who.netns_fd, links | numbers.links(who)), steps)
    if not any(isinstance(step.subject, Veth) and step.subject.name == who.link for step in steps):
        raise ValueError("no pair is made")
    return Rendered(
        dump(record_of(made, PENDING)),
        tuple(_encoded(part, numbers.generation) for part in parts),
        dump(record_of(made, DONE)),
        encode_result(made.wanted.result, base.conf.cni_version),
    )


def _encoded(part: Batch | Writes, generation: int) -> Encoded:
    if isinstance(part, Writes):
        paths = tuple("/".join(one.path).encode() for one in part.sysctls)
        return Encoded(part.place, -1, paths, tuple(one.value.encode() for one in part.sysctls))
    messages: Sequence[Message] = part.messages
    last = FIRST + len(messages) - 1
    if not part.place:
        messages = (nft.begin_at(generation), *messages, nft.end())
        last += 1
    data = b"".join(
        encode(message, number, NLM_F_ACK if number == last else 0)
        for number, message in enumerate(messages, FIRST)
    )
    return Encoded(part.place, last, (data,), (), part.chains, part.ports)


# cutting and filling -----------------------------------------------------------------------------


def _cut(rendered: Rendered, who: Subject, numbers: Numbers) -> Stencil:
    texts, values = who.texts(), {**who.numbers(), **numbers.values()}
    links = {name: texts[name] for name in who.links() if name in texts}
    sheets = (Sheet(text, texts) for text in (rendered.pending, rendered.done, rendered.reply))
    pending, done, reply = sheets
    return Stencil(pending, tuple(_step(one, values, links) for one in rendered.steps), done, reply)


def _step(step: Encoded, values: Mapping[str, bytes], links: Mapping[str, bytes]) -> Send | Write:
    if step.last >= 0:
        return Send(step.place, Sheet(step.data[0], values), step.last, step.chains, step.ports)
    sheets = (Sheet(path, links) for path in step.data)
    return Write(step.place, tuple(zip(sheets, step.values, strict=True)))


def filled(made: Stencil, who: Subject, numbers: Numbers) -> Rendered:
    """The same by the stencil."""
    texts, values = who.texts(), {**who.numbers(), **numbers.values()}
    return Rendered(
        made.pending.fill(texts),
        tuple(
            Encoded(step.place, step.last, (step.sheet.fill(values),), (), *step[3:])
            if isinstance(step, Send)
            else Encoded(
                step.place,
                -1,
                tuple(sheet.fill(texts) for sheet, _value in step.files),
                tuple(value for _sheet, value in step.files),
            )
            for step in made.steps
        ),
        made.done.fill(texts),
        made.reply.fill(texts),
    )
