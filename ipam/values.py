"""The values of address management: ranges, the config, owners and leases."""

from __future__ import annotations

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from ipam.lean_typing import NamedTuple

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface

DEFAULT_DATA_DIR = "/var/lib/cni/networks"  # host-local's default


class Range(NamedTuple):
    """Addresses start..end (inclusive) of a subnet, less the gateway and the exclude list."""

    subnet: IPNetwork
    start: IPAddress
    end: IPAddress
    gateway: IPAddress | None
    exclude: tuple[IPNetwork, ...] = ()


RangeSet = tuple[Range, ...]  # one address is given from each set; all of one family


class Route(NamedTuple):
    """A route of an IPAM config or a CNI result. None is absent; table 0 and scope 0 are values."""

    dst: IPNetwork
    gw: IPAddress | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class IpamConf(NamedTuple):
    """The `ipam` section, validated, defaults filled in, ranges canonical and not overlapping."""

    type: str  # "podwire-ipam", "host-local" or a foreign plugin's name
    range_sets: tuple[RangeSet, ...] = ()
    routes: tuple[Route, ...] = ()
    resolv_conf: str = ""  # path of a file to take dns from
    data_dir: str = DEFAULT_DATA_DIR
    cooldown_s: int = 30  # seconds before a released address is given again
    sticky: str = ""  # "" or "pod": the same namespace/name gets its last address again

    @property
    def in_process(self) -> bool:
        """True when podwire's own allocator serves it, False when a plugin is executed."""
        return self.type in ("podwire-ipam", "host-local")


HAND_PREFIX, HAND_IFNAME = "reserved-", "reserved"


def is_by_hand(container_id: str, ifname: str) -> bool:
    """Reserved by a person (`podwire ipam reserve`): no GC and no reboot frees it."""
    return ifname == HAND_IFNAME and container_id.startswith(HAND_PREFIX)


class Owner(NamedTuple):
    """Who holds a lease. The key is (container_id, ifname); pod is for `sticky` and display."""

    container_id: str
    ifname: str
    pod: str = ""  # "namespace/name"

    @property
    def by_hand(self) -> bool:
        return is_by_hand(self.container_id, self.ifname)


class Lease(NamedTuple):
    """One address given to an owner, with its subnet's prefix length."""

    address: IPInterface
    gateway: IPAddress | None
    set_index: int


class SetUsage(NamedTuple):
    """How full one range set is. total = used + cooling + free, without gateway and excludes."""

    total: int
    used: int
    cooling: int

    @property
    def free(self) -> int:
        return self.total - self.used - self.cooling
