"""Which address is next: round robin, cooldown, static requests, exhaustion. Nothing here does I/O.

The store asks for candidates in order of preference and tries to take them one after the
other; the file system says which are taken. So the cost of an allocation does not depend on
how many addresses are held, only on how many candidates in a row are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from itertools import islice

from ipam.errors import InvalidRanges, PoolExhausted
from ipam.logs import NEVER_S
from ipam.ranges import Pool, find_range, is_usable, ring
from ipam.values import IPAddress, IPInterface, Lease, RangeSet

# Address text to the boot-time clock (seconds) of its release, oldest release first. Text,
# because a store keeps text and parsing hundreds of entries would cost more than the rest.
Released = Mapping[str, float]

RING_FIRST = 2  # round robin tries before the known free addresses: a file or two in the way


class Cooling(Mapping[str, float]):
    """Those of the releases that are younger than the cooldown. A view: a node that gives and
    takes a hundred addresses a second remembers thousands, and an ADD asks for one or two."""

    def __init__(self, released: Released, now_s: float, cooldown_s: float) -> None:
        self._released = released
        self._now_s = now_s
        self._cooldown_s = cooldown_s

    def __getitem__(self, address: str) -> float:
        at_s = self._released[address]
        if not at_s <= self._now_s < at_s + self._cooldown_s:
            raise KeyError(address)
        return at_s

    def __contains__(self, address: object) -> bool:
        at_s = self._released.get(address)  # type: ignore[call-overload]  # any key may be asked for
        return at_s is not None and at_s <= self._now_s < at_s + self._cooldown_s

    def __iter__(self) -> Iterator[str]:
        return (address for address in self._released if address in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def cooling(released: Released, now_s: float, cooldown_s: float) -> Cooling:
    """The releases that are younger than the cooldown, at the boot-time clock `now_s`.

    A time in the future cannot come from this boot: such an entry is garbage and ignored.
    """
    return Cooling(released, now_s, cooldown_s)


def candidates(
    of: Pool,
    last: IPAddress | None,
    released: Released,
    cool: Released,
    sticky: Sequence[str] = (),
) -> Iterator[IPAddress]:
    """Every usable address, best first, some twice; which are taken is for the caller to find out.

    1. the addresses the same pod had before (`sticky`), cooling or not;
    2. those that a listing found free: the round robin itself, without the taken ones;
    3. the first of the round robin after `last`, without the cooling ones;
    4. released ones that are done cooling, oldest first: in a nearly full pool the free
       addresses are these, and long runs of taken ones need not be walked;
    5. the rest of the round robin;
    6. the cooling ones, oldest release first: under pressure the cooldown is shortened, because
       a pod that waits for an address is worse than an address that is reused early.
    """
    yield from _usable(of, sticky)
    if NEVER_S in released.values():
        yield from _usable(of, (text for text, at_s in released.items() if at_s == NEVER_S))
    going_round = (a for a in ring(of, last) if str(a) not in cool)
    yield from islice(going_round, RING_FIRST)
    yield from idle(of, released, cool)
    yield from going_round
    yield from _usable(of, sorted(cool, key=lambda text: cool[text]))


def idle(of: Pool, released: Released, cool: Released) -> Iterator[IPAddress]:
    """The addresses of the pool that are known to be free and need not cool down."""
    return _usable(of, (text for text in released if text not in cool))


def assign(
    range_sets: Sequence[RangeSet], requested: Sequence[IPInterface]
) -> tuple[IPAddress | None, ...]:
    """For each range set the address that was asked for, or None.

    As in host-local each request must lie in one set and no set can serve two. The prefix of a
    request is ignored: an address has its subnet's. Raises InvalidRanges.
    """
    wanted: list[IPAddress | None] = [None] * len(range_sets)
    for address in dict.fromkeys(interface.ip for interface in requested):
        index = _set_of(range_sets, address)
        if wanted[index] is not None:
            raise InvalidRanges(
                f"requested addresses {wanted[index]} and {address} lie in the same range set",
                f"ask for one address from each set; set {index} is {set_text(range_sets[index])}",
            )
        wanted[index] = address
    return tuple(wanted)


def require_usable(of: Pool, address: IPAddress) -> None:
    """Raises InvalidRanges when a requested address is the gateway or excluded."""
    if is_usable(of, address):
        return
    made = find_range(of.range_set, address)
    is_gateway = made is not None and address == made.gateway
    why = "the gateway" if is_gateway else "excluded by the configuration"
    raise InvalidRanges(f"requested address {address} is {why}", "ask for another address")


def lease(range_set: RangeSet, set_index: int, address: IPAddress) -> Lease:
    """The lease of an address of the set: prefix length and gateway of the range it lies in."""
    made = find_range(range_set, address)
    if made is None:
        raise InvalidRanges(f"address {address} is outside of range set {set_text(range_set)}")
    return Lease(ip_interface((address, made.subnet.prefixlen)), made.gateway, set_index)


def exhausted(of: Pool, used: int, cool: int) -> PoolExhausted:
    """The error for a set with no address left, with the counts an operator needs."""
    return PoolExhausted(
        f"no free address in range set {set_text(of.range_set)}",
        f"used {used}, cooling {cool}, reserved {of.reserved}, total {of.total}; "
        "add a range to the set or remove pods",
    )


def set_text(range_set: RangeSet) -> str:
    """`first..last` of each range, as in error messages."""
    return ", ".join(f"{made.start}..{made.end}" for made in range_set)


def _usable(of: Pool, texts: Sequence[str] | Iterator[str]) -> Iterator[IPAddress]:
    """The addresses of the pool among texts that may be garbled."""
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:
            continue
        if is_usable(of, address):
            yield address


def _set_of(range_sets: Sequence[RangeSet], address: IPAddress) -> int:
    for index, range_set in enumerate(range_sets):
        if find_range(range_set, address) is not None:
            return index
    known = "; ".join(map(set_text, range_sets)) or "none"
    raise InvalidRanges(
        f"requested address {address} is outside of every range", f"configured ranges: {known}"
    )
