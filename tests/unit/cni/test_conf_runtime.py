"""What one pod asks for: runtimeConfig over args.cni over CNI_ARGS."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any

import pytest

from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.conf_runtime import apply_args
from cni_plugin.cni.errors import CNIError, InvalidEnvironment, InvalidNetworkConfig
from cni_plugin.cni.problems import Problem, raise_problems
from cni_plugin.cni.values import Dns, NetConf, RuntimeConf

BASE = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire"}
MACS = ("02:00:5e:10:00:01", "02:00:5e:10:00:02", "02:00:5e:10:00:03")


def conf(**keys: Any) -> NetConf:
    return parse_conf(BASE | keys)[0]


def addresses(*texts: str) -> tuple[Any, ...]:
    return tuple(map(ip_interface, texts))


def test_everything_a_runtime_may_ask() -> None:
    asked = {
        "ips": ["192.0.2.9/24", "2001:db8::9"],
        "mac": "02-00-5E-10-00-01",
        "aliases": ["web", "www"],
    }
    assert conf(runtimeConfig=asked).runtime == RuntimeConf(
        addresses("192.0.2.9/24", "2001:db8::9/128"), MACS[0], ("web", "www")
    )


def test_runtime_config_goes_before_args_and_args_before_the_environment() -> None:
    runtime = {"ips": ["192.0.2.1"], "mac": MACS[0]}
    cni = {"ips": ["192.0.2.2"], "mac": MACS[1]}
    environment = {"IP": "192.0.2.3", "MAC": MACS[2]}
    full = conf(runtimeConfig=runtime, args={"cni": cni})
    assert apply_args(full, environment).runtime == RuntimeConf(addresses("192.0.2.1"), MACS[0])
    without = conf(args={"cni": cni})
    assert apply_args(without, environment).runtime == RuntimeConf(addresses("192.0.2.2"), MACS[1])
    bare = apply_args(conf(), environment)
    assert bare.runtime == RuntimeConf(addresses("192.0.2.3"), MACS[2])


def test_precedence_is_by_key() -> None:
    mixed = conf(runtimeConfig={"mac": MACS[0]}, args={"cni": {"ips": ["192.0.2.2"]}})
    assert mixed.runtime == RuntimeConf(addresses("192.0.2.2"), MACS[0])


def test_cni_args_may_list_addresses() -> None:
    found = apply_args(conf(), {"IP": "192.0.2.3/24, 2001:db8::3"})
    assert found.runtime.ips == addresses("192.0.2.3/24", "2001:db8::3/128")


@pytest.mark.parametrize(
    ("key", "value"),
    [("IP", "x"), ("IP", "192.0.2.1,"), ("IP", "192.0.2.1/99"), ("MAC", "x"), ("MAC", "ff" * 6)],
)
def test_a_bad_argument_is_named(key: str, value: str) -> None:
    with pytest.raises(InvalidEnvironment) as caught:
        apply_args(conf(), {key: value})
    assert caught.value.msg.startswith(f'CNI_ARGS holds {key}="')
    assert "accepted: " in caught.value.msg
    warnings: list[str] = []
    assert apply_args(conf(), {key: value}, lenient=True, warn=warnings.append) == conf()
    assert key in warnings[0]


def test_the_runtimes_dns_replaces_what_it_gives() -> None:
    base = {"nameservers": ["192.0.2.53"], "domain": "d", "search": ["s"], "options": ["o"]}
    found = conf(dns=base, runtimeConfig={"dns": {"servers": ["2001:db8::53"], "searches": None}})
    assert found.dns == Dns(("2001:db8::53",), "d", ("s",), ("o",))
    found = conf(dns=base, runtimeConfig={"dns": {"searches": ["x"], "options": ["y"]}})
    assert found.dns == Dns(("192.0.2.53",), "d", ("x",), ("y",))


@pytest.mark.parametrize(
    ("key", "nothing"),
    [
        *(("portMappings", nothing) for nothing in (None, [])),
        *(("bandwidth", some) for some in (None, [], {}, {"ingressRate": 0, "egressBurst": 0})),
    ],
)
def test_a_capability_that_asks_for_nothing_is_fine(key: str, nothing: object) -> None:
    assert conf(runtimeConfig={key: nothing}) == conf()


def test_other_capabilities_are_a_warning() -> None:
    asked = {"deviceID": "0000:00:1f.6", "cgroupPath": "/x", "unheard": 1}
    _, warnings = parse_conf(BASE | {"runtimeConfig": asked})
    assert [line.split()[0] for line in warnings] == [f"runtimeConfig.{key}" for key in asked]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"runtimeConfig": 5}, "runtimeConfig is 5, accepted: an object"),
        ({"args": []}, "args is [], accepted: an object"),
        ({"args": {"cni": "x"}}, 'args.cni is "x", accepted: an object'),
        ({"runtimeConfig": {"ips": "192.0.2.1"}}, 'runtimeConfig.ips is "192.0.2.1", accepted:'),
        ({"runtimeConfig": {"ips": ["x"]}}, 'runtimeConfig.ips[0] is "x", accepted: an address'),
        ({"args": {"cni": {"ips": [5]}}}, "args.cni.ips[0] is 5, accepted: an address"),
        ({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}, "runtimeConfig.mac is "),
        ({"args": {"cni": {"mac": 5}}}, "args.cni.mac is 5, accepted: a unicast MAC"),
        ({"runtimeConfig": {"aliases": ["a b"]}}, 'runtimeConfig.aliases[0] is "a b", accepted:'),
        ({"runtimeConfig": {"dns": []}}, "runtimeConfig.dns is [], accepted: an object"),
        ({"runtimeConfig": {"dns": {"servers": ["x"]}}}, 'runtimeConfig.dns.servers[0] is "x"'),
        (
            {"runtimeConfig": {"dns": {"searches": ["a\nnameserver 192.0.2.66"]}}},
            'runtimeConfig.dns.searches[0] is "a\\nnameserver 192.0.2.66", accepted: 1 to 255',
        ),
    ],
)
def test_a_bad_request_names_path_and_value(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(CNIError) as caught:
        conf(**keys)
    assert caught.value.code == 7
    assert caught.value.msg.startswith(told)


@pytest.mark.parametrize(("path", "remedy"), [("runtimeConfig.mac", "pod"), ("mtu", "validate")])
def test_the_remedy_is_where_the_value_comes_from(path: str, remedy: str) -> None:
    with pytest.raises(InvalidNetworkConfig) as caught:
        raise_problems([Problem(path, 1, "another")])
    assert remedy in caught.value.details
