"""The node, its uplink and the outside, made of namespaces; and the pods' namespaces.

The node is the sandbox's own network namespace. Outside is a router and a server behind it; it has
no route to any pod, so an answer from there has come back through the node's masquerade.
"""

from __future__ import annotations

import json
import os
import secrets
import time
import uuid
from pathlib import Path
from typing import Self

from configs import Network
from probe import Mirror, echo, inside
from pyroute2 import IPRoute, netns
from runtime import Runtime, Sandbox

NODE = {4: "192.0.2.10", 6: "2001:db8:1::10"}
ROUTER = {4: "192.0.2.1", 6: "2001:db8:1::1"}
SERVER = {4: "198.51.100.80", 6: "2001:db8:2::80"}
PREFIX = {4: 24, 6: 64}
WHOLE = {4: 32, 6: 128}
IFA_F_NODAD = 2  # linux/if_addr.h
UPLINK_LIMIT_S = 5.0
NETNS_DIR = "/run/netns"
CONF_DIR = Path("/etc/cni/net.d")
BIN_DIR = Path("/opt/cni/bin")


class World:
    """A with block: everything is made on entry; pods that are left go at the end."""

    def __enter__(self) -> Self:
        self.node = IPRoute()
        self._lo_up(self.node)
        self._make_outside()
        self.mirror = Mirror(f"{NETNS_DIR}/outside", tuple(SERVER.values()))
        self._await_outside()
        return self

    def _await_outside(self) -> None:
        """The uplink's own first packets wait for its neighbours, which is no pod's business."""
        end = time.monotonic() + UPLINK_LIMIT_S
        for server in SERVER.values():
            while None in echo("", server, count=1) and time.monotonic() < end:
                time.sleep(0.05)

    def __exit__(self, _type: object, _error: object, _trace: object) -> None:
        self.mirror.close()
        self.node.close()
        for name in netns.listnetns():
            netns.remove(name)

    def _make_outside(self) -> None:
        netns.create("outside")
        with IPRoute(netns="outside") as outside:
            self._lo_up(outside)
            peer = {"ifname": "eth0", "net_ns_fd": "outside"}
            self.node.link("add", ifname="uplink0", kind="veth", peer=peer)
            _no_waiting("", "uplink0")
            _no_waiting(f"{NETNS_DIR}/outside", "eth0")
            uplink = _configure(self.node, "uplink0", NODE)
            _configure(outside, "eth0", ROUTER)
            lo = outside.link_lookup(ifname="lo")[0]
            for version, address in SERVER.items():
                outside.addr("add", index=lo, address=address, prefixlen=WHOLE[version])
            for gateway in ROUTER.values():
                self.node.route("add", dst="default", gateway=gateway, oif=uplink)

    def _lo_up(self, place: IPRoute) -> None:
        place.link("set", index=place.link_lookup(ifname="lo")[0], state="up")


def _no_waiting(path: str, link: str) -> None:
    """No duplicate address detection on our own cable: it would cost a second."""
    setting = Path(f"/proc/sys/net/ipv6/conf/{link}/accept_dad")
    inside(path, lambda: setting.write_text("0"))


def _configure(place: IPRoute, link: str, addresses: dict[int, str]) -> int:
    """Addresses, then up; the link's index."""
    index: int = place.link_lookup(ifname=link)[0]
    for version, address in addresses.items():
        flags = {"flags": IFA_F_NODAD} if version == 6 else {}
        place.addr("add", index=index, address=address, prefixlen=PREFIX[version], **flags)
    place.link("set", index=index, state="up")
    return index


def install(network: Network, executable: Path) -> Runtime:
    """The executable and the config list where a node has them; a runtime that reads them."""
    BIN_DIR.mkdir(parents=True, exist_ok=True)
    CONF_DIR.mkdir(parents=True, exist_ok=True)
    link = BIN_DIR / executable.name
    if not link.is_symlink():
        link.symlink_to(executable)
    file = CONF_DIR / network.file
    file.write_text(json.dumps(network.conflist, indent=2) + "\n")
    return Runtime(file, BIN_DIR)


def new_pod(name: str) -> Sandbox:
    """A pod with a namespace of its own, named as containerd names them, and nothing in it."""
    namespace = f"cni-{uuid.uuid4()}"
    netns.create(namespace)
    return Sandbox(name, secrets.token_hex(6), f"{NETNS_DIR}/{namespace}")


def remove_namespace(pod: Sandbox) -> None:
    """As when a pod's last process is gone, or after a reboot."""
    if os.path.exists(pod.netns):
        netns.remove(os.path.basename(pod.netns))


def in_pod(pod: Sandbox) -> IPRoute:
    """The kernel seen from the pod; to be closed, or the namespace stays alive."""
    return IPRoute(netns=os.path.basename(pod.netns))
