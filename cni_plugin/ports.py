"""The few things the core needs from the world, as protocols. `wiring` connects them.

Protocols rather than classes, so that `commands` can be read without knowing netlink or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ipam.values import IPAddress, IpamConf, IPInterface, Lease, Owner, SetUsage

from cni_plugin.cni.values import Request, Result


class Leases(Protocol):
    """Address management for one node. `network` is the config's name; the store's folder is
    data_dir/network. All methods take the store's lock themselves, at most 30 s, and raise
    ipam.errors only."""

    def reserve(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface]
    ) -> tuple[Lease, ...]:
        """One address from each range set, all or none, durable when this returns.

        requested: addresses the user wants; each must lie in one set. An owner that already
        holds addresses gets the same ones (a repeated ADD must not leak)."""

    def release(self, conf: IpamConf, network: str, owner: Owner) -> tuple[IPAddress, ...]:
        """Free all that the owner holds, whatever the ranges are now; nothing held is success."""

    def held(self, conf: IpamConf, network: str, owner: Owner) -> tuple[IPAddress, ...]:
        """What the owner holds."""

    def owners(self, conf: IpamConf, network: str) -> dict[IPAddress, Owner]:
        """Every reservation."""

    def usage(self, conf: IpamConf, network: str) -> tuple[SetUsage, ...]:
        """How full each range set is, in order."""


class Delegate(Protocol):
    """Runs another plugin by name, as SPEC 1.1.0 section 4 says."""

    def __call__(self, request: Request, plugin: str, command: str) -> Result | None: ...


Warn = Callable[[str], None]  # one line for the log (stderr), never stdout
Addresses = Iterable[IPAddress]
