"""Every nftables message, read back by pyroute2's decoder, says what was meant."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import (
    nft_chain_msg,
    nft_rule_msg,
    nft_set_elem_list_msg,
    nft_set_msg,
    nft_table_msg,
)

from cni_plugin.filter import masquerade
from cni_plugin.filter.expressions import MASQUERADE
from cni_plugin.filter.tables import FAMILY_SETS, RANGE_SETS, SETS
from cni_plugin.kernel import nft
from cni_plugin.kernel.netlink import Message, Received, encode
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import (
    Compare,
    ConnectionStatus,
    DestinationNat,
    Expr,
    Hook,
    Load,
    Lookup,
    Mask,
    Part,
    Rule,
    Store,
    Verdict,
)

Json = dict[str, Any]
REQUEST, EXCL, CREATE, APPEND = 0x1, 0x200, 0x400, 0x800
NFT = 10 << 8
KINDS = {
    0: nft_table_msg, 3: nft_chain_msg, 5: nft_chain_msg, 6: nft_rule_msg, 8: nft_rule_msg,
    9: nft_set_msg, 12: nft_set_elem_list_msg, 13: nft_set_elem_list_msg,
    14: nft_set_elem_list_msg,
}  # fmt: skip


def plain(value: Any) -> Any:
    """pyroute2's tree of attributes as nested dicts."""
    if isinstance(value, dict) and "attrs" in value:
        return {item[0]: plain(item[1]) for item in value["attrs"]}
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def decoded(message: Message) -> tuple[int, int, int, Json]:
    """(message type, flags, family, attributes)."""
    found = KINDS[message.type & 0xFF](encode(message, 7))
    found.decode()
    header = found["header"]
    assert message.type >> 8 == 10
    return header["type"] & 0xFF, header["flags"], found["nfgen_family"], plain(found)


def expression(expr: Expr) -> Json:
    """One expression as it goes out in a rule."""
    chain = RuleChain("inet", "c", None, (Rule("c", (Part("text", (expr,)),)),))
    *_, rule = nft.new_chain(chain)
    (only,) = decoded(rule)[3]["NFTA_RULE_EXPRESSIONS"]
    return {only["NFTA_EXPR_NAME"]: only["NFTA_EXPR_DATA"]}


@pytest.mark.parametrize(("family", "number"), [("inet", 1), ("bridge", 7)])
def test_a_table_is_made_with_all_its_sets_and_never_exclusively(family: str, number: int) -> None:
    table, *sets = map(decoded, nft.new_table(family))
    awake = {"NFTA_TABLE_NAME": "podwire", "NFTA_TABLE_FLAGS": 0}
    assert table == (0, REQUEST | CREATE, number, awake)
    assert [made[3]["NFTA_SET_NAME"] for made in sets] == list(FAMILY_SETS[family])
    assert {made[:3] for made in sets} == {(9, REQUEST | CREATE, number)}
    assert len({made[3]["NFTA_SET_ID"] for made in sets}) == len(sets)


@pytest.mark.parametrize(
    ("name", "key_type", "length"),
    [
        ("mac_ports", 41, 16),
        ("macs", 41 << 6 | 9, 24),
        ("source4", 41 << 6 | 7, 20),
        ("source6", 41 << 6 | 8, 32),
        ("masq4", 7, 4),
        ("masq6", 8, 16),
        ("hostports4", 12 << 6 | 13, 8),
        ("hostports4_at", 7 << 12 | 12 << 6 | 13, 12),
        ("hostports6_at", 8 << 12 | 12 << 6 | 13, 24),
        ("near6", 41 << 6 | 8, 32),
    ],
)
def test_a_sets_key_is_of_its_fields(name: str, key_type: int, length: int) -> None:
    made = {attrs["NFTA_SET_NAME"]: attrs for *_, attrs in map(decoded, _sets("inet"))}
    assert (made[name]["NFTA_SET_KEY_TYPE"], made[name]["NFTA_SET_KEY_LEN"]) == (key_type, length)


def _sets(family: str) -> list[Message]:
    _, *sets = nft.new_table(family)
    return sets


def test_maps_lead_to_chains_or_to_an_address_and_a_port() -> None:
    maps = {
        attrs["NFTA_SET_NAME"]: (attrs["NFTA_SET_DATA_TYPE"], attrs.get("NFTA_SET_DATA_LEN"))
        for *_, attrs in map(decoded, _sets("inet"))
        if "NFTA_SET_DATA_TYPE" in attrs
    }
    verdict, v4, v6 = (0xFFFFFF00, None), (7 << 6 | 13, 8), (8 << 6 | 13, 20)
    assert maps == {
        "masq4": verdict, "masq6": verdict, "hostports4": v4, "hostports4_at": v4,
        "hostports6": v6, "hostports6_at": v6,
    }  # fmt: skip


