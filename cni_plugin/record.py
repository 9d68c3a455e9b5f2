"""An attachment as podwire remembers it, as a value and as JSON.

The record is what DEL and GC clean up by: it needs neither a netns nor a prevResult nor the config
ADD was called with. It holds the objects that go with the attachment; they are undone by the same
difference and plan as everything else.

A newer podwire may have written it, before the node went back to this one. What of it this one does
not know stays in it, and is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from cni_plugin.cni.values import Attachment
from cni_plugin.model.objects import Element, Ifb, Obj, RuleChain, Veth
from ipam.lean_typing import Any, NamedTuple

# ADD is under way, or was cut off; ADD ended well; DEL, GC or undoing has begun.
PENDING, DONE, REMOVING = "pending", "done", "removing"


class Newer(NamedTuple):
    """What of a record only a newer podwire knows, as JSON. owned: objects; fields: names and
    values."""

    owned: tuple[str, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()


class Record(NamedTuple):
    """One attachment. ipam_type "": layer 2 only. netns_inode: the namespace's identity while it
    lives. addresses: texts, as given by IPAM.

    request: which call made it ("" unknown), so that the call is never run twice. conf and result
    (texts, see cni.packing): what it was made of and what was answered, so that it can be made
    whole again; "" in a record of an older podwire and before ADD has ended."""

    network: str
    attachment: Attachment
    phase: str
    mode: str
    netns: str
    netns_inode: int
    pod: str
    ipam_type: str
    data_dir: str
    addresses: tuple[str, ...]
    owned: tuple[Obj, ...]
    request: str = ""
    conf: str = ""
    result: str = ""
    newer: Newer = Newer()


_NAMES = Record._fields[:-1]
_FIELDS = frozenset(_NAMES)
_ATTACHED = ("element", "chain", "veth", "ifb")  # the kinds of objects in a record
_ADDED = {"request": "", "conf": "", "result": ""}  # older records are without


def dump(record: Record) -> bytes:
    """One JSON document."""
    document = record._asdict()
    newer = document.pop("newer")
    document["attachment"] = list(record.attachment)
    document["owned"] = [*map(_dump_object, record.owned), *map(json.loads, newer.owned)]
    document.update((name, json.loads(value)) for name, value in newer.fields)
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def load(data: bytes, *, whole: bool = True) -> Record | None:
    """None when it is not a whole record: then the attachment is cleaned up without one.

    whole False: without the objects, for who only looks at thousands."""
    try:
        # Of bytes json would guess the encoding first.
        fields = {**_ADDED, **json.loads(data.decode())}
        if not all(isinstance(fields[name], str) for name in _ADDED):
            return None
        fields["attachment"] = Attachment(*fields["attachment"])
        fields["addresses"] = tuple(fields["addresses"])
        entries = fields["owned"] if whole else []
        known = [entry for entry in entries if entry[0] in _ATTACHED]
        fields["owned"] = tuple(map(_load_object, known))
        record = Record(*map(fields.__getitem__, _NAMES))
        if len(known) == len(entries) and len(fields) == len(_FIELDS):
            return record
        return record._replace(newer=_newer(entries, fields))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _newer(entries: list[Any], fields: dict[str, Any]) -> Newer:
    """Raises TypeError for what is no object of whatever kind."""
    strange = [entry for entry in entries if entry[0] not in _ATTACHED]
    if not all(isinstance(entry, list) and isinstance(entry[0], str) for entry in strange):
        raise TypeError(strange)
    more = ((name, json.dumps(fields[name])) for name in fields if name not in _FIELDS)
    return Newer(tuple(map(json.dumps, strange)), tuple(more))


def noted(objects: Iterable[Obj]) -> tuple[Obj, ...]:
    """As a record is to have them. A host port may be another's when it is taken away: only of
    such elements the owner is noted, and they are looked at before."""
    return tuple(
        obj._replace(owner=None) if isinstance(obj, Element) and not obj.to else obj
        for obj in objects
    )


def _dump_object(obj: Obj) -> list[Any]:
    """Only the identity: it is all that taking away needs, and the owner where it is noted."""
    if isinstance(obj, Element):
        owner = [obj.owner] if obj.owner else []
        return ["element", obj.family, obj.set, list(obj.key), *owner]
    if isinstance(obj, RuleChain):
        return ["chain", obj.family, obj.name]
    if isinstance(obj, Veth):
        return ["veth", obj.name]
    if isinstance(obj, Ifb):
        return ["ifb", obj.name]
    raise TypeError(f"{type(obj).__name__} does not go with an attachment")


def _load_object(entry: list[Any]) -> Obj:
    """By its identity: a newer podwire may tell more of it."""
    kind, *fields = entry
    if kind == "element":
        family, name, parts, *owner = fields
        return Element(family, name, tuple(parts), owner=owner[0] if owner else None)
    if kind == "chain":
        family, name, *_ = fields
        return RuleChain(family, name, None, ())
    return (Veth if kind == "veth" else Ifb)(fields[0])
