"""Names follow from what they stand for, fit the kernel, and never clash."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import product

import pytest

from cni_plugin.model import names
from cni_plugin.model.addresses import link_local

IDS = ("a", "b" * 64, "c.d-e_f")
NETWORKS = ("net", "net-1", "a" * 200)
IFNAMES = ("eth0", "net1", "x" * 15)
ALL = tuple(product(NETWORKS, IDS, IFNAMES))


@pytest.mark.parametrize("identity", ALL, ids=lambda item: item[0][:8])
def test_a_host_link_has_exactly_the_15_bytes_of_a_name(identity: tuple[str, str, str]) -> None:
    name = names.host_link(*identity)
    assert len(name.encode()) == 15
    assert name.startswith("pw")
    assert name.isascii()
    assert name.isalnum()


def test_no_two_attachments_share_a_host_link() -> None:
    assert len({names.host_link(*identity) for identity in ALL}) == len(ALL)


def test_where_one_part_ends_and_the_next_begins_matters() -> None:
    assert names.host_link("ab", "c", "eth0") != names.host_link("a", "bc", "eth0")


def test_a_name_is_the_same_in_every_version() -> None:
    """A changed digest would make every node's links foreign at an upgrade."""
    assert names.host_link("net", "id", "eth0") == GOLDEN_LINK
    assert names.mac_address("pod", "net", "id", "eth0") == GOLDEN_MAC


GOLDEN_LINK = "pwi6w4payzqvh6m"
GOLDEN_MAC = "7e:ba:87:b3:e8:e2"


@pytest.mark.parametrize("identity", ALL, ids=lambda item: item[0][:8])
def test_a_mac_is_unicast_and_locally_administered(identity: tuple[str, str, str]) -> None:
    first = int(names.mac_address(*identity)[:2], 16)
    assert first & 0x01 == 0
    assert first & 0x02


def test_the_two_ends_of_a_pair_have_different_macs() -> None:
    assert names.mac_address("host", *ALL[0]) != names.mac_address("pod", *ALL[0])


def test_an_alias_tells_whose_the_link_is_and_fits_the_kernel() -> None:
    assert names.alias("net", "id", "eth0") == "podwire net id eth0"
    longest = names.alias("n" * 200, "i" * 40, "eth0")
    assert (len(longest), longest.split(" ")[0]) == (254, "podwire")
    replaced = names.alias("n" * 200, "i" * 41, "eth0")
    assert len(replaced) < 254
    assert replaced.startswith("podwire-long ")
    assert replaced != names.alias("n" * 200, "i" * 42, "eth0")


@pytest.mark.parametrize(
    ("alias", "ours"),
    [
        ("podwire net", True),
        ("podwire a.b_c-1", True),
        ("podwire", False),
        ("podwire ", False),
        ("podwire is nice", False),
        ("podwire net c0 eth0", False),
        ("podwirenet x", False),
        ("", False),
    ],
)
def test_a_bridge_is_ours_by_its_whole_alias(alias: str, *, ours: bool) -> None:
    assert names.is_bridge_mark(alias) == ours


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        ("02:00:5e:00:00:01", "fe80::5eff:fe00:1"),
        ("00:00:5e:00:53:01", "fe80::200:5eff:fe00:5301"),
    ],
)
def test_the_link_local_address_of_a_mac(mac: str, address: str) -> None:
    assert link_local(mac) == ip_address(address)