def test_only_sets_of_networks_hold_intervals() -> None:
    made = [attrs for *_, attrs in map(decoded, _sets("inet"))]
    intervals = [
        each["NFTA_SET_NAME"] for each in made if each.get("NFTA_SET_FLAGS") == {"NFT_SET_INTERVAL"}
    ]
    assert tuple(intervals) == RANGE_SETS


def test_a_base_chain_has_hook_priority_type_and_accepts() -> None:
    chain = RuleChain("inet", "postrouting", Hook("nat", 4, 100), ())
    kind, flags, family, attrs = decoded(next(nft.new_chain(chain)))
    assert (kind, flags, family) == (3, REQUEST | CREATE, 1)
    assert attrs == {
        "NFTA_CHAIN_TABLE": "podwire",
        "NFTA_CHAIN_NAME": "postrouting",
        "NFTA_CHAIN_HOOK": {"NFTA_HOOK_HOOKNUM": 4, "NFTA_HOOK_PRIORITY": 100},
        "NFTA_CHAIN_POLICY": 1,
        "NFTA_CHAIN_TYPE": "nat",
    }


def test_a_negative_priority_is_a_signed_number() -> None:
    chain = RuleChain("bridge", "prerouting", Hook("filter", 0, -300), ())
    attrs = decoded(next(nft.new_chain(chain)))[3]
    assert attrs["NFTA_CHAIN_HOOK"]["NFTA_HOOK_PRIORITY"] == -300


def test_a_chain_is_made_flushed_and_filled_in_this_order() -> None:
    messages = [decoded(m) for m in nft.new_chain(masquerade.network_chain(()))]
    assert [message[0] for message in messages] == [3, 8, 6, 6, 6]
    assert {message[1] for message in messages[2:]} == {REQUEST | CREATE | APPEND}
    flush = messages[1][3]
    assert set(flush) == {"NFTA_RULE_TABLE", "NFTA_RULE_CHAIN"}


def test_a_rule_bears_its_mark() -> None:
    chain = masquerade.network_chain((ip_network("10.244.0.0/24"),))
    *_, last = nft.new_chain(chain)
    assert decoded(last)[3]["NFTA_RULE_USERDATA"] == chain.rules[-1].mark


def test_a_chain_is_deleted_after_its_rules() -> None:
    chain = RuleChain("inet", "masq-x", None, ())
    rules, gone = (decoded(message) for message in nft.delete_chain(chain))
    assert (rules[0], rules[3]["NFTA_RULE_CHAIN"]) == (8, "masq-x")
    assert (gone[0], gone[3]["NFTA_CHAIN_NAME"]) == (5, "masq-x")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (
            Load("meta", 6, register=2),
            {"meta": {"NFTA_META_DREG": "NFT_REG32_02", "NFTA_META_KEY": "NFT_META_IIFNAME"}},
        ),
        (
            Load("payload", 1, 12, 4, register=4),
            {
                "payload": {
                    "NFTA_PAYLOAD_DREG": "NFT_REG32_04",
                    "NFTA_PAYLOAD_BASE": "NFT_PAYLOAD_NETWORK_HEADER",
                    "NFTA_PAYLOAD_OFFSET": 12,
                    "NFTA_PAYLOAD_LEN": 4,
                }
            },
        ),
        (
            Mask(b"\xff\xff\xff\x00"),
            {
                "bitwise": {
                    "NFTA_BITWISE_SREG": "NFT_REG32_00",
                    "NFTA_BITWISE_DREG": "NFT_REG32_00",
                    "NFTA_BITWISE_LEN": 4,
                    "NFTA_BITWISE_MASK": {"NFTA_DATA_VALUE": b"\xff\xff\xff\x00"},
                    "NFTA_BITWISE_XOR": {"NFTA_DATA_VALUE": bytes(4)},
                }
            },
        ),
        (
            Mask(b"\x00\xff", b"\x40\x00"),
            {
                "bitwise": {
                    "NFTA_BITWISE_SREG": "NFT_REG32_00",
                    "NFTA_BITWISE_DREG": "NFT_REG32_00",
                    "NFTA_BITWISE_LEN": 2,
                    "NFTA_BITWISE_MASK": {"NFTA_DATA_VALUE": b"\x00\xff"},
                    "NFTA_BITWISE_XOR": {"NFTA_DATA_VALUE": b"\x40\x00"},
                }
            },
        ),
        (
            Store(1, 8, 2, 10),
            {
                "payload": {
                    "NFTA_PAYLOAD_SREG": "NFT_REG32_00",
                    "NFTA_PAYLOAD_BASE": "NFT_PAYLOAD_NETWORK_HEADER",
                    "NFTA_PAYLOAD_OFFSET": 8,
                    "NFTA_PAYLOAD_LEN": 2,
                    "NFTA_PAYLOAD_CSUM_TYPE": "NFT_PAYLOAD_CSUM_INET",
                    "NFTA_PAYLOAD_CSUM_OFFSET": 10,
                }
            },
        ),
        (
            Compare(b"\x0a"),
            {
                "cmp": {
                    "NFTA_CMP_SREG": "NFT_REG32_00",
                    "NFTA_CMP_OP": "NFT_CMP_EQ",
                    "NFTA_CMP_DATA": {"NFTA_DATA_VALUE": b"\x0a"},
                }
            },
        ),
        (
            Compare(b"\x0a", negate=True),
            {
                "cmp": {
                    "NFTA_CMP_SREG": "NFT_REG32_00",
                    "NFTA_CMP_OP": "NFT_CMP_NEQ",
                    "NFTA_CMP_DATA": {"NFTA_DATA_VALUE": b"\x0a"},
                }
            },
        ),
        (
            Lookup("macs"),
            {"lookup": {"NFTA_LOOKUP_SET": "macs", "NFTA_LOOKUP_SREG": "NFT_REG32_00"}},
        ),
        (
            Lookup("masq4", verdict=True),
            {
                "lookup": {
                    "NFTA_LOOKUP_SET": "masq4",
                    "NFTA_LOOKUP_SREG": "NFT_REG32_00",
                    "NFTA_LOOKUP_DREG": "NFT_REG_VERDICT",
                }
            },
        ),
    ],
    ids=str,
)
def test_an_expression_is_what_it_stands_for(expr: Expr, expected: Json) -> None:
    assert expression(expr) == expected


