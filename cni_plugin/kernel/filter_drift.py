"""nftables' events about the cluster's part of our table (filter.cluster), made by others.

A pod's elements come and go with every call; those are none of it. Our own transactions are told
by the port of the socket that they came from. Source: linux/nfnetlink.h, nf_tables.h.
"""

from __future__ import annotations

import _socket
import errno

from cni_plugin.filter.cluster import CHAINS, SETS
from cni_plugin.filter.tables import TABLE
from cni_plugin.kernel import nft
from cni_plugin.kernel.monitor import DELSET, DELTABLE, DORMANT, NFTABLES, listener, waiting
from cni_plugin.kernel.netlink import (
    HEADER,
    NETLINK_NETFILTER,
    KernelError,
    attribute_map,
    messages_in,
    string,
)
from cni_plugin.kernel.nft_exprs import FAMILIES

# By the kind of message, which attribute names what it is about, and which names are ours.
_NAMED = {
    **dict.fromkeys((nft.NEWRULE, nft.DELRULE), (2, CHAINS)),
    nft.DELCHAIN: (3, CHAINS),
    **dict.fromkeys((DELSET, nft.NEWSETELEM, nft.DELSETELEM), (2, SETS)),
}


class FilterDrift:
    """Hears of changes in this namespace; of none in a kernel without nftables. Raises
    KernelError."""

    def __init__(self) -> None:
        self._socket: _socket.socket | None = None
        try:
            self._socket = listener(NETLINK_NETFILTER, (NFTABLES,))
        except KernelError as error:
            if error.errno != errno.EPROTONOSUPPORT:  # no nftables: nothing of it can go
                raise

    @property
    def descriptor(self) -> int | None:
        """Readable when there is something to `drain`."""
        return None if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def drain(self, own_port: int) -> bool:
        """Whether what has come is a reason to look. own_port: the port of our own socket."""
        if self._socket is None:
            return False
        try:
            return any(is_drift(data, own_port) for data in waiting(self._socket))
        except OSError:  # ENOBUFS: some were lost
            return True


def is_drift(data: bytes, own_port: int) -> bool:
    """Whether a datagram of events, all of one transaction, tells of a change to the cluster's
    part."""
    if TABLE.encode() + b"\0" not in data:  # kube-proxy writes thousands of rules
        return False
    if HEADER.unpack_from(data)[4] == own_port:
        return False
    return any(_is_of_cluster(received.type, received.body) for _, received in messages_in(data))


def _is_of_cluster(kind: int, body: bytes) -> bool:
    if kind >> 8 != nft.SUBSYSTEM or not body or body[0] != FAMILIES["inet"]:
        return False
    found, kind = attribute_map(body, 4), kind & 0xFF  # after struct nfgenmsg
    if string(found.get(1, b"")) != TABLE:  # NFTA_*_TABLE are all 1
        return False
    if kind == nft.NEWTABLE:
        return bool(int.from_bytes(found.get(2, b""), "big") & DORMANT)
    place, names = _NAMED.get(kind, (0, ()))
    return kind == DELTABLE or string(found.get(place, b"")) in names
