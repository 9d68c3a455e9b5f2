"""The host's links and the pods' addresses, each from one dump: for looking at all attachments at
once instead of asking for each."""

from __future__ import annotations

from typing import NamedTuple

from cni_plugin.filter.tables import FAMILY_SETS
from cni_plugin.kernel import nft, rtnl
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import Element

PRESENT = ("pods4", "pods6")  # filter.presence


class Census(NamedTuple):
    """links: name to alias, every link. elements: of the sets that were asked for."""

    links: dict[str, str]
    elements: tuple[Element, ...]


def take(*, every_set: bool = False) -> Census:
    """Elements before links: an ADD makes the link first, so an element whose link is not seen
    belongs to one that has gone. every_set: not only who is present. Raises KernelError."""
    places = Places()
    try:
        elements = tuple(
            element
            for family, sets in FAMILY_SETS.items()
            for name in sets
            if every_set or (family == "inet" and name in PRESENT)
            for element in nft.observe_set(places.filter_if_any, family, name)
        )
        found = map(rtnl.parse_link, places.host.dump(rtnl.dump_links()))
        return Census({link.name: link.alias for link in found}, elements)
    finally:
        places.close()
