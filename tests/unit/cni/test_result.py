"""Golden results in every version, and the reading of them."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni_plugin.cni.errors import DecodeFailure, InvalidNetworkConfig
from cni_plugin.cni.result import encode_result, result_document
from cni_plugin.cni.result_parse import parse_ipam_result, parse_prev_result
from cni_plugin.cni.values import Dns, Interface, IPConfig, Result
from ipam.values import Route

RESULT = Result(
    interfaces=(
        Interface("cni0", "02:00:5e:10:00:01", mtu=1500),
        Interface("veth1", "02:00:5e:10:00:02"),
        Interface("eth0", "02:00:5e:10:00:03", 1450, "/var/run/netns/a", "/run/s", "0000:00:1f.6"),
    ),
    ips=(
        IPConfig(ip_interface("192.0.2.5/24"), ip_address("192.0.2.1"), 2),
        IPConfig(ip_interface("2001:db8::5/64"), None, 2),
        IPConfig(ip_interface("198.51.100.5/24"), None, None),
    ),
    routes=(
        Route(ip_network("0.0.0.0/0"), ip_address("192.0.2.1"), 1400, 1360, 0, 0, 0),
        Route(ip_network("::/0")),
        Route(ip_network("203.0.113.0/24"), table=100, scope=253),
    ),
    dns=Dns(("192.0.2.53",), "example.org", ("a.example.org",), ("ndots:2",)),
)
DNS = {
    "nameservers": ["192.0.2.53"],
    "domain": "example.org",
    "search": ["a.example.org"],
    "options": ["ndots:2"],
}
PLAIN_INTERFACES = [
    {"name": "cni0", "mac": "02:00:5e:10:00:01"},
    {"name": "veth1", "mac": "02:00:5e:10:00:02"},
    {"name": "eth0", "mac": "02:00:5e:10:00:03", "sandbox": "/var/run/netns/a"},
]
PLAIN_ROUTES = [
    {"dst": "0.0.0.0/0", "gw": "192.0.2.1"},
    {"dst": "::/0"},
    {"dst": "203.0.113.0/24"},
]
IPS = [
    {"address": "192.0.2.5/24", "gateway": "192.0.2.1", "interface": 2},
    {"address": "2001:db8::5/64", "interface": 2},
    {"address": "198.51.100.5/24"},
]
EXTENDED = {
    "interfaces": [
        {**PLAIN_INTERFACES[0], "mtu": 1500},
        PLAIN_INTERFACES[1],
        PLAIN_INTERFACES[2] | {"mtu": 1450, "socketPath": "/run/s", "pciID": "0000:00:1f.6"},
    ],
    "routes": [
        PLAIN_ROUTES[0] | {"mtu": 1400, "advmss": 1360, "priority": 0, "table": 0, "scope": 0},
        PLAIN_ROUTES[1],
        PLAIN_ROUTES[2] | {"table": 100, "scope": 253},
    ],
}
PLAIN = {"interfaces": PLAIN_INTERFACES, "ips": IPS, "routes": PLAIN_ROUTES, "dns": DNS}
OLD_IPS = [{"version": version, **ip} for version, ip in zip(("4", "6", "4"), IPS, strict=True)]
FAMILIES = {
    "ip4": {
        "ip": "192.0.2.5/24",
        "gateway": "192.0.2.1",
        "routes": [PLAIN_ROUTES[0], PLAIN_ROUTES[2]],
    },
    "ip6": {"ip": "2001:db8::5/64", "routes": [PLAIN_ROUTES[1]]},
    "dns": DNS,
}
GOLDEN = {
    "1.1.0": PLAIN | EXTENDED,
    "1.0.0": PLAIN,
    "0.4.0": PLAIN | {"ips": OLD_IPS},
    "0.3.1": PLAIN | {"ips": OLD_IPS},
    "0.3.0": PLAIN | {"ips": OLD_IPS},
    "0.2.0": FAMILIES,
    "0.1.0": FAMILIES,
}


@pytest.mark.parametrize("version", GOLDEN)
def test_golden(version: str) -> None:
    encoded = encode_result(RESULT, version)
    assert json.loads(encoded) == {"cniVersion": version, **GOLDEN[version]}
    assert encoded.count(b"\n") == 1


@pytest.mark.parametrize("version", GOLDEN)
def test_an_empty_result_is_only_a_version(version: str) -> None:
    assert result_document(Result(), version) == {"cniVersion": version}


def test_the_newest_version_reads_back_whole() -> None:
    assert parse_prev_result(GOLDEN["1.1.0"], "1.1.0") == RESULT


def test_zero_differs_from_absent() -> None:
    routes = [{"dst": "192.0.2.0/24", "table": 0, "scope": 0}, {"dst": "192.0.2.0/24"}]
    zero, absent = parse_prev_result({"routes": routes}, "1.1.0").routes
    assert (zero.table, zero.scope) == (0, 0)
    assert (absent.table, absent.scope) == (None, None)


def test_old_results_become_lists() -> None:
    result = parse_prev_result(FAMILIES, "0.2.0")
    assert [str(ip.address) for ip in result.ips] == ["192.0.2.5/24", "2001:db8::5/64"]
    assert [str(route.dst) for route in result.routes] == [
        "0.0.0.0/0",
        "203.0.113.0/24",
        "::/0",
    ]
    assert result.interfaces == ()


def test_the_results_own_version_goes_before_the_configs() -> None:
    result = parse_prev_result({"cniVersion": "0.2.0", **FAMILIES}, "1.1.0")
    assert len(result.ips) == 2


def test_null_and_an_empty_gateway_are_absent() -> None:
    document = {
        "interfaces": None,
        "ips": [{"address": "192.0.2.5/24", "gateway": "", "interface": None}],
        "routes": [{"dst": "192.0.2.9/24", "gw": None}],
        "dns": {"nameservers": None},
    }
    assert parse_prev_result(document, "1.0.0") == Result(
        ips=(IPConfig(ip_interface("192.0.2.5/24")),),
        routes=(Route(ip_network("192.0.2.0/24")),),
    )


REFUSED = {
    "prevResult is 5, accepted: an object": 5,
    "prevResult.ips is {}, accepted: an array": {"ips": {}},
    "prevResult.ips[0] is 1, accepted: an object": {"ips": [1]},
    'prevResult.ips[0].address is "192.0.2.5", accepted:': {"ips": [{"address": "192.0.2.5"}]},
    "prevResult.ips[0].address is null, accepted:": {"ips": [{}]},
    'prevResult.ips[0].gateway is "x", accepted:': {
        "ips": [{"address": "192.0.2.5/24", "gateway": "x"}]
    },
    'prevResult.ips[0].gateway is "2001:db8::1", accepted: an IPv4': {
        "ips": [{"address": "192.0.2.5/24", "gateway": "2001:db8::1"}]
    },
    "prevResult.ips[0].interface is 1, accepted: an index into the 1": {
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "192.0.2.5/24", "interface": 1}],
    },
    "prevResult.ips[0].interface is -1, accepted:": {
        "ips": [{"address": "192.0.2.5/24", "interface": -1}]
    },
    "prevResult.ips[0].interface is true, accepted:": {
        "ips": [{"address": "192.0.2.5/24", "interface": True}]
    },
    'prevResult.interfaces[0].name is "", accepted:': {"interfaces": [{"name": ""}]},
    "prevResult.interfaces[0].name is null, accepted:": {"interfaces": [{}]},
    'prevResult.interfaces[0].mac is "zz", accepted:': {"interfaces": [{"name": "a", "mac": "zz"}]},
    "prevResult.interfaces[0].sandbox is 1, accepted:": {
        "interfaces": [{"name": "a", "sandbox": 1}]
    },
    'prevResult.interfaces[0].mtu is "1500", accepted:': {
        "interfaces": [{"name": "a", "mtu": "1500"}]
    },
    "prevResult.routes[0].dst is null, accepted:": {"routes": [{}]},
    'prevResult.routes[0].gw is "nowhere", accepted:': {
        "routes": [{"dst": "192.0.2.0/24", "gw": "nowhere"}]
    },
    "prevResult.routes[0].scope is true, accepted: a whole number": {
        "routes": [{"dst": "192.0.2.0/24", "scope": True}]
    },
    "prevResult.routes[0].scope is 256, accepted: a whole number, 0 to 255": {
        "routes": [{"dst": "192.0.2.0/24", "scope": 256}]
    },
    "prevResult.routes[0].table is 4294967296, accepted:": {
        "routes": [{"dst": "192.0.2.0/24", "table": 1 << 32}]
    },
    "prevResult.dns is [], accepted: an object": {"dns": []},
    'prevResult.dns.search is "a", accepted: an array': {"dns": {"search": "a"}},
    "prevResult.dns.nameservers[1] is 8, accepted: a string": {
        "dns": {"nameservers": ["192.0.2.53", 8]}
    },
    'prevResult.dns.domain is "a\\nb", accepted: a string': {"dns": {"domain": "a\nb"}},
    'prevResult.cniVersion is "7", accepted: one of': {"cniVersion": "7"},
}


@pytest.mark.parametrize(("told", "value"), REFUSED.items(), ids=REFUSED)
def test_a_bad_prev_result_names_path_and_value(told: str, value: Any) -> None:
    with pytest.raises(InvalidNetworkConfig) as caught:
        parse_prev_result(value, "1.1.0")
    assert caught.value.msg.startswith(told)


def test_the_old_version_key_must_fit_its_address() -> None:
    document = {"ips": [{"version": "6", "address": "192.0.2.5/24"}]}
    with pytest.raises(InvalidNetworkConfig, match=r"ips\[0\]\.version"):
        parse_prev_result(document, "0.4.0")
    assert parse_prev_result(document, "1.0.0").ips


def test_the_old_families_must_fit_their_addresses() -> None:
    with pytest.raises(InvalidNetworkConfig, match=r"prevResult\.ip6\.ip"):
        parse_prev_result({"ip6": {"ip": "192.0.2.5/24"}}, "0.2.0")


def test_an_ipam_result_has_no_interfaces() -> None:
    document = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": "192.0.2.5/24", "gateway": "192.0.2.1", "interface": 7}],
    }
    assert parse_ipam_result(json.dumps(document).encode(), "1.0.0", "whereabouts") == Result(
        ips=(IPConfig(ip_interface("192.0.2.5/24"), ip_address("192.0.2.1")),)
    )


@pytest.mark.parametrize("data", [b"", b"lease lost", b"[]", b'{"ips": 3}'])
def test_a_bad_ipam_result_names_its_plugin(data: bytes) -> None:
    with pytest.raises(DecodeFailure, match="whereabouts"):
        parse_ipam_result(data, "1.0.0", "whereabouts")
