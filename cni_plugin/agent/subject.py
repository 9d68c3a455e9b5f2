"""Whom a stencil is cut for and filled for: all in which one ADD of a kind differs from the next.

A hole has a name; what goes into it is one value as messages have it and another as records and
answers do. Sampled subjects are attachments that nobody has: their names, numbers and ports look
like nothing else in a message.
"""

from __future__ import annotations

import os
import struct
from base64 import b32encode
from collections.abc import Iterator
from random import SystemRandom
from typing import NamedTuple

from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.values import Attachment, NetConf, Pod, PortMapping, Result, RuntimeConf
from cni_plugin.kernel import nft, rtnl
from cni_plugin.model import names
from cni_plugin.model.addresses import link_local
from cni_plugin.model.objects import HOST, POD
from ipam.ranges import range_spans, to_address
from ipam.values import IPAddress

INDEX, GENERATION = struct.Struct("=I"), struct.Struct(">I")
GENERATION_HOLE = "generation"
PORT_FIELDS = ("inet_proto", "inet_service")
_random = SystemRandom()


class Kind(NamedTuple):
    """What ADDs of one config must have in common to share a stencil. id_size: characters of the
    container id, which is in the link's alias. asked: what the runtime asks for; the numbers of the
    ports are 0, see `shape`."""

    id_size: int
    ifname: str
    asked: RuntimeConf = RuntimeConf()


def shape(asked: RuntimeConf) -> RuntimeConf:
    """Without what may differ within a kind."""
    if not asked.port_mappings:
        return asked
    ports = (mapping._replace(host_port=0, container_port=0) for mapping in asked.port_mappings)
    return asked._replace(port_mappings=tuple(ports))


class Subject(NamedTuple):
    """netns_fd: any descriptor of its namespace; request: its name of the call."""

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
    asked: RuntimeConf

    def texts(self) -> dict[str, bytes]:
        """As a record and an answer have it."""
        known = {
            "id": self.attachment.container_id,
            "pod": str(self.pod),
            "netns": self.netns,
            "inode": str(self.inode),
            "request": self.request,
            "host_mac": self.host_mac,
            "pod_mac": self.pod_mac,
            "pod_local": str(link_local(self.pod_mac)),
            **self._links(),
        }
        for number, address in enumerate(self.addresses):
            known[f"address{number}"] = str(address)
        for number, mapping in enumerate(self.asked.port_mappings):
            known[f"host_port{number}"] = str(mapping.host_port)
            known[f"pod_port{number}"] = str(mapping.container_port)
        return {name: text.encode() for name, text in known.items()}

    def numbers(self) -> dict[str, bytes]:
        """As messages have it."""
        known = {
            "id": self.attachment.container_id.encode(),
            "host_mac": rtnl.mac_bytes(self.host_mac),
            "pod_mac": rtnl.mac_bytes(self.pod_mac),
            "pod_local": link_local(self.pod_mac).packed,
            "netns_fd": INDEX.pack(self.netns_fd),
        }
        known.update((name, link.encode()) for name, link in self._links().items())
        for number, address in enumerate(self.addresses):
            known[f"address{number}"] = address.packed
        for number, mapping in enumerate(self.asked.port_mappings):
            known.update(_port_numbers(number, mapping))
        return known

    def _links(self) -> dict[str, str]:
        return {name: link for name, (place, link) in self.links().items() if place == HOST}

    def links(self) -> dict[str, tuple[str, str]]:
        """Those that there may be: where, and how called."""
        return {
            "link": (HOST, self.link),
            "pod_link": (POD, self.attachment.ifname),
            "ingress": (HOST, names.ifb("ingress", self.link)),
            "egress": (HOST, names.ifb("egress", self.link)),
        }


def index_hole(link: str) -> str:
    """For the index of one of `Subject.links`."""
    return f"{link}_index"


def _port_numbers(number: int, mapping: PortMapping) -> Iterator[tuple[str, bytes]]:
    """The protocol along with a port, and what fills the field up: two bytes alone are easily
    found elsewhere, too."""
    fields = mapping.protocol, str(mapping.host_port)
    yield f"host_port{number}", nft.packed(PORT_FIELDS, fields)
    to = nft.packed(PORT_FIELDS, (mapping.protocol, str(mapping.container_port)))
    yield f"pod_port{number}", to[4:]


def subject(
    conf: NetConf, attachment: Attachment, pod: Pod, netns: tuple[str, int, int], request: str,
    addresses: tuple[IPAddress, ...], asked: RuntimeConf,
) -> Subject:  # fmt: skip
    """netns: path, descriptor, inode. For a config without `stableMac`."""
    wiring = Wiring(conf, attachment, pod, netns[0], Result(), Facts())
    return Subject(
        attachment, pod, *netns, request, wiring.host_link, wiring.host_mac, wiring.pod_mac,
        addresses, asked,
    )  # fmt: skip


class Numbers(NamedTuple):
    """What the kernel gives, or has: indexes by the names of `Subject.links`."""

    link: int
    pod_link: int
    ingress: int
    egress: int
    generation: int

    @classmethod
    def random(cls) -> Numbers:
        """Such as nothing else in a message looks like."""
        return cls(*(int.from_bytes(os.urandom(4), "big") >> 1 for _ in cls._fields))

    def values(self) -> dict[str, bytes]:
        """As messages have it."""
        indexes = zip(self._fields[:-1], self[:-1], strict=True)
        known = {index_hole(name): INDEX.pack(index) for name, index in indexes}
        return known | {GENERATION_HOLE: GENERATION.pack(self.generation)}

    def links(self, who: Subject) -> dict[tuple[str, str], int]:
        """The links by place and name."""
        return {where: getattr(self, name) for name, where in who.links().items()}


# attachments that nobody has ---------------------------------------------------------------------


def sample(conf: NetConf, kind: Kind) -> Subject:
    """One of a kind."""
    return subject(
        conf,
        Attachment(_random_text(kind.id_size), kind.ifname),
        Pod(_random_text(12), _random_text(16)),
        ("/" + _random_text(24), int.from_bytes(os.urandom(3), "big") + (1 << 24), _random_inode()),
        os.urandom(16).hex(),
        tuple(_random_addresses(conf)),
        kind.asked._replace(port_mappings=tuple(_random_ports(kind))),
    )


def _random_inode() -> int:
    return (1 << 40) + int.from_bytes(os.urandom(4), "big")


def _random_text(size: int) -> str:
    return b32encode(os.urandom(size)).decode().lower()[:size]


def _random_ports(kind: Kind) -> Iterator[PortMapping]:
    """Of five digits, and none twice."""
    mappings = kind.asked.port_mappings
    ports = iter(_random.sample(range(10000, 1 << 16), 2 * len(mappings)))
    for mapping in mappings:
        yield mapping._replace(host_port=next(ports), container_port=next(ports))


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
