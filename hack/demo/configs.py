"""The two networks of the demo, as they lie in /etc/cni/net.d."""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]
ALL_PODS = ["10.244.0.0/16", "2001:db8:244::/48"]  # pods see each other's own addresses
TUNNELLED_MTU = 1430  # bytes; 1500 less the 70 of VXLAN over IPv6
DEFAULT_ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


class Network(NamedTuple):
    """One config list: its mode, its file's name, and what the file holds."""

    mode: str
    file: str
    conflist: Json

    @property
    def subnets(self) -> list[str]:
        """The ranges its pods get addresses of."""
        ranges = self.conflist["plugins"][0]["ipam"]["ranges"]
        return [one["subnet"] for group in ranges for one in group]


def _network(mode: str, file: str, number: int, ipam: Json, keys: Json) -> Network:
    ranges = [
        [{"subnet": f"10.244.{number}.0/24"}],
        [{"subnet": f"2001:db8:244:{number}::/64"}],
    ]
    plugin = {
        "type": "podwire",
        "mode": mode,
        **keys,
        "ipMasq": True,
        "nonMasqueradeCIDRs": ALL_PODS,
        "ipam": {"ranges": ranges, **ipam},
    }
    return Network(mode, file, {"cniVersion": "1.1.0", "name": f"{mode}-net", "plugins": [plugin]})


def cluster_network(mode: str, number: int) -> Network:
    """Of one of several nodes: the same, with the room that a tunnel over IPv6 leaves."""
    keys: Json = {"mtu": TUNNELLED_MTU}
    if mode == "bridge":
        keys |= {"bridge": "cni0", "isDefaultGateway": True}
    ipam = {"type": "podwire-ipam", "routes": DEFAULT_ROUTES if mode == "ptp" else []}
    return _network(mode, "10-pods.conflist", number, ipam, keys)


NETWORKS = (
    _network(
        "bridge",
        "10-bridge.conflist",
        1,
        {"type": "podwire-ipam"},
        {"bridge": "cni0", "isDefaultGateway": True},
    ),
    _network("ptp", "20-ptp.conflist", 2, {"type": "host-local", "routes": DEFAULT_ROUTES}, {}),
)
