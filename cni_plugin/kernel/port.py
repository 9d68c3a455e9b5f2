"""The `Kernel` and `Netns` ports, on the real kernel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cni_plugin.attach.wiring import BridgeFacts, Facts, gateway_link
from cni_plugin.cni.errors import Conflict, TryAgainLater
from cni_plugin.cni.values import NetConf
from cni_plugin.filter.presence import element
from cni_plugin.kernel import execute, namespace, nft, rtnl, sysctl
from cni_plugin.kernel.forward import may_drop
from cni_plugin.kernel.host import Host
from cni_plugin.kernel.link_messages import bridge_ports
from cni_plugin.kernel.observe import observe, uplink_mtu
from cni_plugin.kernel.places import Places
from cni_plugin.model.names import is_bridge_mark, mac_address
from cni_plugin.model.objects import HOST, POD, Element, Key, Obj
from cni_plugin.model.plan import Step
from cni_plugin.ports import Netns
from ipam.node import read_boot_id
from ipam.values import IPAddress

MARK = "podwire "  # how the alias of our links begins, see model.names.alias
MARKS = (MARK, "podwire-ifb ")  # of all that goes with an attachment
IPV6 = "/proc/sys/net/ipv6"
BRIDGE_NF = ("bridge", "bridge-nf-call-iptables")
DAD_TIMEOUT_S = 5.0  # RFC 4862: one probe, one second; the kernel adds up to another one
DAD_POLL_S = 0.02


def _ipv6() -> str | None:
    return IPV6 if os.path.exists(IPV6) else None


def _fresh_mac(bridge: str) -> str:
    """The MAC of a bridge that is made now. The same each time on this node until it boots: whoever
    makes a deleted one again, live pods still find it. Another one on every other node, also where
    nodes are containers of one kernel (kind): two bridges may be joined."""
    return mac_address("bridge", read_boot_id(), str(namespace.own_inode()), bridge)


class OpenNetns:
    """A pod's namespace, verified and held open."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.inode = namespace.inode(fd)


@contextmanager
def pod_netns(path: str) -> Iterator[OpenNetns]:
    """Raises namespace.InvalidNetns."""
    fd = namespace.open_pod_netns(path)
    try:
        yield OpenNetns(fd)
    finally:
        os.close(fd)


class NodeKernel:
    """The kernel as one call sees it."""

    def __init__(self, places: Places) -> None:
        self._places = places

    def facts(self, conf: NetConf) -> Facts:
        bridge = self._bridge_facts(conf) if conf.mode == "bridge" else None
        return Facts(
            bridge=bridge,
            uplink_mtu=None if bridge or conf.mtu else uplink_mtu(self._places.host),
            fresh_mac=bridge.mac if bridge else _fresh_mac(conf.bridge),
            ipv6=self._places.on_host.recent(IPV6, _ipv6) is not None,
            forward_drops=self._forward_drops(),
        )

    def _bridge_facts(self, conf: NetConf) -> BridgeFacts | None:
        link = self._places.link(HOST, conf.bridge)
        if link is None:
            return None
        gateway = self._places.link(HOST, gateway_link(conf))
        addresses = self._places.addresses(HOST, gateway.ifindex) if gateway else []
        return BridgeFacts(
            mtu=link.mtu,
            is_bridge=link.kind == "bridge",
            ours=is_bridge_mark(link.alias),
            addresses=tuple(found.address for found in addresses),
            idle=not link.flags & rtnl.IFF_LOWER_UP,  # a bridge has carrier while a port has
            mac=link.mac,
        )

    def _forward_drops(self) -> tuple[int, ...]:
        """Cheap where nothing drops; iptables' own programs are started only otherwise."""
        suspects = [v for v in (4, 6) if may_drop(self._places.on_host, v)]
        if not suspects:
            return ()
        from cni_plugin.kernel.iptables import dropping  # brings subprocess: 15 ms cold

        return tuple(v for v in suspects if dropping(self._places.filter, v))

    def observe(self, objects: Iterable[Obj], *, fresh: bool = False) -> dict[Key, Obj]:
        return observe(self._places, objects, fresh=fresh)

    def survey(self, objects: Iterable[Obj]) -> dict[Key, Obj]:
        """`observe` for objects of very many attachments at once, on the host only."""
        self._places.look_at_all()
        try:
            return observe(self._places, objects)
        finally:
            self._places.forget()

    def filter_generation(self) -> int:
        """A number that every change of nftables' rules raises; -1 in a kernel without them."""
        socket = self._places.filter_if_any
        return -1 if socket is None else nft.generation(socket)

    def apply(self, steps: Sequence[Step], *, stop: bool) -> execute.Outcome:
        return execute.apply(self._places, steps, stop=stop)

    def owned_elements(self, *host_links: str) -> tuple[Element, ...]:
        return tuple(nft.observe_owned(self._places.filter_if_any, host_links))

    def ports(self, bridge: str) -> tuple[str, ...]:
        return bridge_ports(self._places, bridge)

    def links(self) -> dict[str, str]:
        found = map(rtnl.parse_link, self._places.host.dump(rtnl.dump_links()))
        return {link.name: link.alias for link in found if link.alias.startswith(MARKS)}

    def host_has(self, name: str) -> bool:
        return self._places.link(HOST, name) is not None

    def pod_has(self, ifname: str) -> bool:
        return self._places.link(POD, ifname) is not None

    def settled(self, ifname: str) -> None:
        deadline = time.monotonic() + DAD_TIMEOUT_S
        while True:
            self._places.forget()
            link = self._places.link(POD, ifname)
            found = self._places.addresses(POD, link.ifindex) if link else []
            for one in found:
                if one.flags & rtnl.IFA_F_DADFAILED:
                    raise Conflict(
                        f"{one.address} is used by another host on this link (DAD failed)",
                        "find the other holder, or exclude the address from the range",
                    )
            if not any(one.flags & rtnl.IFA_F_TENTATIVE for one in found):
                return
            if time.monotonic() > deadline:
                raise TryAgainLater(f"addresses of {ifname} are tentative after {DAD_TIMEOUT_S} s")
            time.sleep(DAD_POLL_S)

    def bridged_packets_filtered(self) -> bool:
        host = self._places.on_host
        return host.recent(BRIDGE_NF, lambda: sysctl.read(BRIDGE_NF)) == "1"

    def holds(self, network: str, address: IPAddress) -> bool:
        """Whether a pod of the network on this node has the address."""
        return bool(nft.observe_elements(self._places.filter_if_any, [element(network, address)]))


@contextmanager
def node_kernel(netns: Netns | None, host: Host | None = None) -> Iterator[NodeKernel]:
    """Sockets are opened when first used and closed here, but for a host's that is handed in."""
    places = Places(netns.fd if netns else None, host)
    try:
        yield NodeKernel(places)
    finally:
        places.close()
