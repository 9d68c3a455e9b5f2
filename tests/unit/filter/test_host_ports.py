"""Host ports as rules and elements: what is translated, where, and who is masqueraded."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.values import PortMapping, RuntimeConf
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.filter import host_ports
from cni_plugin.filter.tables import DATA_MAPS, FAMILY_SETS
from cni_plugin.model.objects import Element, Obj, RuleChain
from cni_plugin.model.plan import Step, describe
from cni_plugin.model.rules import Lookup
from cni_plugin.record import Record, dump, load, noted
from tests.unit.attach.kit import HOST_LINK, V4, V6, wiring

WEB = PortMapping(8080, 80, "tcp")
MODES = pytest.mark.parametrize("mode", ["bridge", "ptp"])


def objects(mode: str, *mappings: PortMapping, **conf: object) -> tuple[Obj, ...]:
    runtime = RuntimeConf(port_mappings=mappings)
    return desired_state(wiring(mode, V4, V6, runtime=runtime, **conf)).objects


def lines(found: tuple[Obj, ...]) -> list[str]:
    """The elements of host ports, without the words that all have."""
    names = (*DATA_MAPS, "hairpin4", "hairpin6", "near4", "near6")
    elements = (obj for obj in found if isinstance(obj, Element) and obj.set in names)
    return [
        describe(Step(obj, None)).removeprefix("nft add element inet podwire ") for obj in elements
    ]


def test_the_rules() -> None:
    assert {chain.name: [rule.text for rule in chain.rules] for chain in host_ports.CHAINS} == {
        "host-ports": [
            "meta nfproto ipv4 ip daddr 127.0.0.0/8 return",
            "meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @hostports4_at",
            "meta nfproto ipv4 dnat ip to meta l4proto . th dport map @hostports4",
            "meta nfproto ipv6 ip6 daddr ::1/128 return",
            "meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostports6_at",
            "meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @hostports6",
        ],
        "host-ports-in": ["fib daddr type local jump host-ports"],
        "host-ports-out": ["fib daddr type local jump host-ports"],
        "host-ports-back": [
            f"ct status dnat meta nfproto {who} masquerade fully-random"
            for who in (
                "ipv4 ip saddr . ip daddr @hairpin4",
                "ipv4 iifname . ip daddr @near4",
                "ipv6 ip6 saddr . ip6 daddr @hairpin6",
                "ipv6 iifname . ip6 daddr @near6",
            )
        ],
    }


def test_every_entry_is_for_local_destinations_and_behind_everybody_else() -> None:
    for chain in host_ports.CHAINS:
        if chain.hook is not None and chain.hook.number in (0, 3):
            assert chain.hook.priority > -100  # kube-proxy's, linux/netfilter_ipv4.h
            assert all("fib daddr type local" in rule.text for rule in chain.rules)
    hooked = [chain.hook.number for chain in host_ports.CHAINS if chain.hook]
    assert hooked == [0, 3, 4]


def test_the_rules_ask_sets_that_there_are() -> None:
    asked = {
        expr.set
        for chain in host_ports.CHAINS
        for rule in chain.rules
        for expr in rule.exprs
        if isinstance(expr, Lookup)
    }
    assert asked <= set(FAMILY_SETS["inet"])
    assert set(DATA_MAPS) <= asked


@MODES
def test_a_pod_without_mappings_has_nothing_of_it(mode: str) -> None:
    found = objects(mode)
    assert lines(found) == []
    assert not [obj for obj in found if isinstance(obj, RuleChain) and "host" in obj.name]


def test_a_mapping_is_an_element_a_version_and_what_its_callers_need() -> None:
    assert lines(objects("bridge", WEB)) == [
        "hostports4 { tcp . 8080 : 10.244.0.2 . 80 }",
        "hostports6 { tcp . 8080 : 2001:db8::2 . 80 }",
        "hairpin4 { 10.244.0.2 . 10.244.0.2 }",
        "near4 { cni0 . 10.244.0.2 }",
        "hairpin6 { 2001:db8::2 . 2001:db8::2 }",
        "near6 { cni0 . 2001:db8::2 }",
    ]


def test_routed_pods_have_no_neighbours_that_are_hidden() -> None:
    assert not [line for line in lines(objects("ptp", WEB)) if line.startswith("near")]


def test_in_a_vlan_neighbours_come_in_by_the_gateways_foot() -> None:
    found = lines(objects("bridge", WEB, vlan=100))
    assert "near4 { cni0.100 . 10.244.0.2 }" in found


def test_without_snat_nobody_is_masqueraded() -> None:
    assert [line.split()[0] for line in lines(objects("bridge", WEB, snat=False))] == [
        "hostports4",
        "hostports6",
    ]


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        ("0.0.0.0", "hostports4 { tcp . 8080 : 10.244.0.2 . 80 }"),
        ("::", "hostports6 { tcp . 8080 : 2001:db8::2 . 80 }"),
        ("192.0.2.1", "hostports4_at { 192.0.2.1 . tcp . 8080 : 10.244.0.2 . 80 }"),
        ("2001:db8::9", "hostports6_at { 2001:db8::9 . tcp . 8080 : 2001:db8::2 . 80 }"),
    ],
)
def test_a_host_ip_says_where(host_ip: str, expected: str) -> None:
    found = lines(objects("ptp", WEB._replace(host_ip=ip_address(host_ip))))
    assert [line for line in found if line.startswith("hostports")] == [expected]


def test_an_address_of_a_version_that_the_pod_lacks_is_refused() -> None:
    mappings = (WEB, PortMapping(81, 81, "tcp", ip_address("2001:db8::9")))
    runtime = RuntimeConf(port_mappings=mappings)
    with pytest.raises(InvalidNetworkConfig) as caught:
        desired_state(wiring("bridge", V4, runtime=runtime))
    assert caught.value.msg.startswith(
        "runtimeConfig.portMappings[1].hostIP is 2001:db8::9, accepted: an address of IPv4"
    )


def test_before_a_foreign_plugin_gave_addresses_there_is_nothing_to_lead_to() -> None:
    found = desired_state(wiring("bridge", runtime=RuntimeConf(port_mappings=(WEB,)))).objects
    assert lines(found) == []


def test_the_elements_go_with_the_attachment_and_the_rules_stay() -> None:
    own = owned(objects("bridge", WEB))
    assert len(lines(own)) == 6
    assert not [obj for obj in own if isinstance(obj, RuleChain)]


def test_a_record_says_whose_a_port_was() -> None:
    """By the time of DEL it may be another's."""
    own = owned(objects("bridge", WEB))
    record = Record(
        "net", wiring("bridge").attachment, "done", "bridge", "", 0, "", "", "", (), own
    )
    for _ in range(2):  # DEL writes it anew before it begins
        again = load(dump(record))
        assert again is not None
        ports = [obj for obj in again.owned if isinstance(obj, Element) and obj.set in DATA_MAPS]
        assert [(obj.key, obj.owner) for obj in ports] == [(("tcp", "8080"), HOST_LINK)] * 2
        record = again


def test_a_record_notes_no_other_owners() -> None:
    """What has one is looked at before it is taken away."""
    noted_ = noted(owned(objects("bridge", WEB)))
    owners = {obj.set: obj.owner for obj in noted_ if isinstance(obj, Element)}
    assert {name for name, owner in owners.items() if owner} == {"hostports4", "hostports6"}
