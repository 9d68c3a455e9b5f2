"""The plugin object: defaults, meanings of the keys, contradictions, leniency."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.errors import InvalidNetworkConfig, UnsupportedField
from cni_plugin.cni.values import Dns, NetConf, RuntimeConf
from ipam.values import IpamConf, Route

BASE = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire"}
V4 = {"subnet": "192.0.2.0/24"}
V6 = {"subnet": "2001:db8::/64"}


def conf(**keys: Any) -> NetConf:
    return parse_conf(BASE | keys)[0]


def warnings(**keys: Any) -> tuple[str, ...]:
    return parse_conf(BASE | keys)[1]


def refused(**keys: Any) -> InvalidNetworkConfig:
    with pytest.raises(InvalidNetworkConfig) as caught:
        parse_conf(BASE | keys)
    return caught.value


def test_the_least_config_is_layer_2_with_defaults() -> None:
    assert conf() == NetConf("1.1.0", "pods", "podwire", anti_spoof_ip=False)


def test_every_key_reaches_its_field() -> None:
    found = conf(
        bridge="br0",
        isGateway=True,
        forceAddress=True,
        ipMasq=True,
        nonMasqueradeCIDRs=["10.244.0.0/16", "2001:db8::/32"],
        mtu=1400,
        hairpinMode=False,
        vlan=7,
        preserveDefaultVlan=False,
        antiSpoofing=False,
        portIsolation=True,
        enabledad=True,
        stableMac=True,
        dns={"nameservers": ["2001:DB8::53"], "domain": "d", "search": ["s"], "options": ["o"]},
        ipam=V4,
    )
    assert found._replace(ipam=None) == NetConf(
        "1.1.0",
        "pods",
        "podwire",
        bridge="br0",
        is_gateway=True,
        force_address=True,
        ip_masq=True,
        non_masquerade_cidrs=(ip_network("10.244.0.0/16"), ip_network("2001:db8::/32")),
        mtu=1400,
        hairpin=False,
        vlan=7,
        preserve_default_vlan=False,
        anti_spoof_mac=False,
        anti_spoof_ip=False,
        port_isolation=True,
        enable_dad=True,
        stable_mac=True,
        dns=Dns(("2001:db8::53",), "d", ("s",), ("o",)),
    )


def test_a_default_gateway_is_a_gateway() -> None:
    found = conf(isDefaultGateway=True)
    assert (found.is_gateway, found.is_default_gateway) == (True, True)
    assert conf(isDefaultGateway=True, isGateway=False).is_gateway is True


@pytest.mark.parametrize(
    ("keys", "hairpin"),
    [
        ({}, True),
        ({"hairpinMode": False}, False),
        ({"promiscMode": True}, False),
        ({"promiscMode": True, "hairpinMode": False}, False),
        ({"promiscMode": False, "hairpinMode": True}, True),
    ],
)
def test_hairpin_gives_way_to_promiscuous_mode(keys: dict[str, bool], hairpin: bool) -> None:
    assert conf(**keys).hairpin is hairpin


def test_hairpin_and_promiscuous_mode_exclude_each_other() -> None:
    error = refused(hairpinMode=True, promiscMode=True)
    assert error.msg == "hairpinMode is true, accepted: false, or absent, while promiscMode is true"


@pytest.mark.parametrize(
    ("keys", "mac", "ip"),
    [
        ({}, True, True),
        ({"antiSpoofing": False}, False, False),
        ({"macspoofchk": False}, False, True),
        ({"macspoofchk": True}, True, True),
        ({"antiSpoofing": False, "macspoofchk": True}, True, False),
    ],
)
def test_spoofing(keys: dict[str, bool], mac: bool, ip: bool) -> None:
    found = conf(ipam=V4, **keys)
    assert (found.anti_spoof_mac, found.anti_spoof_ip) == (mac, ip)


def test_without_ipam_no_address_can_be_false() -> None:
    found = conf(antiSpoofing=True)
    assert (found.anti_spoof_mac, found.anti_spoof_ip) == (True, False)


@pytest.mark.parametrize("absent", [None, {}])
def test_no_ipam_is_layer_2(absent: object) -> None:
    assert conf(ipam=absent).ipam is None


@pytest.mark.parametrize("kind", ["dhcp", "static", "whereabouts", "calico-ipam"])
def test_a_foreign_ipam_is_let_be(kind: str) -> None:
    found, lines = parse_conf(BASE | {"ipam": {"type": kind, "subnet": 5, "odd": []}})
    assert found.ipam == IpamConf(type=kind)
    assert lines == ()


@pytest.mark.parametrize("kind", ["host-local", "podwire-ipam"])
def test_own_ipam(kind: str) -> None:
    section = {"type": kind, "dataDir": "/run/x", "routes": [{"dst": "0.0.0.0/0", "table": 0}]}
    found = conf(ipam=section | V4).ipam
    assert found is not None
    assert (found.type, found.data_dir) == (kind, "/run/x")
    assert found.range_sets[0][0].subnet == ip_network("192.0.2.0/24")
    assert found.routes == (Route(ip_network("0.0.0.0/0"), table=0),)


@pytest.mark.parametrize("section", [V4, {"ranges": [[V4]]}, V4 | {"type": ""}])
def test_ranges_without_a_type_are_podwires_own(section: dict[str, Any]) -> None:
    found = conf(ipam=section).ipam
    assert found is not None
    assert found.type == "podwire-ipam"


def test_a_type_is_missing_when_there_is_nothing_to_tell_it() -> None:
    error = refused(ipam={"routes": []})
    assert error.msg.startswith("ipam.type is missing, accepted: an IPAM plugin's name")


def test_the_runtimes_ranges_come_first() -> None:
    ipam = {"type": "host-local", "ranges": [[V6]], **V4}
    found = conf(ipam=ipam, runtimeConfig={"ipRanges": [[{"subnet": "198.51.100.0/24"}]]}).ipam
    assert found is not None
    subnets = [str(ranges[0].subnet) for ranges in found.range_sets]
    assert subnets == ["198.51.100.0/24", "192.0.2.0/24", "2001:db8::/64"]


def test_the_runtimes_ranges_are_enough() -> None:
    found = conf(ipam={"type": "host-local"}, runtimeConfig={"ipRanges": [[V4]]}).ipam
    assert found is not None
    assert len(found.range_sets) == 1


@pytest.mark.parametrize(
    ("ipam", "ranges", "path"),
    [
        ({"ranges": [[V4], [{"subnet": "x"}]]}, [[V6]], "ipam.ranges[1][0].subnet"),
        ({"subnet": "x"}, [[V6]], "ipam.subnet"),
        (V4, [[V6], [{"subnet": "x"}]], "runtimeConfig.ipRanges[1][0].subnet"),
        ({"subnet": "192.0.2.0/24", "ranges": [["x"]]}, [[V6]], "ipam.ranges[0][0]"),
        ({"ranges": 5}, [[V6]], "ipam.ranges"),
        (V4, 5, "runtimeConfig.ipRanges"),
    ],
)
def test_a_bad_range_has_the_users_path(ipam: dict[str, Any], ranges: Any, path: str) -> None:
    error = refused(ipam={"type": "host-local"} | ipam, runtimeConfig={"ipRanges": ranges})
    assert error.msg.startswith(f"{path} is ")


def test_colliding_ranges_are_refused() -> None:
    error = refused(ipam={"ranges": [[V4], [{"subnet": "192.0.2.128/25"}]]})
    assert error.msg.startswith("ipam.ranges is ")


def test_ipv6_needs_1280_bytes() -> None:
    error = refused(mtu=1279, ipam={"ranges": [[V4], [V6]]})
    assert error.msg.startswith("mtu is 1279, accepted: 0 (automatic) or 1280 to 65535: ")
    assert "RFC 8200" in error.msg
    assert conf(mtu=1280, ipam=V6).mtu == 1280
    assert conf(mtu=68, ipam=V4).mtu == 68
    assert conf(mtu=0, ipam=V6).mtu == 0


def test_old_versions_hold_one_address_of_a_family() -> None:
    twice = {"ranges": [[V4], [{"subnet": "198.51.100.0/24"}]]}
    assert "ipam.ranges" in refused(cniVersion="0.2.0", ipam=twice).msg
    assert conf(cniVersion="0.2.0", ipam={"ranges": [[V4], [V6]]}).ipam
    assert conf(cniVersion="0.3.0", ipam=twice).ipam


def test_a_disabled_interface_has_no_addresses() -> None:
    assert refused(disableContainerInterface=True, ipam=V4).msg == (
        "disableContainerInterface is true, accepted: false, or absent, while ipam is given"
    )
    assert conf(disableContainerInterface=True).disable_container_interface


def test_ptp_needs_addresses() -> None:
    assert refused(mode="ptp").msg.startswith("ipam is missing, accepted: an object")
    assert conf(mode="ptp", ipam=V4).mode == "ptp"


def test_bridge_keys_have_no_effect_in_ptp_mode() -> None:
    assert warnings(mode="ptp", ipam=V4, isGateway=True, vlan=1) == (
        "isGateway has no effect in mode ptp",
        "vlan has no effect in mode ptp",
    )


@pytest.mark.parametrize("nothing", [[], None])
def test_an_empty_trunk_is_none(nothing: object) -> None:
    assert conf(vlanTrunk=nothing) == conf()


def test_a_trunk_is_not_supported() -> None:
    with pytest.raises(UnsupportedField) as caught:
        parse_conf(BASE | {"vlanTrunk": [{"id": 5}]})
    assert caught.value.code == 2
    assert caught.value.msg.startswith('vlanTrunk is [{"id": 5}], which is not supported: ')


def test_iptables_is_accepted_with_a_warning() -> None:
    assert warnings(ipMasqBackend="iptables", ipam=V4) == (
        "ipMasqBackend iptables is ignored: podwire always uses nftables",
    )
    assert warnings(ipMasqBackend="nftables", ipam=V4) == ()
    assert warnings(ipMasqBackend=None, ipam=V4) == ()


@pytest.mark.parametrize(
    ("keys", "path", "near"),
    [
        ({"isGatway": 1}, "isGatway", "isGateway"),
        ({"isgateway": 1}, "isgateway", "isGateway"),
        ({"dns": {"serach": []}}, "dns.serach", "search"),
        ({"ipam": {"ranges": [[V4], [V6 | {"gatway": 1}]]}}, "ipam.ranges[1][0].gatway", "gateway"),
        ({"ipam": V4 | {"datadir": "/x"}}, "ipam.datadir", "dataDir"),
    ],
)
def test_an_unknown_key_is_a_warning_with_the_nearest_known(
    keys: dict[str, Any], path: str, near: str
) -> None:
    line = f"{path} is not a key of podwire and is ignored; did you mean {near}?"
    assert warnings(**keys) == (line,)


def test_an_unknown_key_that_is_near_to_nothing() -> None:
    assert warnings(zzz=1) == ("zzz is not a key of podwire and is ignored",)


def test_reserved_keys_are_tolerated() -> None:
    reserved = {
        "cni.dev/valid-attachments": [],
        "cni.dev/anything": 1,
        "capabilities": {"ips": True},
        "args": {"cni": {"labels": []}, "other": 1},
        "prevResult": {"ips": 5},
        "runtimeConfig": {},
    }
    assert parse_conf(BASE | reserved) == parse_conf(BASE)


def test_null_is_absent_for_objects_and_arrays() -> None:
    keys = ("nonMasqueradeCIDRs", "capabilities", "dns", "ipam", "runtimeConfig", "args")
    assert conf(**dict.fromkeys(keys)) == conf()
    inner = {"nameservers": None, "search": None, "options": None}
    assert conf(dns=inner) == conf()


def test_a_declared_capability_that_can_do_nothing_is_a_warning() -> None:
    (line,) = warnings(capabilities={"portMappings": True, "bandwidth": False})
    assert line == "capabilities.portMappings: without ipam no pod can have a host port"
    assert warnings(capabilities={"portMappings": True}, ipam=V4) == ()


def test_keys_of_portmap_that_would_do_nothing_are_a_warning() -> None:
    found = warnings(markMasqBit=5, externalSetMarkChain="KUBE-MARK-MASQ", snat=True)
    assert [line.split()[0] for line in found] == ["markMasqBit", "externalSetMarkChain"]


@pytest.mark.parametrize("key", ["masqAll", "conditionsV4", "conditionsV6"])
def test_keys_of_portmap_that_ask_for_something_else_are_refused(key: str) -> None:
    value: object = True if key == "masqAll" else ["-s", "192.0.2.0/24"]
    with pytest.raises(UnsupportedField, match=f"^{key} is .*, which is not supported: "):
        conf(**{key: value})
    for nothing in (None, [], False):
        assert conf(**{key: nothing}) == conf()


def test_all_problems_are_told() -> None:
    error = refused(mtu=5, vlan=-1, vlanTrunk=[1], runtimeConfig={"mac": 5}, ipam={"subnet": 1})
    assert error.msg.startswith("mtu is 5")
    for told in ("5 problems: 1) mtu is 5", "vlan is -1", "ipam.subnet is 1", "runtimeConfig.mac"):
        assert told in error.details
    assert error.details.index("runtimeConfig.mac") < error.details.index("vlanTrunk")


def test_the_list_of_problems_ends() -> None:
    error = refused(nonMasqueradeCIDRs=[0] * 1000)
    assert error.details.startswith("1000 problems: 1) nonMasqueradeCIDRs[0] is 0")
    assert error.details.endswith("; and 980 more")


def test_a_missing_type_or_name_is_told() -> None:
    with pytest.raises(InvalidNetworkConfig) as caught:
        parse_conf({"cniVersion": "1.1.0"})
    assert caught.value.msg.startswith("name is missing, accepted: 1 to 255")
    assert "type is missing, accepted: a plugin's file name" in caught.value.details


def test_clean_up_forgives_everything_but_the_name() -> None:
    document = BASE | {
        "mtu": "big",
        "vlanTrunk": [1],
        "type": "../x",
        "bridge": "br0",
        "ipam": {"type": "host-local", "subnet": "nonsense", "dataDir": "/run/leases/"},
        "runtimeConfig": {"portMappings": [{"hostPort": 80}], "mac": 5},
    }
    found, lines = parse_conf(document, lenient=True)
    assert found.ipam == IpamConf(type="host-local", data_dir="/run/leases")
    assert (found.type, found.bridge, found.mtu) == ("podwire", "br0", 0)
    assert found.runtime == RuntimeConf()
    assert [word for word in ("mtu", "vlanTrunk", "type", "subnet", "portMappings", "mac")
            if not any(word in line for line in lines)] == []  # fmt: skip
    with pytest.raises(InvalidNetworkConfig, match="name is"):
        parse_conf(document | {"name": "a/b"}, lenient=True)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"type": "dhcp", "dataDir": 5}, IpamConf(type="dhcp")),
        ({"type": "a/b"}, None),
        ({"type": 5, **V4}, IpamConf(type="podwire-ipam")),
        ({"type": "host-local", "dataDir": "../x"}, IpamConf(type="host-local")),
        ({"type": "host-local"}, IpamConf(type="host-local")),
        ({"routes": 5}, IpamConf(type="podwire-ipam")),
        ("text", None),
        ([], None),
    ],
)
def test_clean_up_keeps_what_says_where_leases_are(section: Any, expected: Any) -> None:
    found, _ = parse_conf(BASE | {"ipam": section, "mtu": "x"}, lenient=True)
    assert found.ipam == expected


def test_a_good_config_is_the_same_for_clean_up() -> None:
    document = BASE | {"ipam": V4, "mtu": 1400, "runtimeConfig": {"ips": ["192.0.2.9"]}}
    assert parse_conf(document, lenient=True) == parse_conf(document)


def test_a_gateway_is_kept() -> None:
    found = conf(ipam=V4 | {"gateway": "192.0.2.254"}).ipam
    assert found is not None
    assert found.range_sets[0][0].gateway == ip_address("192.0.2.254")
    assert ip_interface("192.0.2.254/24").ip == found.range_sets[0][0].gateway
