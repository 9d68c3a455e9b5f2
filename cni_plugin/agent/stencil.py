"""What the ADDs of one kind have in common, worked out once: their messages, record and answer as
bytes with holes.

There is no second way to decide anything here. Two attachments that nobody has go the way of
every ADD: `desired_state`, `diff`, the executor's messages, `record.dump`, the result's JSON. The
bytes of the first, cut at its names and numbers, are the stencil; filled with those of the second
they must give exactly the second one's bytes. What depends on more has no stencil, and its ADDs go
the general way.
"""

from __future__ import annotations

import os
import re
import struct
from base64 import b32encode
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.result import encode_result
from cni_plugin.cni.values import Attachment, Dns, NetConf, Pod, Request, Result
from cni_plugin.commands.add import Made, addressing_of, record_of
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.kernel import nft, rtnl
from cni_plugin.kernel.execute import Batch, Writes, rehearse
from cni_plugin.kernel.host import Changes
from cni_plugin.kernel.netlink import NLM_F_ACK, Message, encode
from cni_plugin.kernel.places import Places
from cni_plugin.model.addresses import link_local
from cni_plugin.model.objects import HOST, POD, Obj, Veth
from cni_plugin.model.plan import Found, diff
from cni_plugin.record import DONE, PENDING, dump
from ipam.allocate import lease
from ipam.ranges import range_spans, to_address
from ipam.values import IPAddress, Lease

FIRST = 1 << 30  # the first message's number: calls that go the general way never get so far
TRIES = 8  # a random address may look like something else in the bytes, or come twice
INDEX, GENERATION = struct.Struct("=I"), struct.Struct(">I")
HOST_INDEX, POD_INDEX, GENERATION_HOLE = "host_index", "pod_index", "generation"


class Kind(NamedTuple):
    """What ADDs of one config must have in common to share a stencil. id_size: characters of the
    container id, which is in the link's alias."""

    id_size: int
    ifname: str


class Subject(NamedTuple):
    """Whom a stencil is filled for. netns_fd: any descriptor of its namespace; request: its name
    of the call."""

    attachment: Attachment
    pod: Pod
    netns: str
    netns_fd: int
    inode: int
    request: str
    link: str
    host_mac: str
    pod_mac: str
    addresses: tuple[IPAddress, ...]

    def texts(self) -> dict[str, bytes]:
        """As a record and an answer have it."""
        known = {
            "id": self.attachment.container_id,
            "pod": str(self.pod),
            "netns": self.netns,
            "inode": str(self.inode),
            "request": self.request,
            "link": self.link,
            "host_mac": self.host_mac,
            "pod_mac": self.pod_mac,
            "pod_local": str(link_local(self.pod_mac)),
        }
        for number, address in enumerate(self.addresses):
            known[f"address{number}"] = str(address)
        return {name: text.encode() for name, text in known.items()}

    def numbers(self) -> dict[str, bytes]:
        """As messages have it."""
        known = {
            "id": self.attachment.container_id.encode(),
            "link": self.link.encode(),
            "host_mac": rtnl.mac_bytes(self.host_mac),
            "pod_mac": rtnl.mac_bytes(self.pod_mac),
            "pod_local": link_local(self.pod_mac).packed,
            "netns_fd": INDEX.pack(self.netns_fd),
        }
        for number, address in enumerate(self.addresses):
            known[f"address{number}"] = address.packed
        return known


class Sheet:
    """Bytes with holes."""

    def __init__(self, data: bytes, values: Mapping[str, bytes]) -> None:
        """Cut wherever one of the values is."""
        names = {value: name for name, value in values.items()}
        longest_first = sorted(names, key=len, reverse=True)
        parts = re.split(b"(" + b"|".join(map(re.escape, longest_first)) + b")", data)
        self.holes = tuple(names[part] for part in parts[1::2])
        self._form = b"%b".join(part.replace(b"%", b"%%") for part in parts[::2])

    def fill(self, values: Mapping[str, bytes]) -> bytes:
        """The bytes for other values."""
        return self._form % tuple([values[name] for name in self.holes])


class Send(NamedTuple):
    """A datagram. place and chains as in execute.Batch; last: the number of its last message, which
    is the one that is acknowledged."""

    place: str
    sheet: Sheet
    last: int
    chains: Changes = ()


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
    """What the stencils of a config are made for. indexes: of the host's links that are there."""

    conf: NetConf
    facts: Facts
    found: Found
    indexes: Mapping[str, int]


def subject(
    conf: NetConf, attachment: Attachment, pod: Pod, netns: tuple[str, int, int], request: str,
    addresses: tuple[IPAddress, ...],
) -> Subject:  # fmt: skip
    """netns: path, descriptor, inode. For a config without `stableMac`."""
    wiring = Wiring(conf, attachment, pod, netns[0], Result(), Facts())
    return Subject(
        attachment, pod, *netns, request, wiring.host_link, wiring.host_mac, wiring.pod_mac,
        addresses,
    )  # fmt: skip


def shared_objects(conf: NetConf, kind: Kind, facts: Facts) -> tuple[Obj, ...]:
    """The host's objects that all attachments want alike: bridge, chains, settings."""
    one, other = (
        _wanted(conf, facts, sample).wanted.objects
        for sample in (_sample(conf, kind), _sample(conf, kind))
    )
    return tuple(
        obj for obj in one if obj in other and getattr(obj, "place", HOST) == HOST
    )  # fmt: skip


