"""nftables over netlink: our values to messages, and what the kernel shows of them.

No `nft` binary: a node may lack it, and starting it costs more than everything here.
Source: linux/netfilter/nf_tables.h, nfnetlink.h; comments are laid out as libnftnl does (type,
length, text), so `nft list ruleset` shows them.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network, summarize_address_range
from itertools import zip_longest

from cni_plugin.filter.tables import (
    DATA_MAPS,
    FAMILY_SETS,
    RANGE_SETS,
    SETS,
    TABLE,
    VERDICT_MAPS,
)
from cni_plugin.kernel.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    KernelError,
    Line,
    Message,
    Received,
    Socket,
    attr,
    attribute_map,
    attributes,
    nested,
    string,
    text,
)
from cni_plugin.kernel.nft_exprs import FAMILIES, VERDICTS, be32, exprs, verdict
from cni_plugin.kernel.rtnl import mac_bytes
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Rule, Verdict

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN, BATCH_END = 0x10, 0x11  # NFNL_MSG_BATCH_*
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN = 0, 1, 2, 3, 4, 5  # NFT_MSG_*
NEWRULE, GETRULE, DELRULE, NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = 6, 7, 8, 9, 12, 13, 14
GETGEN = 16
KEY_TYPES = {
    "ipv4_addr": (7, 4),
    "ipv6_addr": (8, 16),
    "ether_addr": (9, 6),
    "inet_proto": (12, 1),
    "inet_service": (13, 2),
    "ifname": (41, 16),
}  # fmt: skip  nft's number of the type, bytes
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}  # IPPROTO_*
SET_INTERVAL, SET_MAP, DATA_VERDICT = 0x4, 0x8, 0xFFFFFF00  # NFT_SET_*, NFT_DATA_VERDICT
ELEMENT_END = 0x1  # NFT_SET_ELEM_INTERVAL_END: the first address behind a range


_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


def _message(kind: int, family: str, body: bytes, line: Line, flags: int = 0) -> Message:
    header = struct.pack(">BBH", FAMILIES[family], 0, 0)  # struct nfgenmsg
    return Message(SUBSYSTEM << 8 | kind, flags, header + body, line)


def _edge(kind: int) -> Message:
    return Message(kind, 0, struct.pack(">BBH", 0, 0, SUBSYSTEM), "nft transaction")


def begin_at(generation: int) -> Message:
    """Begins a transaction that is refused (ERESTART) unless the rules have this generation.
    NFNL_BATCH_GENID is 1, since Linux 4.13."""
    begin = _edge(BATCH_BEGIN)
    return begin._replace(body=begin.body + be32(1, generation))


def end() -> Message:
    """Ends a transaction."""
    return _edge(BATCH_END)


def transaction(socket: Socket, messages: Sequence[Message]) -> None:
    """All or nothing. Raises the first KernelError; then the kernel has changed nothing."""
    if messages:
        socket.transaction(_edge(BATCH_BEGIN), messages, _edge(BATCH_END))


def _comment(comment: str) -> bytes:
    raw = comment.encode() + b"\0"
    return bytes([0, len(raw)]) + raw  # NFTNL_UDATA_*_COMMENT is 0 for rules and elements


def _parse_comment(data: bytes) -> str:
    if len(data) < 2 or data[0] != 0:
        return ""
    return string(data[2 : 2 + data[1]])


# tables, sets and chains -------------------------------------------------------------------------


def new_table(family: str) -> Iterator[Message]:
    """The table and its sets; what is there already stays as it is."""
    # No flags: a table that somebody made dormant is woken.
    body = text(1, TABLE) + be32(2, 0)
    yield _message(NEWTABLE, family, body, f"nft add table {family} {TABLE}", NLM_F_CREATE)
    for number, name in enumerate(FAMILY_SETS[family], 1):
        fields = SETS[name]
        body = text(1, TABLE) + text(2, name)
        body += be32(4, _key_type(fields)) + be32(5, _key_bytes(fields))
        body += be32(10, number)  # NFTA_SET_ID, unique in the transaction
        # NFTNL_UDATA_SET_KEYBYTEORDER = host (1): without it `nft` shows names of links as "".
        body += attr(13, bytes([0, 4]) + struct.pack("=I", 1)) if fields[0] == "ifname" else b""
        body += be32(3, SET_INTERVAL) if name in RANGE_SETS else b""
        if name in VERDICT_MAPS:
            body += be32(3, SET_MAP) + be32(6, DATA_VERDICT)
        if name in DATA_MAPS:
            data = DATA_MAPS[name]
            body += be32(3, SET_MAP) + be32(6, _key_type(data)) + be32(7, _key_bytes(data))
        line = f"nft add set {family} {TABLE} {name}"
        yield _message(NEWSET, family, body, line, NLM_F_CREATE)


def _key_type(fields: tuple[str, ...]) -> int:
    number = 0
    for field in fields:
        number = number << 6 | KEY_TYPES[field][0]  # as nft numbers concatenations
    return number


def delete_table(family: str) -> Message:
    """Takes the table away with all that is in it, and is in use or not."""
    return _message(DELTABLE, family, text(1, TABLE), f"nft delete table {family} {TABLE}")


def has_table(socket: Socket | None, family: str) -> bool:
    """Whether our table is there."""
    message = _message(GETTABLE, family, text(1, TABLE), f"nft list table {family} {TABLE}")
    return socket is not None and socket.get(message) is not None


def _key_bytes(fields: tuple[str, ...]) -> int:
    if len(fields) == 1:
        return KEY_TYPES[fields[0]][1]
    return sum((KEY_TYPES[field][1] + 3) & ~3 for field in fields)


def new_chain(chain: RuleChain) -> Iterator[Message]:
    """The chain with exactly its rules: the old ones go in the same transaction."""
    line = f"nft add chain {chain.family} {TABLE} {chain.name}"
    body = text(1, TABLE) + text(3, chain.name)
    if chain.hook:
        hook = be32(1, chain.hook.number) + be32(2, chain.hook.priority)
        body += nested(4, hook) + be32(5, VERDICTS["accept"]) + text(7, chain.hook.type)
    yield _message(NEWCHAIN, chain.family, body, line, NLM_F_CREATE)
    flush = text(1, TABLE) + text(2, chain.name)
    yield _message(DELRULE, chain.family, flush, f"nft flush chain {chain.family} {chain.name}")
    for rule in chain.rules:
        yield _new_rule(chain.family, rule)


def delete_chain(chain: RuleChain) -> Iterator[Message]:
    """Empties the chain and takes it away; EBUSY while an element leads into it."""
    line = f"nft delete chain {chain.family} {TABLE} {chain.name}"
    body = text(1, TABLE)
    yield _message(DELRULE, chain.family, body + text(2, chain.name), line)
    yield _message(DELCHAIN, chain.family, body + text(3, chain.name), line)


def _new_rule(family: str, rule: Rule) -> Message:
    ours = (made for expr in rule.exprs for made in exprs(expr))
    listed = [nested(1, text(1, name), nested(2, data)) for name, data in ours]
    body = text(1, TABLE) + text(2, rule.chain) + nested(4, *listed) + attr(7, _comment(rule.mark))
    line = f"nft add rule {family} {TABLE} {rule.chain} {rule.text}"
    return _message(NEWRULE, family, body, line, NLM_F_CREATE | NLM_F_APPEND)


def is_known(obj: Element | RuleChain) -> bool:
    """Whether it can be named to the kernel. A record that a newer podwire has written may tell of
    what cannot: of other sets, or of another table."""
    if isinstance(obj, RuleChain) or obj.family not in FAMILY_SETS:
        return obj.family in FAMILY_SETS
    fields = SETS.get(obj.set, ())
    return len(fields) == len(obj.key) and not any(
        kind == "inet_proto" and part not in PROTOCOLS
        for kind, part in zip(fields, obj.key, strict=True)
    )


# elements ----------------------------------------------------------------------------------------


def _field(kind: str, value: str) -> bytes:
    if kind == "ifname":
        return value.encode().ljust(16, b"\0")
    if kind == "ether_addr":
        return mac_bytes(value)
    if kind == "inet_proto":
        return bytes([PROTOCOLS[value]])
    if kind == "inet_service":
        return int(value).to_bytes(2, "big")
    return ip_address(value).packed


def _key(element: Element) -> bytes:
    return packed(SETS[element.set], element.key)


def packed(fields: tuple[str, ...], values: tuple[str, ...]) -> bytes:
    """A key, or what a map has for one. fields: their types, see filter.tables."""
    parts = [_field(kind, value) for kind, value in zip(fields, values, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return b"".join(part + b"\0" * (-len(part) % 4) for part in parts)


def _parse_key(fields: tuple[str, ...], data: bytes) -> tuple[str, ...]:
    values = []
    for kind in fields:
        size = KEY_TYPES[kind][1]
        raw, data = data[:size], data[(size + 3) & ~3 :]
        if kind == "ifname":
            values.append(string(raw))
        elif kind == "ether_addr":
            values.append(raw.hex(":"))
        elif kind == "inet_proto":
            values.append(_PROTOCOL_NAMES.get(raw[0], str(raw[0])))
        elif kind == "inet_service":
            values.append(str(int.from_bytes(raw, "big")))
        else:
            values.append(str(ip_address(raw)))
    return tuple(values)


def _element_list(element: Element, *, whole: bool) -> bytes:
    head = text(1, TABLE) + text(2, element.set)
    if element.set in RANGE_SETS:
        return head + nested(3, *_range(element.key[0]))
    parts = [nested(1, attr(1, _key(element)))]  # NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE
    if whole and element.goto:
        parts.append(nested(2, verdict(Verdict("goto", element.goto))))
    if whole and element.to:
        parts.append(nested(2, attr(1, packed(DATA_MAPS[element.set], element.to))))
    if whole and element.owner:
        parts.append(attr(6, _comment(element.owner)))
    return head + nested(3, nested(1, *parts))


def _range(text: str) -> Iterator[bytes]:
    """A network, or `FIRST-LAST`, as the kernel has it: the first address, and the one behind the
    last, unless there is none."""
    first, dash, last = text.partition("-")
    network = None if dash else ip_network(text)
    start = network.network_address if network else ip_address(first)
    final = network.broadcast_address if network else ip_address(last)
    yield nested(1, nested(1, attr(1, start.packed)))
    if int(final) + 1 < 1 << final.max_prefixlen:
        yield nested(1, nested(1, attr(1, (final + 1).packed)), be32(3, ELEMENT_END))


def _element_line(verb: str, element: Element) -> str:
    key = " . ".join(element.key)
    return f"nft {verb} element {element.family} {TABLE} {element.set} {{ {key} }}"


def new_element(element: Element) -> Message:
    """Adds an element; EEXIST when one with its key is there."""
    body = _element_list(element, whole=True)
    flags = NLM_F_CREATE | NLM_F_EXCL
    return _message(NEWSETELEM, element.family, body, lambda: _element_line("add", element), flags)


def delete_element(element: Element) -> Message:
    """Removes an element; ENOENT when it is not there."""
    body = _element_list(element, whole=False)
    return _message(DELSETELEM, element.family, body, lambda: _element_line("delete", element))


def observe_elements(socket: Socket | None, wanted: Sequence[Element]) -> list[Element]:
    """Those of the elements that are there, as the kernel has them."""
    if socket is None:
        return []
    answers = socket.get_many([_get_element(element) for element in wanted])
    return [
        found
        for element, received in zip(wanted, answers, strict=True)
        if received is not None
        for found in _elements(element.family, element.set, received)
    ]


def _get_element(element: Element) -> Message:
    body = _element_list(element, whole=False)
    return _message(GETSETELEM, element.family, body, lambda: _element_line("get", element))


def observe_owned(socket: Socket | None, owners: Collection[str]) -> list[Element]:
    """Every element that belongs to one of the host links, found by reading all sets: for when
    the attachments' records are lost."""
    return [
        element
        for family, sets in FAMILY_SETS.items()
        for name in sets
        for element in observe_set(socket, family, name)
        if element.owner in owners
    ]