def test_a_negated_lookup_is_inverted() -> None:
    assert expression(Lookup("macs", negate=True))["lookup"]["NFTA_LOOKUP_FLAGS"] == {
        "NFT_LOOKUP_F_INV"
    }


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict("drop"), {"NFTA_VERDICT_CODE": "NF_DROP"}),
        (Verdict("accept"), {"NFTA_VERDICT_CODE": "NF_ACCEPT"}),
        (Verdict("return"), {"NFTA_VERDICT_CODE": "NFT_RETURN"}),
        (
            Verdict("jump", "ip-guard"),
            {"NFTA_VERDICT_CODE": "NFT_JUMP", "NFTA_VERDICT_CHAIN": "ip-guard"},
        ),
        (
            Verdict("goto", "masq-x"),
            {"NFTA_VERDICT_CODE": "NFT_GOTO", "NFTA_VERDICT_CHAIN": "masq-x"},
        ),
    ],
    ids=str,
)
def test_a_verdict_is_what_it_stands_for(verdict: Verdict, expected: Json) -> None:
    data = expression(verdict)["immediate"]
    assert data["NFTA_IMMEDIATE_DREG"] == "NFT_REG_VERDICT"
    assert data["NFTA_IMMEDIATE_DATA"] == {"NFTA_DATA_VERDICT": expected}


@pytest.mark.parametrize(("version", "family", "port"), [(4, 2, 1), (6, 10, 4)])
def test_a_host_port_leads_to_the_address_and_the_port_behind_it(
    version: int, family: int, port: int
) -> None:
    assert expression(Lookup("hostports4", data=True))["lookup"] == {
        "NFTA_LOOKUP_SET": "hostports4",
        "NFTA_LOOKUP_SREG": "NFT_REG32_00",
        "NFTA_LOOKUP_DREG": "NFT_REG32_00",
    }
    assert expression(DestinationNat(version))["nat"] == {
        "NFTA_NAT_TYPE": "NFT_NAT_DNAT",
        "NFTA_NAT_FAMILY": family,
        "NFTA_NAT_REG_ADDR_MIN": "NFT_REG32_00",
        "NFTA_NAT_REG_PROTO_MIN": f"NFT_REG32_0{port}",
    }


def test_what_a_connection_has_become() -> None:
    assert expression(ConnectionStatus())["ct"] == {
        "NFTA_CT_DREG": "NFT_REG32_00",
        "NFTA_CT_KEY": "NFT_CT_STATUS",
    }


def test_masquerade_chooses_ports_fully_at_random() -> None:
    (masq,) = MASQUERADE.exprs
    assert expression(masq)["masq"]["NFTA_MASQ_FLAGS"] == {"NF_NAT_RANGE_PROTO_RANDOM_FULLY"}


# elements ----------------------------------------------------------------------------------------

