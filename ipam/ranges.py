"""Address ranges as arithmetic: canonical form, membership, counting, overlap, the ring order.

Nothing here does I/O, and nothing enumerates a range: a /64 costs what a /30 costs, the number
of its exclude entries. Addresses are plain integers inside and `ipaddress` values at the edge.

What is usable follows host-local (plugins/ipam/host-local/backend/allocator/range.go): from the
first to the last address of the subnet without the network address, without the broadcast
address for IPv4, and without the gateway. As there, a subnet with host bits set and a subnet
of less than four addresses (/31, /32, /127, /128) is refused: it has no room for a gateway and
a pod. Stricter than there: a bound on the network or the IPv4 broadcast address and a gateway
outside the subnet, which host-local accepts and then hands out as addresses that cannot work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ipam.errors import InvalidRanges
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress, IPNetwork, Range, RangeSet


def _unusable(text: str, why: str) -> tuple[int, int, int, str]:
    """Version, first and last address of a block, and what is accepted in its stead."""
    block = IPv4Network(text) if "." in text else IPv6Network(text)
    bounds = int(block.network_address), int(block.broadcast_address)
    return block.version, *bounds, f"a subnet outside of {text}, {why}"


# Blocks whose addresses no interface of a pod can have, or that never leave its link.
_UNUSABLE = (
    _unusable("0.0.0.0/8", "which is unspecified (RFC 1122 section 3.2.1.3)"),
    _unusable("127.0.0.0/8", "which is loopback (RFC 1122 section 3.2.1.3)"),
    _unusable("224.0.0.0/4", "which is multicast (RFC 5771)"),
    _unusable("240.0.0.0/4", "which is reserved (RFC 1112 section 4)"),
    _unusable("::/127", "the unspecified and the loopback address (RFC 4291 section 2.5)"),
    # Go and Python name these addresses differently.
    _unusable("::ffff:0:0/96", "which is IPv4-mapped: write IPv4 ranges in IPv4 notation"),
    _unusable("fe80::/10", "which is link-local (RFC 4291 section 2.5.6)"),
    _unusable("ff00::/8", "which is multicast (RFC 4291 section 2.7)"),
)


class Span(NamedTuple):
    """A run of usable addresses, first..last inclusive, of the range with index `range_index`."""

    first: int
    last: int
    range_index: int


class Fault(NamedTuple):
    """What is wrong with one key of a range: the key, the value found, what is accepted."""

    key: str
    value: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.key} {self.value}: {self.accepted}"


class Pool(NamedTuple):
    """A range set made ready for allocation.

    total: number of usable addresses. reserved: addresses between the bounds that are never
    given (gateway and excludes).
    """

    range_set: RangeSet
    spans: tuple[Span, ...]
    total: int
    reserved: int

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.range_set[0].subnet.version


def to_address(version: int, number: int) -> IPAddress:
    """The address of a family (4 or 6) with that integer value."""
    return IPv4Address(number) if version == 4 else IPv6Address(number)


def first_usable(subnet: IPNetwork) -> int:
    """The address after the network address; also the default gateway, as in host-local."""
    return int(subnet.network_address) + 1


def last_usable(subnet: IPNetwork) -> int:
    """The last address, without the broadcast address for IPv4 (IPv6 has none)."""
    return int(subnet.broadcast_address) - (1 if subnet.version == 4 else 0)


def faults(
    subnet: IPNetwork,
    start: IPAddress | None = None,
    end: IPAddress | None = None,
    gateway: IPAddress | None = None,
    exclude: Sequence[IPNetwork] = (),
) -> tuple[Fault, ...]:
    """Everything that is wrong with a range, in the words of its configuration keys.

    The later checks need a sound subnet, so a bad subnet is reported alone.
    """
    bad_subnet = _subnet_fault(subnet)
    if bad_subnet:
        return (bad_subnet,)
    found = [
        Fault(key, str(bound), f"an address from {usable_text(subnet)} of subnet {subnet}")
        for key, bound in (("rangeStart", start), ("rangeEnd", end))
        if bound is not None and not _is_host(subnet, bound)
    ]
    if gateway is not None and gateway not in subnet:
        found.append(Fault("gateway", str(gateway), f"an address inside subnet {subnet}"))
    elif gateway is not None and gateway.version == 4 and gateway == subnet.broadcast_address:
        text = f"an address inside subnet {subnet} that is not its broadcast address"
        found.append(Fault("gateway", str(gateway), text))
    found += [
        Fault("exclude", str(net), f"a CIDR that overlaps subnet {subnet}")
        for net in exclude
        if net.version != subnet.version or not net.overlaps(subnet)
    ]
    if found:
        return tuple(found)
    made = _complete(subnet, start, end, gateway, exclude)
    if made.start > made.end:  # type: ignore[operator]  # one family, checked above
        return (Fault("rangeStart", str(made.start), f"an address up to rangeEnd {made.end}"),)
    if not range_spans(made):
        left = "a range with an address left beside the gateway and the excludes"
        return (Fault("subnet", str(subnet), left),)
    return ()


def canonical(
    subnet: IPNetwork,
    start: IPAddress | None = None,
    end: IPAddress | None = None,
    gateway: IPAddress | None = None,
    exclude: Sequence[IPNetwork] = (),
) -> Range:
    """A range with every default filled in. Raises InvalidRanges naming the first fault.

    Defaults as in host-local: gateway the first address, start the first and end the last
    usable address of the subnet.
    """
    wrong = faults(subnet, start, end, gateway, exclude)
    if wrong:
        raise InvalidRanges(f"invalid range: {wrong[0]}", "; ".join(map(str, wrong[1:])))
    return _complete(subnet, start, end, gateway, exclude)


def set_faults(range_sets: Sequence[RangeSet]) -> tuple[Fault, ...]:
    """Contradictions between canonical ranges: mixed families in a set, overlaps anywhere.

    Keys are paths below the `ipam` section, such as `ranges[0][1]`.
    """
    placed = [
        (f"ranges[{s}][{r}]", made, range_set[0].subnet.version)
        for s, range_set in enumerate(range_sets)
        for r, made in enumerate(range_set)
    ]
    clashes = _clashes([made for _path, made, _family in placed])
    found = []
    for position, (path, made, family) in enumerate(placed):
        if made.subnet.version != family:
            found.append(
                Fault(path, str(made.subnet), f"a range of IPv{family} like the first of its set")
            )
        if position in clashes:
            other_path, other, _ = placed[clashes[position]]
            found.append(
                Fault(path, _text(made), f"a range apart from {other_path} {_text(other)}")
            )
    return tuple(found)


def _clashes(ranges: Sequence[Range]) -> dict[int, int]:
    """The index of each range that overlaps an earlier one in a sweep, and that one's, the later
    of a pair first. By order of the bounds only the range that reaches furthest can overlap the
    next: n log n, and not every pair, of which there may be n squared."""
    found: dict[int, int] = {}
    order = sorted(
        range(len(ranges)), key=lambda i: (ranges[i].subnet.version, int(ranges[i].start), i)
    )
    furthest = order[0] if order else 0
    for index in order[1:]:
        if overlap(ranges[furthest], ranges[index]):
            found.setdefault(max(furthest, index), min(furthest, index))
            if int(ranges[index].end) <= int(ranges[furthest].end):
                continue
        furthest = index
    return found


def overlap(one: Range, other: Range) -> bool:
    """True when the bounds of two ranges have an address in common (subnets may be equal)."""
    return (
        one.subnet.version == other.subnet.version
        and int(one.start) <= int(other.end)
        and int(other.start) <= int(one.end)
    )


def in_bounds(made: Range, address: IPAddress) -> bool:
    """True when the address lies between the bounds, gateway and excludes included."""
    same_family = address.version == made.subnet.version
    return same_family and int(made.start) <= int(address) <= int(made.end)


def find_range(range_set: RangeSet, address: IPAddress) -> Range | None:
    """The range of a set whose bounds hold the address."""
    return next((made for made in range_set if in_bounds(made, address)), None)


def range_spans(made: Range, range_index: int = 0) -> tuple[Span, ...]:
    """The usable runs of one range: its bounds less the gateway and the excludes, ascending."""
    holes = [(int(net.network_address), int(net.broadcast_address)) for net in made.exclude]
    if made.gateway is not None:
        holes.append((int(made.gateway), int(made.gateway)))
    runs = []
    at, end = int(made.start), int(made.end)
    for low, high in sorted(holes):
        if low > end:
            break
        if low > at:
            runs.append(Span(at, low - 1, range_index))
        at = max(at, high + 1)
    if at <= end:
        runs.append(Span(at, end, range_index))
    return tuple(runs)


def pool(range_set: RangeSet) -> Pool:
    """The set's usable runs in the order of the configuration, with their counts."""
    spans = tuple(s for i, made in enumerate(range_set) for s in range_spans(made, i))
    total = sum(span.last - span.first + 1 for span in spans)
    bounds = sum(int(made.end) - int(made.start) + 1 for made in range_set)
    return Pool(range_set, spans, total, bounds - total)


