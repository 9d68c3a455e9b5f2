"""The capability portMappings: what is taken, and what is refused with its path and value."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_review import problems
from cni_plugin.cni.conf_schema import json_schema
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.packing import from_text, to_text
from cni_plugin.cni.port_mappings import MAPPINGS_MAX, overlap
from cni_plugin.cni.values import NetConf, PortMapping
from tests.unit.cni.test_conf_schema import accepts

IPAM = {"subnet": "192.0.2.0/24"}
BASE = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire", "ipam": IPAM}


def conf(*mappings: Any, **keys: Any) -> NetConf:
    return parse_conf(BASE | {"runtimeConfig": {"portMappings": list(mappings)}} | keys)[0]


def asked(**changes: Any) -> dict[str, Any]:
    """One mapping; a change to ... leaves the key out."""
    whole = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "", **changes}
    return {key: value for key, value in whole.items() if value is not ...}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PortMapping(8080, 80, "tcp")),
        ({"protocol": "UDP"}, PortMapping(8080, 80, "udp")),
        ({"protocol": "SCTP"}, PortMapping(8080, 80, "sctp")),
        ({"protocol": ..., "hostIP": ...}, PortMapping(8080, 80, "tcp")),
        ({"protocol": "", "hostIP": None}, PortMapping(8080, 80, "tcp")),
        ({"hostPort": 1, "containerPort": 65535}, PortMapping(1, 65535, "tcp")),
        ({"hostIP": "0.0.0.0"}, PortMapping(8080, 80, "tcp", ip_address("0.0.0.0"))),
        ({"hostIP": "2001:DB8::1"}, PortMapping(8080, 80, "tcp", ip_address("2001:db8::1"))),
        ({"name": "web"}, PortMapping(8080, 80, "tcp")),
    ],
)
def test_what_runtimes_send(changes: dict[str, Any], expected: PortMapping) -> None:
    found = conf(asked(**changes))
    assert found.runtime.port_mappings == (expected,)
    assert from_text(to_text(found)) == found


@pytest.mark.parametrize(
    ("mappings", "code", "told"),
    [
        ("80", 7, 'runtimeConfig.portMappings is "80", accepted: an array of at most 256'),
        ({}, 7, "runtimeConfig.portMappings is {}, accepted: an array of at most 256 mappings"),
        ("", 7, 'runtimeConfig.portMappings is "", accepted: an array of at most 256'),
        (0, 7, "runtimeConfig.portMappings is 0, accepted: an array of at most 256"),
        (False, 7, "runtimeConfig.portMappings is false, accepted: an array of at most 256"),
        ([80], 7, "runtimeConfig.portMappings[0] is 80, accepted: an object with hostPort and"),
        ([asked(hostPort=0)], 7, "runtimeConfig.portMappings[0].hostPort is 0, accepted: a port"),
        ([asked(hostPort=65536)], 7, "runtimeConfig.portMappings[0].hostPort is 65536"),
        ([asked(hostPort="80")], 7, 'runtimeConfig.portMappings[0].hostPort is "80"'),
        ([asked(hostPort=True)], 7, "runtimeConfig.portMappings[0].hostPort is true"),
        ([asked(hostPort=...)], 7, "runtimeConfig.portMappings[0].hostPort is missing"),
        ([asked(containerPort=-1)], 7, "runtimeConfig.portMappings[0].containerPort is -1"),
        ([asked(protocol="icmp")], 7, 'runtimeConfig.portMappings[0].protocol is "icmp"'),
        ([asked(protocol=6)], 7, "runtimeConfig.portMappings[0].protocol is 6"),
        ([asked(hostIP="x")], 7, 'runtimeConfig.portMappings[0].hostIP is "x", accepted: empty'),
        ([asked(hostIP="fe80::1%eth0")], 7, "runtimeConfig.portMappings[0].hostIP is"),
        ([asked(hostIP="::ffff:192.0.2.1")], 7, "accepted: 192.0.2.1 instead of"),
        ([asked(hostIP="224.0.0.1")], 7, 'runtimeConfig.portMappings[0].hostIP is "224.0.0.1"'),
        ([asked(hostIP="127.1.2.3")], 2, "which is not supported: 127.0.0.0/8 and ::1 lead to no"),
        ([asked(hostIP="::1")], 2, 'runtimeConfig.portMappings[0].hostIP is "::1"'),
        (
            [asked(), asked(containerPort=81)], 7,
            "accepted: a tcp port that runtimeConfig.portMappings[0] does not have",
        ),
        ([asked(hostIP="192.0.2.1"), asked()], 7, "runtimeConfig.portMappings[1].hostPort"),
        ([asked(hostIP="::"), asked(hostIP="2001:db8::1")], 7, "portMappings[1].hostPort"),
        ([asked()] * (MAPPINGS_MAX + 1), 7, "accepted: an array of at most 256 mappings"),
    ],
)  # fmt: skip
def test_what_is_refused(mappings: Any, code: int, told: str) -> None:
    document = BASE | {"runtimeConfig": {"portMappings": mappings}}
    with pytest.raises(CNIError) as caught:
        parse_conf(document)
    assert caught.value.code == code
    assert told in caught.value.msg
    assert [problem.code for problem in problems(document)] == [code]
    found, warnings = parse_conf(document, lenient=True)  # clean-up goes on
    assert found.runtime.port_mappings == ()
    assert warnings


@pytest.mark.parametrize("runtime", [{}, {"portMappings": None}, {"portMappings": []}])
def test_what_asks_for_nothing(runtime: dict[str, Any]) -> None:
    document = BASE | {"runtimeConfig": runtime}
    assert parse_conf(document)[0].runtime.port_mappings == ()
    assert problems(document) == []


@pytest.mark.parametrize(
    ("value", "fits"), [({}, False), ("", False), (0, False), (None, True), ([], True)]
)
def test_the_schema_says_the_same_of_the_whole(value: object, *, fits: bool) -> None:
    document = BASE | {"runtimeConfig": {"portMappings": value}}
    assert accepts(json_schema(), document) is fits
    assert (problems(document) == []) is fits


def test_the_same_port_of_another_protocol_or_version_or_address_is_another() -> None:
    several = (
        asked(), asked(protocol="udp"), asked(hostPort=1, hostIP="0.0.0.0"),
        asked(hostPort=1, hostIP="::"), asked(hostPort=2, hostIP="192.0.2.1"),
        asked(hostPort=2, hostIP="192.0.2.2"), asked(hostPort=2, hostIP="2001:db8::1"),
    )  # fmt: skip
    assert len(conf(*several).runtime.port_mappings) == len(several)


def test_without_ipam_there_is_nowhere_to_lead_to() -> None:
    with pytest.raises(CNIError, match=r"runtimeConfig\.portMappings is .* accepted: \[\]"):
        conf(asked(), ipam={})


@pytest.mark.parametrize("one", [None, "0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "2001:db8::1"])
@pytest.mark.parametrize("other", [None, "0.0.0.0", "::", "192.0.2.1", "2001:db8::1"])
def test_overlap_is_whether_some_address_is_both(one: str | None, other: str | None) -> None:
    addresses = ("192.0.2.1", "192.0.2.2", "2001:db8::1")

    def meant(text: str | None) -> set[str]:
        every = {None: addresses, "0.0.0.0": addresses[:2], "::": addresses[2:]}
        return set(every.get(text, (str(text),)))

    found = overlap(*(ip_address(text) if text else None for text in (one, other)))
    assert found is bool(meant(one) & meant(other))


@pytest.mark.parametrize(
    ("mapping", "fits"),
    [
        (asked(), True),
        (asked(protocol="UDP", hostIP="192.0.2.1"), True),
        (asked(protocol=..., hostIP=...), True),
        (asked(hostPort=0), False),
        (asked(hostPort=...), False),
        (asked(containerPort=65536), False),
        (asked(protocol="icmp"), False),
        (asked(hostIP=5), False),
    ],
)
def test_the_schema_says_the_same(mapping: dict[str, Any], fits: bool) -> None:
    document = BASE | {"runtimeConfig": {"portMappings": [mapping]}}
    assert accepts(json_schema(), document) is fits
    assert (problems(document) == []) is fits