def observe_set(socket: Socket | None, family: str, name: str) -> list[Element]:
    """All elements of a set; none when the table is not there."""
    body = text(1, TABLE) + text(2, name)
    message = _message(GETSETELEM, family, body, f"nft list set {family} {TABLE} {name}")
    answers = _dump(socket, message)
    if name in RANGE_SETS:
        return [Element(family, name, (text,)) for text in _ranges(answers)]
    return [element for received in answers for element in _elements(family, name, received)]


def _ranges(answers: Iterable[Received]) -> Iterator[str]:
    """What a set of networks holds, `FIRST-LAST` for what somebody else made and is no network.
    They do not overlap, so the first end belongs to the first start."""
    marked = [
        (attribute_map(found[1])[1], bool(found.get(3, bytes(4))[3] & ELEMENT_END))
        for received in answers
        for found in _items(received)
    ]
    starts = sorted(key for key, is_end in marked if not is_end)
    ends = sorted(key for key, is_end in marked if is_end and starts and key > starts[0])
    for start, end in zip_longest(starts, ends):
        first = ip_address(start)
        last = ip_address(end) - 1 if end else ip_address(b"\xff" * len(start))
        networks = list(summarize_address_range(first, last))
        yield str(networks[0]) if len(networks) == 1 else f"{first}-{last}"


