"""The config lists that real runtimes get."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
V4 = [{"subnet": "10.244.0.0/24"}]
V6 = [{"subnet": "2001:db8:244::/64"}]
ROUTES = [{"dst": "0.0.0.0/0"}]
ROUTES_DUAL = [*ROUTES, {"dst": "::/0"}]
META: list[Json] = [
    {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    {"type": "bandwidth", "ingressRate": 100_000_000, "ingressBurst": 10_000_000},
    {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"}},
    {"type": "firewall", "backend": "iptables"},
]


@dataclass(frozen=True)
class Network:
    """A chain, and the prefix lengths of the addresses that a container gets from it."""

    plugins: list[Json]
    prefixes: list[str]


def bridge(ipam: Json, **more: Any) -> Json:
    """podwire where a config list had the reference's bridge."""
    return {"type": "podwire", "bridge": "cni0", "isGateway": True, "ipam": ipam, **more}


DUAL = {"type": "podwire-ipam", "ranges": [V4, V6], "routes": ROUTES_DUAL}
HOST_LOCAL = {"type": "host-local", "ranges": [V4], "routes": ROUTES}

NETWORKS = {
    "bridge": Network([bridge({**HOST_LOCAL, "type": "podwire-ipam"}, ipMasq=True)], ["24"]),
    "bridge-dual": Network([bridge(DUAL)], ["24", "64"]),
    "ptp-dual": Network([{"type": "podwire", "mode": "ptp", "ipam": DUAL}], ["24", "64"]),
    "host-local": Network([bridge(HOST_LOCAL)], ["24"]),
    "chain": Network([bridge(HOST_LOCAL, ipMasq=True), *META], ["24"]),
    "reference-over-podwire-ipam": Network(
        [{**bridge({**HOST_LOCAL, "type": "podwire-ipam"}), "type": "bridge"}], ["24"]
    ),
}


def conflist(name: str, version: str = "1.0.0") -> Json:
    """The network's config list, named net-NAME (podman takes plain `bridge` for a mode of its
    own). 1.0.0 is what Debian's plugins of 2022 speak."""
    return {"cniVersion": version, "name": f"net-{name}", "plugins": NETWORKS[name].plugins}


def addresses(said: str) -> list[str]:
    """The global addresses that `ip addr` printed."""
    return re.findall(r"inet6? (\S+/\d+)(?: brd \S+)? scope global", said)
