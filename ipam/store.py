"""What a store of reservations promises.

Only types: the direct path imports `disk` and never this. What a store needs is in `node`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ipam.lean_typing import Protocol
from ipam.values import IPAddress, IpamConf, IPInterface, Lease, Owner, SetUsage

Key = tuple[str, str]  # (container id, ifname)


class Store(Protocol):
    """Reservations of one node. Every method takes the store's lock itself, waits for it at most
    30 s, and raises only what is in `ipam.errors`. A superset of `cni_plugin.ports.Leases`."""

    def reserve(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface]
    ) -> tuple[Lease, ...]:
        """One address from each range set, all or none, durable on return.

        An owner that already holds addresses gets the same ones. Raises PoolExhausted,
        AddressInUse, InvalidRanges, StoreFailed, LockTimeout, InvalidConf."""

    def release(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = (), *,
        unused: bool = False,
    ) -> tuple[IPAddress, ...]:  # fmt: skip
        """Free all that the owner holds, whatever the ranges are now; nothing held is success.

        hint: addresses that the owner probably holds; verified, they save the listing. unused:
        nobody was told of them, so they need not cool down and are the next to be given."""

    def held(
        self, conf: IpamConf, network: str, owner: Owner, hint: Sequence[IPAddress] = ()
    ) -> tuple[IPAddress, ...]:
        """What the owner holds."""

    def owners(self, conf: IpamConf, network: str) -> dict[IPAddress, Owner]:
        """Every reservation with a readable owner."""

    def usage(self, conf: IpamConf, network: str) -> tuple[SetUsage, ...]:
        """How full each range set is, in order."""

    def retain(
        self,
        conf: IpamConf,
        network: str,
        valid: Collection[Key],
        snapshot: Mapping[IPAddress, Owner] | None = None,
    ) -> tuple[IPAddress, ...]:
        """Free every reservation whose owner is not valid, heal torn ones, sweep leftovers.

        snapshot: an earlier answer of `owners`; what was reserved after it is not freed. Pass
        one taken before `valid` was learned wherever an ADD may run at the same time."""
