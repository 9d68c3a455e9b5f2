"""A store over a folder of the test, with a node whose boot, clock and kernel the test decides."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from ipam.disk import DiskLeases
from ipam.ranges import canonical
from ipam.values import IPAddress, IpamConf, Lease, Owner

NETWORK = "net"


class FakeNode:
    """What `DiskLeases` asks of a node, as plain attributes."""

    def __init__(self) -> None:
        self.boot = "boot-1"
        self.now_s = 1000.0
        self.in_use: set[IPAddress] = set()
        self.lines: list[str] = []

    def store(self, **changes: Any) -> DiskLeases:
        return DiskLeases(
            lambda _network, address: address in self.in_use,
            boot_id=lambda: self.boot,
            clock_s=lambda: self.now_s,
            warn=self.lines.append,
            **changes,
        )


def conf_of(folder: Path, *subnets: str, **changes: Any) -> IpamConf:
    """A config with one set for each text; several subnets of a set are joined with `+`."""
    sets = tuple(
        tuple(canonical(ip_network(subnet)) for subnet in text.split("+")) for text in subnets
    )
    return IpamConf("podwire-ipam", sets, data_dir=str(folder), **changes)


def owner_of(name: str, ifname: str = "eth0", pod: str = "") -> Owner:
    return Owner(name, ifname, pod)


def texts(leases: tuple[Lease, ...]) -> list[str]:
    return [str(lease.address) for lease in leases]


def reservations(folder: Path) -> dict[str, bytes]:
    """Address file names and their contents: what host-local would see."""
    path = folder / NETWORK
    files = path.iterdir() if path.exists() else ()
    return {p.name: p.read_bytes() for p in files if is_address(p.name)}


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
