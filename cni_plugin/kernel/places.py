"""The two namespaces of one call, with their sockets and the links seen in them.

Sockets are opened on first use: an IPAM-only or layer-2 call pays for what it needs. A socket stays
in the namespace it was opened in, so only sysctls need the thread to enter the pod again.
"""

from __future__ import annotations

from collections.abc import Callable

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.netlink import Socket
from cni_plugin.model.objects import HOST, POD
from ipam.lean_typing import TypeVar

T = TypeVar("T")


class Places:
    """The host's namespace and, when there is one, the pod's (an open descriptor, not owned).

    host: somebody else's, who closes it; without one the call has its own."""

    def __init__(self, pod_netns: int | None = None, host: Host | None = None) -> None:
        self._pod_netns = pod_netns
        self._pod: Socket | None = None
        self._borrowed = host is not None
        self.on_host = host or Host()
        self.on_host.look_again()
        self._links: dict[tuple[str, str], rtnl.Link | None] = {}
        self._addresses: dict[tuple[str, int], list[rtnl.Address]] = {}
        self._routes: dict[tuple[int, int], list[rtnl.Route]] = {}
        self._names: dict[int, str] | None = None  # of all host links; None: not all are known

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
        return self.on_host.route

    @property
    def filter(self) -> Socket:
        """The nftables socket of the host's namespace."""
        return self.on_host.filter

    @property
    def filter_if_any(self) -> Socket | None:
        """None in a kernel without nftables: then none of its objects exist."""
        return self.on_host.filter_if_any

    def socket(self, place: str) -> Socket:
        """The rtnetlink socket of a place."""
        if place != POD:
            return self.host
        if self._pod is None:
            self._pod = self.run(POD, Socket)
        return self._pod

    def run(self, place: str, work: Callable[[], T]) -> T:
        """Does work with the thread in that place (sysctls, opening sockets)."""
        return inside(self.netns_fd, work, self.on_host.netns) if place == POD else work()

    def link(self, place: str, name: str) -> rtnl.Link | None:
        """A link by name, remembered until `forget`."""
        if place == POD and not self.has_pod:
            return None
        if (place, name) not in self._links:
            if place != POD and self._names is not None:
                return None
            received = self.socket(place).get(rtnl.get_link(name))
            self._links[place, name] = rtnl.parse_link(received) if received else None
        return self._links[place, name]

    def name_of(self, place: str, index: int) -> str:
        if place != POD and self._names is not None:
            return self._names.get(index, "")
        received = self.socket(place).get(rtnl.get_link_by_index(index))
        return rtnl.parse_link(received).name if received else ""

    def addresses(self, place: str, index: int) -> list[rtnl.Address]:
        """The addresses of a link, remembered until `forget`."""
        if (place, index) not in self._addresses:
            if place != POD and self._names is not None:
                return []
            answers = self.socket(place).dump(rtnl.dump_addresses(index))
            parsed = [rtnl.parse_address(answer) for answer in answers]
            self._addresses[place, index] = [found for found in parsed if found.ifindex == index]
        return self._addresses[place, index]

    def routes(self, place: str, version: int, index: int) -> list[rtnl.Route]:
        """The unicast routes of a link, or with index 0 of all links. After `look_at_all` only
        those of podwire's own protocol."""
        if place != POD and self._names is not None:
            return self._routes.get((version, index), [])
        answers = self.socket(place).dump(rtnl.dump_routes(version, index))
        return [route for route in map(rtnl.parse_route, answers) if route]

    def look_at_all(self) -> None:
        """Reads all of the host's links, addresses and podwire's routes, a dump each, instead of
        asking for one after another; remembered until `forget`."""
        self.forget()
        links = [rtnl.parse_link(one) for one in self.host.dump(rtnl.dump_links())]
        for one in map(rtnl.parse_address, self.host.dump(rtnl.dump_addresses(0))):
            self._addresses.setdefault((HOST, one.ifindex), []).append(one)
        for version in (4, 6):
            for received in self.host.dump(rtnl.dump_own_routes(version)):
                route = rtnl.parse_route(received)
                if route:
                    self._routes.setdefault((version, route.ifindex), []).append(route)
        self._links = {(HOST, link.name): link for link in links}
        self._names = {link.ifindex: link.name for link in links}

    def forget(self) -> None:
        """What was seen may have changed."""
        self.on_host.look_again()
        self._links.clear()
        self._addresses.clear()
        self._routes.clear()
        self._names = None

    def close(self) -> None:
        if self._pod is not None:
            self._pod.close()
            self._pod = None
        if not self._borrowed:
            self.on_host.close()