def _elements(family: str, name: str, received: Received) -> Iterator[Element]:
    for found in _items(received):
        key = attribute_map(found[1])[1]
        data = attribute_map(found.get(2, b""))  # NFTA_DATA_VALUE is 1, NFTA_DATA_VERDICT 2
        leads = attribute_map(data.get(2, b""))
        yield Element(
            family,
            name,
            _parse_key(SETS[name], key),
            string(leads.get(2, b"")),
            _parse_comment(found.get(6, b"")) or None,
            _parse_key(DATA_MAPS[name], data[1]) if name in DATA_MAPS else (),
        )


def _items(received: Received) -> Iterator[dict[int, bytes]]:
    """The attributes of each element in an answer."""
    for kind, item in attributes(attribute_map(received.body, 4).get(3, b"")):
        if kind == 1:
            yield attribute_map(item)


# what is there -----------------------------------------------------------------------------------


def observe_chains(socket: Socket | None, wanted: Iterable[RuleChain]) -> list[RuleChain]:
    """The chains that exist, of those wanted; see RuleChain for what stands for their rules."""
    wanted = list(wanted)
    found = []
    for family in {chain.family for chain in wanted}:
        marks = {} if _is_dormant(socket, family) else _marks(socket, family)
        for chain in wanted:
            if chain.family != family or chain.name not in marks:
                continue
            same = marks[chain.name] == [rule.mark for rule in chain.rules]
            found.append(chain if same else chain._replace(rules=()))
    return found