def is_usable(of: Pool, address: IPAddress) -> bool:
    """True when the pool may give the address."""
    number = int(address)
    return address.version == of.version and any(s.first <= number <= s.last for s in of.spans)


def ring(of: Pool, last: IPAddress | None) -> Iterator[IPAddress]:
    """Every usable address once, lazily, beginning after `last` and wrapping around.

    Ranges follow each other in the order of the configuration, as in host-local. A `last`
    outside the bounds of every range (the ranges were changed) starts at the beginning.
    """
    made = None if last is None else find_range(of.range_set, last)
    if last is None or made is None:
        return _walk(of.version, of.spans)
    index, cut = of.range_set.index(made), int(last)
    before = [s for s in of.spans if (s.range_index, s.first) <= (index, cut)]
    after = [s for s in of.spans if (s.range_index, s.last) > (index, cut)]
    head = [s._replace(first=max(s.first, cut + 1)) if s.range_index == index else s for s in after]
    tail = [s._replace(last=min(s.last, cut)) if s.range_index == index else s for s in before]
    return _walk(of.version, head + tail)


def usable_text(subnet: IPNetwork) -> str:
    """`first..last`, the addresses of a subnet that interfaces may have."""
    bounds = (first_usable(subnet), last_usable(subnet))
    return "..".join(str(to_address(subnet.version, number)) for number in bounds)


