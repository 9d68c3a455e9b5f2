from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ipam.conf import IpamModel, ipam_conf
from ipam.errors import InvalidRanges
from ipam.ranges import canonical
from ipam.values import DEFAULT_DATA_DIR, IpamConf, Route


def parse(**section: Any) -> Any:
    return ipam_conf(IpamModel.model_validate({"type": "host-local", **section}))


def problems(**section: Any) -> Any:
    """Path and accepted phrase of every problem."""
    with pytest.raises(ValidationError) as failure:
        parse(**section)
    return {
        ".".join(map(str, error["loc"])): str(error.get("ctx", {}).get("error", error["msg"]))
        for error in failure.value.errors()
    }


def sets(*subnets: Any) -> Any:
    return tuple((canonical(ip_network(subnet)),) for subnet in subnets)


def test_defaults() -> None:
    assert parse(subnet="10.244.1.0/24") == IpamConf(
        type="host-local",
        range_sets=sets("10.244.1.0/24"),
        data_dir=DEFAULT_DATA_DIR,
        cooldown_s=30,
        sticky="",
    )


def test_every_key() -> None:
    got = parse(
        ranges=[
            [
                {
                    "subnet": "10.244.1.0/24",
                    "rangeStart": "10.244.1.10",
                    "rangeEnd": "10.244.1.20",
                    "gateway": "10.244.1.254",
                    "exclude": ["10.244.1.12/30"],
                }
            ]
        ],
        routes=[
            {
                "dst": "0.0.0.0/0",
                "gw": "10.244.1.254",
                "mtu": 1400,
                "advmss": 1360,
                "priority": 5,
                "table": 0,
                "scope": 0,
            }
        ],
        resolvConf="/etc/resolv.conf",
        dataDir="/run/cni",
        cooldown=5,
        sticky="pod",
    )
    subnet = ip_network("10.244.1.0/24")
    bounds = map(ip_address, ("10.244.1.10", "10.244.1.20", "10.244.1.254"))
    made = canonical(subnet, *bounds, [ip_network("10.244.1.12/30")])
    default = ip_network("0.0.0.0/0")
    route = Route(default, ip_address("10.244.1.254"), 1400, 1360, 5, 0, 0)
    assert got == IpamConf(
        "host-local", ((made,),), (route,), "/etc/resolv.conf", "/run/cni", 5, "pod"
    )


def test_the_old_style_range_comes_first_with_its_excludes() -> None:
    got = parse(
        subnet="10.244.2.0/24",
        exclude=["10.244.2.8/29"],
        ranges=[[{"subnet": "10.244.1.0/24"}]],
    )
    first = canonical(ip_network("10.244.2.0/24"), exclude=[ip_network("10.244.2.8/29")])
    assert got.range_sets == ((first,), *sets("10.244.1.0/24"))


def test_null_is_absent_as_go_writes_it() -> None:
    keys = ("subnet", "rangeStart", "rangeEnd", "gateway", "exclude", "routes")
    nulls = dict.fromkeys(keys)
    got = parse(ranges=[[{"subnet": "10.244.1.0/24", "gateway": None}]], **nulls)
    assert got == parse(ranges=[[{"subnet": "10.244.1.0/24"}]])


def test_a_route_may_have_host_bits_as_in_host_locals_readme() -> None:
    got = parse(subnet="2001:db8::/64", routes=[{"dst": "2001:db8:1::1/64"}])
    assert got.routes == (Route(ip_network("2001:db8:1::/64")),)


@pytest.mark.parametrize(
    ("text", "folder"),
    [("", DEFAULT_DATA_DIR), ("/a//b/", "/a/b"), ("/a/./b", "/a/b"), ("//a", "/a")],
)
def test_data_dir_is_normalised(text: str, folder: Path) -> None:
    assert parse(subnet="10.244.1.0/24", dataDir=text).data_dir == folder


def test_unknown_keys_are_kept_for_a_warning() -> None:
    model = IpamModel.model_validate(
        {"type": "x", "subnett": 1, "ranges": [[{"subnet": "10.244.1.0/24", "gatway": "x"}]]}
    )
    assert (model.model_extra, model.ranges[0][0].model_extra) == (
        {"subnett": 1},
        {"gatway": "x"},
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subnet", 24),
        ("subnet", "10.244.1.0"),
        ("subnet", "10.244.1.0/255.255.255.0"),
        ("subnet", "10.244.1.0/024"),
        ("subnet", "10.244.1.0/٢٤"),
        ("subnet", "10.244.1.0/33"),
        ("subnet", "10.244.1.5/24"),
        ("subnet", "fe80::%eth0/64"),
        ("subnet", "10.244.1.0/99999999"),
        ("rangeStart", "10.244.1.0"),
        ("rangeEnd", "10.244.1.255"),
        ("rangeEnd", 12),
        ("gateway", "10.244.2.1"),
        ("gateway", "10.244.1.1/24"),
        ("exclude", "10.244.1.8/29"),
        ("dataDir", "relative"),
        ("dataDir", "/a/../../etc"),
        ("dataDir", "/a\0b"),
        ("dataDir", 3),
        ("cooldown", -1),
        ("cooldown", True),
        ("cooldown", "30"),
        ("cooldown", 30.0),
        ("sticky", "node"),
        ("sticky", True),
        ("resolvConf", 3),
        ("ranges", "10.244.1.0/24"),
        ("routes", {}),
    ],
)
def test_a_refused_value_names_its_key_alone(key: str, value: Any) -> None:
    assert list(problems(**{"subnet": "10.244.1.0/24", key: value})) == [key]


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ({}, "routes.0.dst"),
        ({"dst": "0.0.0.0/0", "mtu": "1400"}, "routes.0.mtu"),
        ({"dst": "0.0.0.0/0", "table": -1}, "routes.0.table"),
        ({"dst": "0.0.0.0/0", "scope": 256}, "routes.0.scope"),
        ({"dst": "0.0.0.0/0", "gw": "2001:db8::1"}, "routes.0"),
    ],
)
def test_a_refused_route(route: Any, path: Any) -> None:
    assert list(problems(subnet="10.244.1.0/24", routes=[route])) == [path]


def test_all_problems_are_reported_at_once() -> None:
    bad = {"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.0", "gateway": "10.9.0.1"}
    got = problems(ranges=[[bad], [{"subnet": "10.244.2.0/32"}], []], cooldown="x")
    assert list(got) == [
        "ranges.0.0.rangeStart",
        "ranges.0.0.gateway",
        "ranges.1.0.subnet",
        "ranges.2",
        "cooldown",
    ]


def test_bounds_that_contradict_each_other() -> None:
    bad = {"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.9", "rangeEnd": "10.244.1.5"}
    assert problems(ranges=[[bad]]) == {
        "ranges.0.0": "rangeStart 10.244.1.9: an address up to rangeEnd 10.244.1.5"
    }


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([], "at least one range set"),
        ([["10.244.1.0/24"], ["10.244.1.128/25"]], r"ranges\[1\]\[0\]"),
        ([["10.244.1.0/24", "2001:db8::/64"]], "IPv4 like the first"),
    ],
)
def test_sets_that_contradict_each_other(ranges: Any, said: Any) -> None:
    listed = [[{"subnet": subnet} for subnet in range_set] for range_set in ranges]
    with pytest.raises(InvalidRanges, match=said):
        parse(ranges=listed)
