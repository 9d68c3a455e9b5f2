"""The cache changes nothing but the time; problems and parse_conf agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_cache import dump_conf, fingerprint, load_conf
from cni_plugin.cni.conf_load import read_conf
from cni_plugin.cni.conf_review import problems
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf

BOOLS = st.booleans()
ROUTES = st.fixed_dictionaries(
    {"dst": st.sampled_from(["0.0.0.0/0", "198.51.100.0/24", "::/0"])},
    optional={"table": st.integers(0, 300), "scope": st.integers(0, 256), "mtu": st.just(1400)},
)
RANGES = st.sampled_from(
    [
        [{"subnet": "192.0.2.0/24"}],
        [{"subnet": "2001:db8::/64"}],
        [{"subnet": "198.51.100.0/25", "rangeStart": "198.51.100.9"}, {"subnet": "203.0.113.0/24"}],
        [{"subnet": "192.0.2.128/25", "gateway": "192.0.2.254", "odd": 1}],
        [],
        5,
    ]
)
IPAM = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["host-local", "podwire-ipam", "dhcp", "", "a/b"]),
        "subnet": st.sampled_from(["10.244.1.0/24", "2001:db8:1::/64", "x"]),
        "ranges": st.lists(RANGES, max_size=3),
        "routes": st.lists(ROUTES, max_size=2),
        "dataDir": st.sampled_from(["/run/leases", "relative", "/a/../b"]),
    },
)
RUNTIME = st.fixed_dictionaries(
    {},
    optional={
        "ips": st.lists(st.sampled_from(["192.0.2.9", "2001:db8::9/64", "x"]), max_size=2),
        "mac": st.sampled_from(["02:00:5e:10:00:01", "x"]),
        "ipRanges": st.lists(RANGES, max_size=2),
        "portMappings": st.sampled_from([[], [{"hostPort": 80}]]),
        "dns": st.just({"servers": ["192.0.2.53"]}),
        "deviceID": st.just("0"),
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "cniVersion": st.sampled_from(["0.2.0", "0.4.0", "1.1.0"]),
        "name": st.just("pods"),
        "type": st.just("podwire"),
    },
    optional={
        "mode": st.sampled_from(["bridge", "ptp"]),
        "mtu": st.sampled_from([0, 67, 68, 1279, 1280, 1500, "1500"]),
        "vlan": st.sampled_from([0, 1, 4094, 4095]),
        "hairpinMode": BOOLS,
        "promiscMode": BOOLS,
        "macspoofchk": BOOLS,
        "antiSpoofing": BOOLS,
        "isDefaultGateway": BOOLS,
        "disableContainerInterface": BOOLS,
        "unheard": BOOLS,
        "nonMasqueradeCIDRs": st.lists(st.sampled_from(["10.244.0.0/16", "2001:db8::/32"])),
        "dns": st.sampled_from([{"domain": "example.org"}, {"serach": []}, []]),
        "ipam": IPAM,
        "runtimeConfig": RUNTIME,
        "args": st.just({"cni": {"mac": "02:00:5e:10:00:02"}}),
        "vlanTrunk": st.sampled_from([[], [{"id": 5}]]),
    },
)


def outcome(document: dict[str, Any], store: dict[str, bytes], *, lenient: bool) -> Any:
    warnings: list[str] = []
    try:
        conf = read_conf(
            document,
            warnings.append,
            lenient=lenient,
            read=store.get,
            write=store.__setitem__,
        )
    except CNIError as error:
        return type(error), error.msg, error.details
    return conf, warnings


@given(DOCUMENTS, st.booleans())
def test_the_cache_changes_nothing(document: dict[str, Any], lenient: bool) -> None:
    store: dict[str, bytes] = {}
    first = outcome(document, store, lenient=lenient)
    assert outcome(document, store, lenient=lenient) == first
    assert outcome(document, {}, lenient=lenient) == first


@given(DOCUMENTS)
def test_problems_and_parse_conf_agree(document: dict[str, Any]) -> None:
    found = problems(document)
    if not found:
        assert parse_conf(document)[0].name == "pods"
        return
    with pytest.raises(CNIError) as caught:
        parse_conf(document)
    assert caught.value.code in {problem.code for problem in found}
    told = f"{caught.value.msg} {caught.value.details}"
    assert all(str(problem) in told for problem in found)


@given(DOCUMENTS)
def test_clean_up_can_read_every_config(document: dict[str, Any]) -> None:
    conf, warnings = parse_conf(document, lenient=True)
    assert conf.name == "pods"
    assert len(warnings) >= len(problems(document))


@given(DOCUMENTS, DOCUMENTS)
def test_a_kept_config_serves_its_own_document_only(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    conf = parse_conf(one, lenient=True)[0]
    base = conf._replace(runtime=NetConf("", "", "").runtime)
    data = dump_conf(base, ("w",), fingerprint(one))
    found = load_conf(data, fingerprint(other))
    if fingerprint(one) == fingerprint(other):
        assert found == (base, ("w",))
    else:
        assert found is None
