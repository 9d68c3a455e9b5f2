"""The two namespaces of one call, with their sockets and the links seen in them.

Sockets are opened on first use: an IPAM-only or layer-2 call pays for what it needs. A socket stays
in the namespace it was opened in, so only sysctls need the thread to enter the pod again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.netlink import NETLINK_NETFILTER, KernelError, Socket
from cni_plugin.model.objects import HOST, POD
from ipam.lean_typing import TypeVar

T = TypeVar("T")


class Places:
    """The host's namespace and, when there is one, the pod's (an open descriptor, not owned)."""

    def __init__(self, pod_netns: int | None = None) -> None:
        self._pod_netns = pod_netns
        self._sockets: dict[str, Socket] = {}
        self._filter: Socket | None = None
        self._links: dict[tuple[str, str], rtnl.Link | None] = {}
        self._addresses: dict[tuple[str, int], list[rtnl.Address]] = {}

    @property
    def has_pod(self) -> bool:
        return self._pod_netns is not None

    @property
    def netns_fd(self) -> int:
        if self._pod_netns is None:
            raise ValueError("there is no pod namespace in this call")
        return self._pod_netns

    @property
    def host(self) -> Socket:
        return self.socket(HOST)

    @property
    def filter(self) -> Socket:
        """The nftables socket of the host's namespace."""
        if self._filter is None:
            self._filter = Socket(NETLINK_NETFILTER)
        return self._filter

    @property
    def filter_if_any(self) -> Socket | None:
        """None in a kernel without nftables: then none of its objects exist."""
        try:
            return self.filter
        except KernelError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                return None
            raise

    def socket(self, place: str) -> Socket:
        """The rtnetlink socket of a place."""
        if place not in self._sockets:
            self._sockets[place] = self.run(place, Socket)
        return self._sockets[place]

    def run(self, place: str, work: Callable[[], T]) -> T:
        """Does work with the thread in that place (sysctls, opening sockets)."""
        return inside(self.netns_fd, work) if place == POD else work()

    def link(self, place: str, name: str) -> rtnl.Link | None:
        """A link by name, remembered until `forget`."""
        if place == POD and not self.has_pod:
            return None
        if (place, name) not in self._links:
            received = self.socket(place).get(rtnl.get_link(name))
            self._links[place, name] = rtnl.parse_link(received) if received else None
        return self._links[place, name]

    def name_of(self, place: str, index: int) -> str:
        received = self.socket(place).get(rtnl.get_link_by_index(index))
        return rtnl.parse_link(received).name if received else ""

    def addresses(self, place: str, index: int) -> list[rtnl.Address]:
        """The addresses of a link, remembered until `forget`."""
        if (place, index) not in self._addresses:
            answers = self.socket(place).dump(rtnl.dump_addresses(index))
            parsed = [rtnl.parse_address(answer) for answer in answers]
            self._addresses[place, index] = [found for found in parsed if found.ifindex == index]
        return self._addresses[place, index]

    def forget(self) -> None:
        """What was seen may have changed."""
        self._links.clear()
        self._addresses.clear()

    def close(self) -> None:
        for socket in (*self._sockets.values(), *([self._filter] if self._filter else [])):
            socket.close()
        self._sockets.clear()
        self._filter = None