def _walk(version: int, spans: Sequence[Span]) -> Iterator[IPAddress]:
    for span in spans:
        for number in range(span.first, span.last + 1):
            yield to_address(version, number)


def _subnet_fault(subnet: IPNetwork) -> Fault | None:
    if subnet.num_addresses < 4:
        small = "a subnet of at least 4 addresses (/30, /126), for a gateway and a pod"
        return Fault("subnet", str(subnet), small)
    if not subnet.prefixlen:
        return Fault(
            "subnet", str(subnet), f"a part of the addresses, not all of IPv{subnet.version}"
        )
    low, high = int(subnet.network_address), int(subnet.broadcast_address)
    for version, first, last, accepted in _UNUSABLE:
        if version == subnet.version and low <= last and first <= high:
            return Fault("subnet", str(subnet), accepted)
    return None


def _is_host(subnet: IPNetwork, address: IPAddress) -> bool:
    inside = address.version == subnet.version
    return inside and first_usable(subnet) <= int(address) <= last_usable(subnet)


def _complete(
    subnet: IPNetwork,
    start: IPAddress | None,
    end: IPAddress | None,
    gateway: IPAddress | None,
    exclude: Sequence[IPNetwork],
) -> Range:
    first = to_address(subnet.version, first_usable(subnet))
    last = to_address(subnet.version, last_usable(subnet))
    return Range(subnet, start or first, end or last, gateway or first, tuple(exclude))


def _text(made: Range) -> str:
    return f"{made.start}..{made.end}"
