"""Limits of bandwidth, and the keys of the plugin `tuning`: what is accepted, and what holds."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from cni_plugin.cni.bandwidth import effective
from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_cache import base_document
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.packing import from_text, to_text
from cni_plugin.cni.sysctls import path_of_pod
from cni_plugin.cni.values import Bandwidth, NetConf

BASE = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire"}
BOTH = {"ingressRate": 8000, "ingressBurst": 800, "egressRate": 4000, "egressBurst": 400}
FOUR, SIX = ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")


def conf(**keys: Any) -> NetConf:
    return parse_conf(BASE | keys)[0]


def refused(**keys: Any) -> InvalidNetworkConfig:
    with pytest.raises(InvalidNetworkConfig) as caught:
        conf(**keys)
    return caught.value


def test_the_same_keys_in_the_config_and_from_the_runtime() -> None:
    asked = BOTH | {"unshapedSubnets": [str(FOUR), str(SIX), str(FOUR)]}
    limits = Bandwidth(8000, 800, 4000, 400, unshaped=(FOUR, SIX))
    assert conf(**asked).bandwidth == limits
    assert conf(runtimeConfig={"bandwidth": asked}).runtime.bandwidth == limits


def test_what_the_runtime_asks_is_no_part_of_the_base() -> None:
    whole = BASE | {"runtimeConfig": {"bandwidth": BOTH}}
    assert base_document(whole) == BASE


def test_limits_survive_being_kept() -> None:
    kept = conf(**BOTH, shapedSubnets=[str(SIX)], sysctl={"net.core.somaxconn": "1"})
    assert from_text(to_text(kept)) == kept


def test_the_networks_limits_go_before_the_runtimes() -> None:
    written, asked = Bandwidth(8000, 800), Bandwidth(1, 1, 1, 1)
    assert effective(written, asked) == written
    assert effective(Bandwidth(), asked) == asked
    document = BASE | BOTH | {"runtimeConfig": {"bandwidth": BOTH}}
    (line,) = parse_conf(document)[1]
    assert line.startswith("runtimeConfig.bandwidth is ignored")


def test_lists_of_the_network_hold_for_the_runtimes_limits() -> None:
    lists = Bandwidth(unshaped=(FOUR,))
    assert effective(lists, Bandwidth(8000, 800)) == Bandwidth(8000, 800, unshaped=(FOUR,))
    asked = Bandwidth(8000, 800, shaped=(SIX,))
    assert effective(lists, asked) == Bandwidth(8000, 800, unshaped=(FOUR,))
    assert effective(Bandwidth(), asked) == asked


@pytest.mark.parametrize("filled", [(1 << 32) - 1, 8 * ((1 << 32) - 1) - 1, (1 << 31) - 1])
def test_a_burst_that_the_runtime_only_fills_in_follows_from_the_rate(filled: int) -> None:
    asked = {"ingressRate": 8_000_000, "ingressBurst": filled, "egressRate": 4000}
    runtime = conf(runtimeConfig={"bandwidth": asked | {"egressBurst": 400}}).runtime.bandwidth
    assert effective(Bandwidth(), runtime) == Bandwidth(8_000_000, 800_000, 4000, 400)
    written = conf(ingressRate=8_000_000, ingressBurst=filled).bandwidth
    assert effective(written, runtime) == written, "what an administrator wrote means itself"


def test_one_beside_it_means_itself() -> None:
    asked = Bandwidth(8_000_000, (1 << 32) - 2, 8_000_000, 1 << 31)
    assert effective(Bandwidth(), asked) == asked


def test_the_fastest_rate_has_a_burst_that_fits() -> None:
    asked = Bandwidth((1 << 63) - 1, (1 << 32) - 1)
    assert effective(Bandwidth(), asked).ingress_burst // 8 == (1 << 32) - 2


@pytest.mark.parametrize("where", ["", "runtimeConfig.bandwidth."])
def test_the_largest_burst_is_the_reference_plugins(where: str) -> None:
    """Which compares whole bytes: bandwidth/main.go, validateRateAndBurst."""
    largest = 8 * ((1 << 32) - 1) - 1
    conf(**_keys(where, {"ingressRate": 8000, "ingressBurst": largest}))
    error = refused(**_keys(where, {"ingressRate": 8000, "ingressBurst": largest + 1}))
    assert error.msg.startswith(f"{where}ingressBurst is ")


RUNTIME_AND_CONFIG = pytest.mark.parametrize("where", ["", "runtimeConfig.bandwidth."])


def _keys(where: str, keys: dict[str, Any]) -> dict[str, Any]:
    return {"runtimeConfig": {"bandwidth": keys}} if where else keys


@RUNTIME_AND_CONFIG
@pytest.mark.parametrize("key", BOTH)
@pytest.mark.parametrize("value", [-1, 7, 1.5, "8000", True, 1 << 63])
def test_a_wrong_number_is_named(where: str, key: str, value: object) -> None:
    error = refused(**_keys(where, BOTH | {key: value}))
    assert error.msg.startswith(f"{where}{key} is ")
    assert "accepted: 0" in error.msg


@RUNTIME_AND_CONFIG
@pytest.mark.parametrize("missing", BOTH)
def test_rate_and_burst_need_each_other(where: str, missing: str) -> None:
    keys = {key: value for key, value in BOTH.items() if key != missing}
    error = refused(**_keys(where, keys))
    assert error.msg.startswith(f"{where}{missing} is 0, accepted: bits")


@RUNTIME_AND_CONFIG
def test_the_two_lists_exclude_each_other(where: str) -> None:
    lists = {"unshapedSubnets": [str(FOUR)], "shapedSubnets": [str(SIX)]}
    error = refused(**_keys(where, BOTH | lists))
    assert error.msg.startswith(f"{where}shapedSubnets is ")


@RUNTIME_AND_CONFIG
def test_a_wrong_network_is_named(where: str) -> None:
    error = refused(**_keys(where, BOTH | {"shapedSubnets": [str(FOUR), "192.0.2.1/24"]}))
    assert error.msg.startswith(f"{where}shapedSubnets[1] is ")


@RUNTIME_AND_CONFIG
def test_a_list_has_an_end(where: str) -> None:
    many = [f"2001:db8:{number:x}::/48" for number in range(257)]
    error = refused(**_keys(where, BOTH | {"unshapedSubnets": many}))
    assert "accepted: an array of at most 256 networks" in error.msg


def test_clean_up_goes_on_with_wrong_limits() -> None:
    document = BASE | {"runtimeConfig": {"bandwidth": {"ingressRate": "x"}}}
    found, warnings = parse_conf(document, lenient=True)
    assert found.runtime.bandwidth == Bandwidth()
    assert warnings[0].startswith("clean-up goes on with the default: runtimeConfig.bandwidth")


# sysctl, txqueuelen, allmulti, promisc ------------------------------------------------------------


def test_sysctls_have_one_spelling() -> None:
    asked = {
        "net.core.somaxconn": "1",
        "net/core/somaxconn": " 2 ",
        "net.ipv4.tcp_rmem": "4096\t87380  6291456",
        "net/ipv4/conf/eth0.100/arp_filter": "1",
        "net.ipv4.conf.eth0/100.arp_ignore": "0",
    }
    error = refused(sysctl=asked)
    assert error.msg.startswith('sysctl is "net.ipv4.conf.eth0/100.arp_ignore", accepted: the name')
    del asked["net.ipv4.conf.eth0/100.arp_ignore"]
    assert conf(sysctl=asked).sysctls == (
        ("net/core/somaxconn", "2"),
        ("net/ipv4/tcp_rmem", "4096 87380 6291456"),
        ("net/ipv4/conf/eth0.100/arp_filter", "1"),
    )


def test_ifname_stands_for_the_interface() -> None:
    assert path_of_pod("net/ipv4/conf/IFNAME/arp_filter", "eth0.1") == (
        "ipv4", "conf", "eth0.1", "arp_filter",
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern", "net", "net.core", "netx.core.somaxconn", "net..core", "net.core.",
        "net/../kernel/core_pattern", "net/core/./x", "/net/core/x", "net.core.a b", "net.core.a\n",
        "net.core.\u0661", "net.core.%s", "",
    ],
)  # fmt: skip
def test_a_name_that_is_not_below_net_is_refused(name: str) -> None:
    assert refused(sysctl={name: "1"}).msg.startswith("sysctl is ")


@pytest.mark.parametrize("value", ["", " ", "1\n", "\u00e4", "x" * 256, 1, True, None])
def test_a_wrong_value_is_named(value: object) -> None:
    assert refused(sysctl={"net.core.somaxconn": value}).msg.startswith("sysctl.net.core.somaxconn")


def test_what_is_not_given_is_left_as_it_is() -> None:
    bare, given = conf(), conf(txqueuelen=1000, allmulti=False, promisc=False)
    assert (bare.queue_length, bare.allmulti, bare.pod_promisc) == (None, None, None)
    assert (given.queue_length, given.allmulti, given.pod_promisc) == (1000, False, False)


def test_the_pods_promisc_is_not_the_bridges() -> None:
    pod, bridge = conf(promisc=True), conf(promiscMode=True)
    assert (pod.promisc, pod.pod_promisc) == (False, True)
    assert (bridge.promisc, bridge.pod_promisc) == (True, None)


@pytest.mark.parametrize(
    ("key", "value"), [("txqueuelen", -1), ("txqueuelen", "9"), ("allmulti", 1), ("promisc", "on")]
)
def test_a_wrong_setting_is_named(key: str, value: object) -> None:
    assert refused(**{key: value}).msg.startswith(f"{key} is ")
