"""A Node object of the Kubernetes API <-> values: what is read of it, and what is written to it.

Pure. Whatever a field holds, the answer is a Node or a sentence why not: whoever may write to its
Node object must neither stop the others' agents nor get a text of its own further than this.
Source: Kubernetes API v1, Node (spec.podCIDR, spec.podCIDRs, status.addresses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, TypeVar

from cni_plugin.cluster.values import AUTO, HOST_GW, LOCAL, VXLAN, Node, Refused
from cni_plugin.cni import parse
from cni_plugin.cni.names import ID_ACCEPTED, id_fault, shown
from ipam.values import IPAddress, IPNetwork

BACKEND = "podwire.io/backend"
VTEP_MACS = {4: "podwire.io/vtep-mac-ipv4", 6: "podwire.io/vtep-mac-ipv6"}  # by the underlay's IP
PUBLIC_ADDRESS = "podwire.io/public-address"
ANNOTATIONS = (BACKEND, *VTEP_MACS.values(), PUBLIC_ADDRESS)
BACKENDS = (LOCAL, HOST_GW, VXLAN, AUTO)
LISTED_MAX = (
    32  # entries of a list that are looked at; the API allows 2 ranges and has no need for more
)

_Ranged = TypeVar("_Ranged", IPAddress, IPNetwork)


class _Bad(Exception):
    """reason: a word; text: the part of the sentence after the node's name."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def node_of(item: object) -> Node | Refused:
    """The Node that an object of the API tells of. A node without a range yet has no pod_cidrs,
    and is none to refuse."""
    metadata = _mapping(_mapping(item).get("metadata"))
    name = metadata.get("name")
    if not isinstance(name, str) or id_fault(name):
        return Refused(
            shown(name), "name", f"a node is called {shown(name)}, accepted: {ID_ACCEPTED}"
        )
    try:
        return Node(
            name,
            pod_cidrs=_pod_cidrs(_mapping(item)),
            addresses=_addresses(_mapping(item), _annotations(metadata)),
            vtep_macs=_vtep_macs(_annotations(metadata)),
            backend=_backend(_annotations(metadata)),
        )
    except _Bad as bad:
        return Refused(name, bad.reason, f"node {name} is left out: {bad}")


def digest_of(item: object) -> bytes:
    """Of all that `node_of` reads: equal digests, equal values. It takes a tenth of the time, and
    most changes of a Node are its kubelet's news of itself."""
    whole = _mapping(item)
    metadata, spec = _mapping(whole.get("metadata")), _mapping(whole.get("spec"))
    ours = [(key, text) for key, text in _annotations(metadata).items() if key in ANNOTATIONS]
    addresses = _mapping(whole.get("status")).get("addresses")
    read = (metadata.get("name"), spec.get("podCIDR"), spec.get("podCIDRs"), addresses, ours)
    return blake2b(repr(read).encode(errors="replace"), digest_size=16).digest()


def version_of(item: object) -> int:
    """Its resource version as a number; 0 when it is none."""
    return number_of(_mapping(_mapping(item).get("metadata")).get("resourceVersion"))


def number_of(text: object) -> int:
    """A resource version as a number, which grows with each change of any object; 0 when it is
    none. Source: KEP-5504, comparable resource versions."""
    usable = isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) <= 20
    return int(text) if isinstance(text, str) and usable else 0


def annotations_patch(me: Node, item: object) -> dict[str, str | None]:
    """The annotations to set (a text) or to take away (None) on this node's object, so that it
    says what `me` does; empty when it does already.

    me.addresses are announced where they are not the object's own InternalIPs; without any, what is
    announced stays."""
    metadata = _mapping(_mapping(item).get("metadata"))
    found = _annotations(metadata)
    macs = dict(me.vtep_macs)
    wanted: dict[str, str | None] = {BACKEND: me.backend or None}
    wanted |= {key: macs.get(version) for version, key in VTEP_MACS.items()}
    if me.addresses:
        try:
            internal = _internal(_mapping(item))
        except _Bad:
            internal = {}
        others = [a for a in me.addresses if internal.get(a.version) != a]
        wanted[PUBLIC_ADDRESS] = ",".join(map(str, others)) or None
    return {key: text for key, text in wanted.items() if found.get(key) != text}


