"""Addresses and MACs are read strictly, into one spelling."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni_plugin.cni import parse

NEVER = [None, True, 1, 3232235521, 1.5, [], {}, "", " ", "x", "192.0.2.1 ", "192.0.2.01", "1.2.3"]
NEVER += ["::ffff:192.0.2.1", "fe80::1%eth0", "2001:db8::1\n", "٣.0.0.1", "1" * 5000]


@pytest.mark.parametrize("value", [*NEVER, "192.0.2.1/24"])
def test_no_address(value: Any) -> None:
    with pytest.raises(parse.Fault):
        parse.address(value)


@pytest.mark.parametrize(
    "value",
    [
        *NEVER,
        "192.0.2.1",
        "192.0.2.1/",
        "192.0.2.1/33",
        "192.0.2.1/024",
        "192.0.2.1/-1",
        "192.0.2.1/255.255.255.0",
        "192.0.2.1/0.0.0.255",
        "2001:db8::1/129",
        "192.0.2.1/٢",
        "192.0.2.1/24/24",
        "/24",
        "192.0.2.1/+4",
    ],
)
def test_no_interface(value: Any) -> None:
    with pytest.raises(parse.Fault):
        parse.interface(value)


def test_interface_keeps_host_bits() -> None:
    assert parse.interface("192.0.2.1/24") == ip_interface("192.0.2.1/24")
    assert parse.interface("2001:DB8::0:1/64") == ip_interface("2001:db8::1/64")


def test_a_requested_address_may_be_bare() -> None:
    assert parse.requested("192.0.2.1") == ip_interface("192.0.2.1/32")
    assert parse.requested("2001:db8::1") == ip_interface("2001:db8::1/128")
    assert parse.requested("192.0.2.1/24") == ip_interface("192.0.2.1/24")
    assert parse.address("192.0.2.1") == ip_address("192.0.2.1")


def test_a_network_with_host_bits_tells_the_right_one() -> None:
    with pytest.raises(parse.Fault, match=r"192\.0\.2\.0/24"):
        parse.network("192.0.2.1/24")
    assert parse.network("192.0.2.1/24", mask=True) == ip_network("192.0.2.0/24")


def test_mac_is_normalised() -> None:
    assert parse.mac("02-00-5E-10-00-FF") == "02:00:5e:10:00:ff"


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "",
        "02:00:5e:10:00",
        "02:00:5e:10:00:0g",
        "02005e100001",
        "0:0:0:0:0:1",
        "01:00:5e:10:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        "02:00:5e:10:00:01\n",
        "02:00:5e:10:00:01:02",
        " 2:00:5e:10:00:01",
        "02:00:5e:10:00:+1",
        "\u06602:00:5e:10:00:01",
    ],
)
def test_no_mac(value: Any) -> None:
    with pytest.raises(parse.Fault, match="unicast"):
        parse.mac(value)