def _is_dormant(socket: Socket | None, family: str) -> bool:
    """Whether our table is switched off (NFT_TABLE_F_DORMANT): then none of its chains work."""
    message = _message(GETTABLE, family, text(1, TABLE), f"nft list table {family} {TABLE}")
    received = socket.get(message) if socket else None
    if received is None:
        return False
    flags = attribute_map(received.body, 4).get(2, b"")
    return bool(int.from_bytes(flags, "big") & 0x1)


def _marks(socket: Socket | None, family: str) -> dict[str, list[str]]:
    """The comments of our table's rules, in order, by chain; chains without rules included."""
    marks: dict[str, list[str]] = {}
    message = _message(GETCHAIN, family, b"", f"nft list chains {family}")
    for received in _dump(socket, message):
        found = attribute_map(received.body, 4)
        if string(found[1]) == TABLE:
            marks[string(found[3])] = []
    message = _message(GETRULE, family, text(1, TABLE), f"nft list table {family} {TABLE}")
    for received in _dump(socket, message):
        found = attribute_map(received.body, 4)
        if string(found[1]) == TABLE:
            marks.setdefault(string(found[2]), []).append(_parse_comment(found.get(7, b"")))
    return marks


def generation(socket: Socket) -> int:
    """A number that every committed transaction in the namespace raises by one."""
    received = socket.get(_message(GETGEN, "any", b"", "nft list generation"))
    if received is None:
        return 0
    return int.from_bytes(attribute_map(received.body, 4)[1], "big")  # NFTA_GEN_ID


def forward_policy(socket: Socket | None, family: str) -> str | None:
    """The policy of iptables-nft's FORWARD chain in table `filter` of family ip or ip6: accept or
    drop; None when there is no such chain."""
    body = text(1, "filter") + text(3, "FORWARD")
    message = _message(GETCHAIN, family, body, f"nft list chain {family} filter FORWARD")
    received = socket.get(message) if socket else None
    if received is None:
        return None
    policy = attribute_map(received.body, 4).get(5, b"\0\0\0\1")
    return "accept" if int.from_bytes(policy, "big") else "drop"


def _dump(socket: Socket | None, message: Message) -> list[Received]:
    if socket is None:
        return []
    try:
        return socket.dump(message)
    except KernelError as error:
        if error.errno == errno.ENOENT:  # no such table or set: nothing is in it
            return []
        raise