def _pod_cidrs(item: Mapping[str, Any]) -> tuple[IPNetwork, ...]:
    """spec.podCIDRs; spec.podCIDR is its first one, and all there is in an old API."""
    spec = _mapping(item.get("spec"))
    listed = _listed(spec.get("podCIDRs"), "spec.podCIDRs") or [spec.get("podCIDR")]
    texts = [text for text in listed if text not in (None, "")]
    remedy = "give the node a range of its own, and delete and make its Node object anew"
    found = [_parsed(parse.network, text, "spec.podCIDRs", "podcidr", remedy) for text in texts]
    for cidr in found:
        if not cidr.prefixlen or _special(cidr.network_address):
            raise _Bad("podcidr", f"spec.podCIDRs has {cidr}, which is no range for pods; {remedy}")
    if len(_by_version(found)) < len(set(found)):
        several = ", ".join(map(str, found))
        raise _Bad("podcidr", f"spec.podCIDRs has {several}: more than one range of an IP version")
    return _ordered(_by_version(found))


def _addresses(item: Mapping[str, Any], annotations: Mapping[str, object]) -> tuple[IPAddress, ...]:
    return _ordered({**_internal(item), **_public(annotations)})


def _internal(item: Mapping[str, Any]) -> dict[int, IPAddress]:
    """The first InternalIP of each IP version, as Kubernetes takes it for the node's."""
    listed = _listed(_mapping(item.get("status")).get("addresses"), "status.addresses")
    texts = [one.get("address") for one in map(_mapping, listed) if one.get("type") == "InternalIP"]
    remedy = "the node's kubelet is told its address by --node-ip"
    found = [_parsed(parse.address, text, "an InternalIP", "address", remedy) for text in texts]
    return _by_version(_reachable(found, "an InternalIP", remedy))


def _public(annotations: Mapping[str, object]) -> dict[int, IPAddress]:
    text = annotations.get(PUBLIC_ADDRESS)
    if text in (None, ""):
        return {}
    parts = text.split(",", LISTED_MAX) if isinstance(text, str) else [text]
    remedy = "remove the annotation, the node's agent writes it anew"
    found = [_parsed(parse.address, part, PUBLIC_ADDRESS, "annotation", remedy) for part in parts]
    if len(_by_version(found)) < len(found):
        raise _Bad("annotation", f"{PUBLIC_ADDRESS} has more than one of an IP version; {remedy}")
    return _by_version(_reachable(found, PUBLIC_ADDRESS, remedy))


def _reachable(found: Iterable[IPAddress], where: str, remedy: str) -> list[IPAddress]:
    kept = list(found)
    for address in kept:
        if _special(address):
            raise _Bad("address", f"{where} is {address}, where no other node is reached; {remedy}")
    return kept


def _special(address: IPAddress) -> bool:
    return (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or str(address) == "255.255.255.255"
    )


def _vtep_macs(annotations: Mapping[str, object]) -> tuple[tuple[int, str], ...]:
    remedy = "remove the annotation, the node's agent writes it anew"
    return tuple(
        (version, _parsed(parse.mac, annotations[key], key, "annotation", remedy))
        for version, key in VTEP_MACS.items()
        if annotations.get(key) not in (None, "")
    )


def _backend(annotations: Mapping[str, object]) -> str:
    text = annotations.get(BACKEND) or ""
    if text and text not in BACKENDS:
        accepted = ", ".join(BACKENDS)
        raise _Bad("annotation", f"{BACKEND} is {shown(text)}, accepted: {accepted}")
    return str(text)


_Value = TypeVar("_Value")


def _parsed(
    read: Callable[[object], _Value], value: object, where: str, reason: str, remedy: str
) -> _Value:
    try:
        return read(value)
    except parse.Fault as fault:
        raise _Bad(reason, f"{where} is {shown(value)}, accepted: {fault}; {remedy}") from None


def _by_version(found: Iterable[_Ranged]) -> dict[int, _Ranged]:
    """The first of each IP version."""
    kept: dict[int, _Ranged] = {}
    for one in found:
        kept.setdefault(one.version, one)
    return kept


def _ordered(found: Mapping[int, _Ranged]) -> tuple[_Ranged, ...]:
    """IPv4 first: in which order a dual-stack node lists them makes no difference here."""
    return tuple(found[version] for version in sorted(found))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _annotations(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(metadata.get("annotations"))


def _listed(value: object, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > LISTED_MAX:
        raise _Bad("list", f"{where} is {shown(value)}, accepted: a list of at most {LISTED_MAX}")
    return value
