"""One `reserve` on a locked folder: claim the owner's file, link it to addresses, or undo all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from itertools import islice

from ipam.allocate import (
    Released,
    candidates,
    cooling,
    exhausted,
    idle,
)
from ipam.errors import AddressInUse, PoolExhausted
from ipam.files import (
    OWNERS,
    STICKY,
    TEMP,
    Folder,
    Position,
    address_of,
    content,
    index_name,
    parse_owner,
)
from ipam.logs import (
    NEVER_S,
    given_line,
    is_loggable,
    released_line,
    sticky_addresses,
    sticky_lines,
)
from ipam.node import Node
from ipam.ranges import Pool, find_range, is_usable
from ipam.released import ReleasedLog
from ipam.settle import STICKY_MAX, build_index, compact_sticky, heal, reclaim
from ipam.values import IPAddress, IpamConf, Owner, SetUsage

LIST_AFTER = 3  # taken candidates in a row before the folder is listed once
# In a pool of this size that nothing is known to be free in, one is enough: a listing of so many
# is cheaper than more tries, and the next ADDs need none.
SMALL_POOL = 4096
SEED = 64  # free addresses noted after a listing, so that the next ADDs need none
SEED_STEPS = 4096  # candidates looked at to find them
STICKY_SMALL = 64 * STICKY_MAX


def usage(of: Pool, names: Collection[str], cool: Released) -> SetUsage:
    """The counts of one set. names: every file of the folder."""
    given = (address_of(name) for name in names)
    idle = (address_of(name) for name in cool if name not in names)
    return SetUsage(of.total, _count(of, given), _count(of, idle))


class Reservation:
    """The state of one `reserve`: what it has read so far and what it would have to undo."""

    def __init__(
        self, node: Node, folder: Folder, conf: IpamConf, owner: Owner, log: ReleasedLog
    ) -> None:
        self._node = node
        self._folder = folder
        self._owner = owner
        self._is_sticky = conf.sticky == "pod" and is_loggable(owner.pod)
        self._sticky_log = (folder.read(STICKY) or b"") if self._is_sticky else b""
        self._sticky = sticky_addresses(self._sticky_log, owner.pod)
        self._log = log  # of released addresses
        self._released = log.released
        self._cool = cooling(self._released, node.clock_s(), conf.cooldown_s)
        self._source = ""  # the synced file with the owner, to be linked to addresses
        self._given: list[IPAddress] = []
        self._taken: set[str] | None = None  # every name, once the folder was listed
        self._free: list[str] = []  # found free while walking a listing
        self._stale: list[str] = []  # taken, although the log has them as released

    def make(
        self, pools: Sequence[Pool], wanted: Sequence[IPAddress | None]
    ) -> tuple[IPAddress, ...]:
        """One address from each pool, all or none. Raises IpamError and OSError."""
        held = self._claim()
        try:
            addresses = [
                self._one(index, of, address, held)
                for index, (of, address) in enumerate(zip(pools, wanted, strict=True))
            ]
        except BaseException:
            self._undo(keep_source=bool(held))
            raise
        if self._source == TEMP:
            self._folder.discard(TEMP)
        self._keep_notes()
        return tuple(addresses)

    def _claim(self) -> tuple[IPAddress, ...]:
        """Make the owner's file; what the owner holds already.

        Creating the file fails exactly when the owner is known: nothing else need be looked up
        to find out that this ADD is a repetition.
        """
        folder, data, name = self._folder, content(self._owner), index_name(self._owner)
        if not name:
            folder.create_temp(data)
            self._source = TEMP
            return self._held()
        self._source = f"{OWNERS}/{name}"
        try:
            folder.create(self._source, data)
        except FileNotFoundError:
            build_index(folder, self._node)
        except FileExistsError:
            pass
        else:
            return ()
        held, status = self._held(), folder.status(self._source)
        if status is None or status.st_nlink == 1:
            # Absent, or left by a kill, perhaps before its content was written and synced.
            folder.unlink(self._source)
            folder.create(self._source, data)
        return held

    def _held(self) -> tuple[IPAddress, ...]:
        return tuple(map(ip_address, self._folder.held(self._owner)))

    def _one(
        self, index: int, of: Pool, wanted: IPAddress | None, held: Sequence[IPAddress]
    ) -> IPAddress:
        """The address of one set: the one held already, the one asked for, or the next one."""
        mine = next((a for a in held if find_range(of.range_set, a) is not None), None)
        if mine is None:
            return self._take_next(index, of) if wanted is None else self._take_wanted(wanted)
        if wanted not in {None, mine}:
            raise AddressInUse(
                f"{wanted} was requested, but {self._owner.container_id} {self._owner.ifname} "
                f"already holds {mine} of the same range set",
                "DEL the attachment before asking for another address",
            )
        return mine

    def _take_wanted(self, address: IPAddress) -> IPAddress:
        name = str(address)
        if not self._link(address):
            holder = parse_owner(self._folder.read(name) or b"")
            if holder is None and reclaim(self._folder, self._node, (name,)):
                return self._take_wanted(address)
            who = f"{holder.container_id} {holder.ifname}" if holder else "a torn file"
            raise AddressInUse(f"requested address {address} is taken", f"held by {who}")
        if self._node.evidence(address):
            raise AddressInUse(
                f"requested address {address} is in use on this node",
                "the kernel has it although the store has no reservation for it",
            )
        return address

    def _take_next(self, index: int, of: Pool) -> IPAddress:
        with self._folder.position(index) as position:
            address = self._first_free(of, position.address)
            if address is None and heal(self._folder, self._node):
                self._taken = None
                address = self._first_free(of, position.address)
            if address is None:
                raise self._exhausted(of)
            if str(address) not in self._sticky:
                self._advance(position, address)
        return address

    def _first_free(self, of: Pool, last: IPAddress | None) -> IPAddress | None:
        """Take the best candidate that is free; None when the set is full."""
        order = candidates(of, last, self._released, self._cool, self._sticky)
        misses, list_after = 0, self._list_after(of)
        for address in order:
            if self._taken is not None and str(address) in self._taken:
                continue
            if self._link(address):
                # Asked afterwards: most candidates that are in use have a reservation, and the
                # answer costs more than a link.
                if not self._node.evidence(address):
                    self._seed(order)
                    return address
                self._given.remove(address)
                self._folder.unlink(str(address))
                self._node.warn(f"{address} is in use on this node without a reservation: skipped")
            misses += 1
            self._stale += [name for name in (str(address),) if name in self._released]
            if self._taken is None and misses >= list_after:
                self._taken = self._folder.taken()
        return None

    def _list_after(self, of: Pool) -> int:
        if of.total <= SMALL_POOL and next(idle(of, self._released, self._cool), None) is None:
            return 1
        return LIST_AFTER

    def _link(self, address: IPAddress) -> bool:
        done = self._folder.link(self._source, str(address))
        if done:
            self._given.append(address)
        return done

    def _advance(self, position: Position, address: IPAddress) -> None:
        if self._free:
            return  # who has listed the folder leaves it to the next ADDs, which go by the notes
        try:
            position.move(address)
        except OSError as error:
            self._node.warn(f"the round robin does not move on to {address}: {error.strerror}")

    def _seed(self, order: Iterator[IPAddress]) -> None:
        """After a listing, collect the next free addresses: noted as released long ago, they
        spare the following ADDs the listing."""
        if self._taken is None:
            return
        names = map(str, islice(order, SEED_STEPS))
        fresh = (n for n in names if n not in self._taken and n not in self._released)
        self._free += islice(fresh, SEED)

    def _exhausted(self, of: Pool) -> PoolExhausted:
        found = usage(of, self._folder.taken(), self._cool)
        return exhausted(of, found.used, found.cooling)

    def _undo(self, *, keep_source: bool) -> None:
        names = [str(address) for address in self._given]
        if not keep_source or self._source == TEMP:
            names.append(self._source)
        for name in names:
            error = self._folder.discard(name)
            if error:
                self._node.warn(f"undo left {self._folder.at(name)}: {error}")

    def _keep_notes(self) -> None:
        """Bring the logs up to date. They only steer the choice, so the ADD is good without."""
        names = [str(address) for address in self._given]
        lines = [given_line(name) for name in names if name in self._released]
        lines += map(given_line, self._stale)
        lines += [released_line(name, NEVER_S) for name in self._free if name not in names]
        try:
            self._log.add("".join(lines).encode(), self._cool)
            self._note_sticky(names)
        except OSError as error:
            self._node.warn(f"{self._folder.path}: logs not written: {error.strerror}")

    def _note_sticky(self, names: Sequence[str]) -> None:
        new = [name for name in names if name not in self._sticky[: len(names)]]
        if self._is_sticky and new:
            self._folder.append(STICKY, sticky_lines(self._owner.pod, new))
            if len(self._sticky_log) > STICKY_SMALL:
                compact_sticky(self._folder)


def _count(of: Pool, addresses: Iterator[IPAddress | None]) -> int:
    return sum(1 for address in addresses if address is not None and is_usable(of, address))
