"""Which addresses pods on this node have, as elements: one lookup tells whether one is in use.

The store asks before it gives an address that no reservation holds: after a wiped or restored
store, live pods still answer for themselves. Keyed by network too, because two networks that
never meet may have the same ranges.
"""

from __future__ import annotations

from collections.abc import Iterable

from cni_plugin.model.names import digest
from cni_plugin.model.objects import Element
from ipam.values import IPAddress

LABEL_MAX = 15  # characters of an ifname field (IFNAMSIZ - 1)


def label(network: str) -> str:
    """The network's name, or what stands for it where the name is too long."""
    return network if len(network.encode()) <= LABEL_MAX else digest(network)


def desired_elements(
    network: str, link: str, addresses: Iterable[IPAddress]
) -> tuple[Element, ...]:
    """One element an address. link: the host's end, kept as the owner."""
    return tuple(element(network, address)._replace(owner=link) for address in addresses)


def element(network: str, address: IPAddress) -> Element:
    """The element that stands for a pod of the network having the address."""
    return Element("inet", f"pods{address.version}", (label(network), str(address)))
