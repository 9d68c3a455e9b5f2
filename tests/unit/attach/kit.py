"""One attachment as the modes get it, and their answer as lines."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from cni_plugin import attach
from cni_plugin.attach.wiring import BridgeFacts, Facts, Wiring
from cni_plugin.cni.values import Attachment, IPConfig, NetConf, Pod, Result
from cni_plugin.model.plan import describe_object
from ipam.values import IpamConf, Route

NETNS = "/run/netns/pod"
HOST_LINK = "pwi6w4payzqvh6m"
HOST_MAC, POD_MAC, BRIDGE_MAC = "3e:67:aa:1f:47:bb", "7e:ba:87:b3:e8:e2", "02:00:00:00:00:01"
V4 = IPConfig(ip_interface("10.244.0.2/24"), ip_address("10.244.0.1"))
V6 = IPConfig(ip_interface("2001:db8::2/64"), ip_address("2001:db8::1"))
DEFAULT4, DEFAULT6 = Route(ip_network("0.0.0.0/0")), Route(ip_network("::/0"))
FOUND = BridgeFacts(1400, is_bridge=True, ours=True, addresses=(), idle=False, mac=BRIDGE_MAC)


def wiring(
    mode: str,
    *ips: IPConfig,
    routes: tuple[Route, ...] = (),
    facts: Facts | None = None,
    **conf: Any,
) -> Wiring:
    """The attachment (net, id, eth0)."""
    return Wiring(
        conf=NetConf(
            "1.1.0", "net", "podwire", mode=mode, ipam=IpamConf("podwire-ipam") if ips else None
        )._replace(**conf),
        attachment=Attachment("id", "eth0"),
        pod=Pod(),
        netns=NETNS,
        addressing=Result(ips=ips, routes=routes),
        facts=facts or Facts(),
    )


def lines(made: Wiring) -> list[str]:
    """The wanted objects as `ip`-style lines, sysctls left out: `sysctls` has them."""
    every = map(describe_object, attach.desired(made).objects)
    return [_short(line) for line in every if "sysctl -w" not in line]


def sysctls(made: Wiring) -> list[str]:
    """The wanted sysctls, without the command."""
    every = map(describe_object, attach.desired(made).objects)
    return [
        _short(line).replace("ip netns exec POD sysctl -w ", "POD ").replace("sysctl -w ", "")
        for line in every
        if "sysctl -w" in line
    ]


def _short(line: str) -> str:
    """The host link's name and the MACs, which follow from the attachment, as words."""
    for value, word in ((HOST_LINK, "HOST"), (HOST_MAC, "MAC-HOST"), (POD_MAC, "MAC-POD")):
        line = line.replace(value, word)
    return line