ELEMENTS = [
    (Element("bridge", "mac_ports", ("pwabc",), owner="pwabc"), b"pwabc".ljust(16, b"\0")),
    (
        Element("bridge", "macs", ("pwabc", "02:00:5e:00:00:01"), owner="pwabc"),
        b"pwabc".ljust(16, b"\0") + b"\x02\x00\x5e\x00\x00\x01\0\0",
    ),
    (
        Element("inet", "source4", ("pwabc", "10.244.0.2"), owner="pwabc"),
        b"pwabc".ljust(16, b"\0") + b"\x0a\xf4\x00\x02",
    ),
    (
        Element("inet", "source6", ("pwabc", "2001:db8::2"), owner="pwabc"),
        b"pwabc".ljust(16, b"\0") + b"\x20\x01\x0d\xb8" + bytes(11) + b"\x02",
    ),
    (Element("inet", "masq4", ("10.244.0.2",), "masq-x", "pwabc"), b"\x0a\xf4\x00\x02"),
    (
        Element("inet", "hostports4", ("udp", "53"), owner="pwabc", to=("10.244.0.2", "5353")),
        b"\x11\0\0\0\x00\x35\0\0",
    ),
    (
        Element(
            "inet", "hostports6_at", ("2001:db8::1", "sctp", "258"), owner="pwabc",
            to=("2001:db8::2", "80"),
        ),
        b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01" b"\x84\0\0\0\x01\x02\0\0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("element", "key"), ELEMENTS, ids=lambda item: str(item)[:40])
def test_an_element_has_key_owner_and_verdict(element: Element, key: bytes) -> None:
    kind, flags, _, attrs = decoded(nft.new_element(element))
    assert (kind, flags) == (12, REQUEST | CREATE | EXCL)
    assert attrs["NFTA_SET_ELEM_LIST_SET"] == element.set
    (entry,) = attrs["NFTA_SET_ELEM_LIST_ELEMENTS"]
    assert entry["NFTA_SET_ELEM_KEY"] == {"NFTA_DATA_VALUE": key}
    assert entry["NFTA_SET_ELEM_USERDATA"] == {"NFTNL_UDATA_SET_ELEM_COMMENT": b"pwabc"}
    verdict = entry.get("NFTA_SET_ELEM_DATA", {}).get("NFTA_DATA_VERDICT", {})
    assert verdict.get("NFTA_VERDICT_CHAIN", "") == element.goto
    data = entry.get("NFTA_SET_ELEM_DATA", {}).get("NFTA_DATA_VALUE", b"")
    assert data == _data(element.to)


def _data(to: tuple[str, ...]) -> bytes:
    """An address and a port, each padded to four bytes."""
    return (
        b"".join((ip_address(to[0]).packed, int(to[1]).to_bytes(2, "big"), bytes(2))) if to else b""
    )


@pytest.mark.parametrize("made", [nft.new_element, nft.delete_element])
@pytest.mark.parametrize(
    ("text", "first", "behind"),
    [
        ("10.244.1.0/24", b"\x0a\xf4\x01\x00", b"\x0a\xf4\x02\x00"),
        ("192.0.2.1-192.0.2.5", b"\xc0\x00\x02\x01", b"\xc0\x00\x02\x06"),
        ("255.0.0.0/8", b"\xff\x00\x00\x00", None),  # there is no address behind it
        ("0.0.0.0/0", bytes(4), None),
    ],
)
def test_a_range_is_its_first_address_and_the_one_behind_its_last(
    made: Callable[[Element], Message], text: str, first: bytes, behind: bytes | None
) -> None:
    message = made(Element("inet", "cluster4", (text,)))
    ends = [
        (entry["NFTA_SET_ELEM_KEY"]["NFTA_DATA_VALUE"], entry.get("NFTA_SET_ELEM_FLAGS"))
        for entry in decoded(message)[3]["NFTA_SET_ELEM_LIST_ELEMENTS"]
    ]
    assert ends == [(first, None), *([(behind, {1})] if behind else [])]
    received = Received(message.type, message.flags, message.body)
    assert list(nft._ranges([received])) == [text]


@pytest.mark.parametrize(("element", "key"), ELEMENTS, ids=lambda item: str(item)[:40])
def test_an_element_is_deleted_by_its_key_alone(element: Element, key: bytes) -> None:
    kind, flags, _, attrs = decoded(nft.delete_element(element))
    assert (kind, flags) == (14, REQUEST)
    assert attrs["NFTA_SET_ELEM_LIST_ELEMENTS"] == [{"NFTA_SET_ELEM_KEY": {"NFTA_DATA_VALUE": key}}]


@pytest.mark.parametrize(("element", "key"), ELEMENTS, ids=lambda item: str(item)[:40])
def test_an_element_is_parsed_as_it_was_written(element: Element, key: bytes) -> None:
    message = nft.new_element(element)
    received = Received(message.type, message.flags, message.body)
    assert list(nft._elements(element.family, element.set, received)) == [element]


def test_every_set_has_fields_of_a_known_type() -> None:
    fields = {field for fields in SETS.values() for field in fields}
    assert fields <= set(nft.KEY_TYPES)
