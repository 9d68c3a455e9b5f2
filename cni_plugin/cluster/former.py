"""What this node still has of a range that is another node's by now. Pure.

A node may get another range (its Node object is made anew), and the one before may go to a new
node. The bridge still has its gateway, and with it the kernel's own route to that range: packets
for the other node's pods would never leave. Nobody else takes the address away: ADD adds the new
one beside it, because old pods may still need theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import HOST, Addr
from ipam.values import IPAddress, IPInterface, IPNetwork


def former_gateways(
    gateways: Iterable[tuple[str, IPInterface]],
    me: Node,
    peers: Iterable[Node],
    living: Callable[[], Collection[IPAddress] | None],
) -> tuple[Addr, ...]:
    """Those that are to go. gateways: the addresses of podwire's own bridges, by their names.
    living: the addresses of this node's pods, asked only when it matters; None: not known, and then
    everything stays. One stays as long as a pod lives in its network, too."""
    strange = [
        (link, address)
        for link, address in gateways
        if not any(_holds(cidr, address) for cidr in me.pod_cidrs)
    ]
    if not strange:
        return ()
    cidrs = [cidr for peer in peers for cidr in peer.pod_cidrs]
    taken = [one for one in strange if any(_holds(cidr, one[1]) for cidr in cidrs)]
    alive = living() if taken else ()
    if alive is None:
        return ()
    return tuple(
        Addr(HOST, link, address)
        for link, address in taken
        if not any(one in address.network for one in alive)
    )


def _holds(cidr: IPNetwork, address: IPInterface) -> bool:
    return address.ip in cidr