def cut(base: Base, kind: Kind) -> Stencil | None:
    """The stencil of a kind; None where there can be none."""
    for _ in range(TRIES):
        one, other = _sample(base.conf, kind), _sample(base.conf, kind)
        if any(a == b for a, b in zip(one.addresses, other.addresses, strict=True)):
            continue  # it would not tell what follows from the address
        places = [Numbers.random(), Numbers.random()]
        try:
            rendered = render(base, kind, one, places[0])
            goal = render(base, kind, other, places[1])
        except (ValueError, CNIError):
            return None
        made = _cut(rendered, one, places[0])
        if filled(made, other, places[1]) == goal:
            return made
    return None


class Numbers(NamedTuple):
    """What the kernel gives, or has."""

    host_index: int
    pod_index: int
    generation: int

    @classmethod
    def random(cls) -> Numbers:
        """Such as nothing else in a message looks like."""
        return cls(*(int.from_bytes(os.urandom(4), "big") >> 1 for _ in cls._fields))

    def values(self) -> dict[str, bytes]:
        """As messages have it."""
        return {
            HOST_INDEX: INDEX.pack(self.host_index),
            POD_INDEX: INDEX.pack(self.pod_index),
            GENERATION_HOLE: GENERATION.pack(self.generation),
        }


# rendering: the way of every ADD -----------------------------------------------------------------


def _wanted(conf: NetConf, facts: Facts, who: Subject) -> Made:
    assert conf.ipam is not None  # noqa: S101  for the type checker
    leases: list[Lease] = []
    for number, (range_set, address) in enumerate(
        zip(conf.ipam.range_sets, who.addresses, strict=True)
    ):
        leases.append(lease(range_set, number, address))
    addressing = addressing_of(conf.ipam, leases, Dns())
    request = Request("ADD", conf, who.attachment, who.netns, pod=who.pod, id=who.request)
    wanted = desired_state(Wiring(conf, who.attachment, who.pod, who.netns, addressing, facts))
    if wanted.obsolete:
        raise ValueError("something has to go first")
    return Made(request, who.inode, addressing, wanted, owned(wanted.objects))


def render(base: Base, kind: Kind, who: Subject, numbers: Numbers) -> Rendered:
    """One ADD by the way of every ADD. Raises ValueError, CNIError where a stencil is none."""
    made = _wanted(base.conf, base.facts, who)
    steps = diff(made.wanted.objects, base.found)
    links = {(HOST, name): index for name, index in base.indexes.items()}
    links |= {(HOST, who.link): numbers.host_index, (POD, kind.ifname): numbers.pod_index}
    parts = rehearse(_Sketch(who.netns_fd, links), steps)
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
    return Encoded(part.place, last, (data,), (), part.chains)


# cutting and filling -----------------------------------------------------------------------------


def _cut(rendered: Rendered, who: Subject, numbers: Numbers) -> Stencil:
    texts, values = who.texts(), {**who.numbers(), **numbers.values()}
    steps: list[Send | Write] = []
    for step in rendered.steps:
        if step.last < 0:
            sheets = (Sheet(path, {"link": texts["link"]}) for path in step.data)
            steps.append(Write(step.place, tuple(zip(sheets, step.values, strict=True))))
        else:
            steps.append(Send(step.place, Sheet(step.data[0], values), step.last, step.chains))
    sheets = (Sheet(text, texts) for text in (rendered.pending, rendered.done, rendered.reply))
    pending, done, reply = sheets
    return Stencil(pending, tuple(steps), done, reply)


def filled(made: Stencil, who: Subject, numbers: Numbers) -> Rendered:
    """The same by the stencil."""
    texts, values = who.texts(), {**who.numbers(), **numbers.values()}
    return Rendered(
        made.pending.fill(texts),
        tuple(
            Encoded(step.place, step.last, (step.sheet.fill(values),), (), step.chains)
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


# attachments that nobody has ---------------------------------------------------------------------


def _sample(conf: NetConf, kind: Kind) -> Subject:
    return subject(
        conf,
        Attachment(_random_text(kind.id_size), kind.ifname),
        Pod(_random_text(12), _random_text(16)),
        ("/" + _random_text(24), int.from_bytes(os.urandom(3), "big") + (1 << 24), _random_inode()),
        os.urandom(16).hex(),
        tuple(_random_addresses(conf)),
    )


def _random_inode() -> int:
    return (1 << 40) + int.from_bytes(os.urandom(4), "big")


def _random_text(size: int) -> str:
    return b32encode(os.urandom(size)).decode().lower()[:size]


def _random_addresses(conf: NetConf) -> Iterator[IPAddress]:
    """One of each set's only range."""
    assert conf.ipam is not None  # noqa: S101  for the type checker
    for (only,) in conf.ipam.range_sets:
        spans = range_spans(only)
        number = int.from_bytes(os.urandom(16), "big") % sum(s.last - s.first + 1 for s in spans)
        for span in spans:
            size = span.last - span.first + 1
            if number < size:
                yield to_address(only.subnet.version, span.first + number)
                break
            number -= size
