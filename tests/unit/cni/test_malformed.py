"""A corpus of malformed calls: each ends with error JSON that has version, code, value, remedy.

The table is made from rules, so that a new key is one line; several hundred cases go through
serve() and the real config reader. No verb may run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from cni_plugin.cni.conf_load import read_conf
from cni_plugin.cni.names import shown
from cni_plugin.cni.skel import serve

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/var/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "pods",
    "type": "podwire",
    "ipam": {"type": "podwire-ipam", "subnet": "192.0.2.0/24"},
}
NO_TEXT: list[Any] = [None, True, 5, 1.5, [], {}, ["x"]]
NO_BOOL: list[Any] = [None, 1, 0, 1.0, "true", "", [], {}]
NO_OBJECT: list[Any] = [True, 5, "x", [], [{}]]
NO_ARRAY: list[Any] = [True, 5, "x", {}]
BAD_LINKS = ["", ".", "..", "a/b", "../a", "a:b", "a b", "a\t", "a\n", "a%d", "a\0", "x" * 16]
BAD_LINKS += ["ü" * 8, "a\u2003b", "a\u0085", "all", "default"]
BAD_IDS = ["", ".", "-a", "_a", "a b", "a/b", "../a", "a\n", "a\0", "ä", "a" * 256, "a%"]
BAD_TYPES = ["", ".", "..", "a/b", "../bridge", "/bin/sh", "a b", "a\n", "-x", "a\0", ".x"]
BAD_NETWORKS = ["", "x", "192.0.2.0", "192.0.2.1/24", "192.0.2.0/33", "192.0.2.0/024", "::/129"]
BAD_NETWORKS += ["192.0.2.0/255.255.255.0", "192.0.2.0/-1", "192.0.2.0/24 "]
BAD_ADDRESSES = ["", "x", "192.0.2", "192.0.2.256", "192.0.2.1/24", "fe80::1%eth0", "192.0.2.01"]
BAD_MACS = ["x", "02:00:5e:10:00", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00:5e:10:00:0g"]
BOOLS = [
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "hairpinMode",
    "promiscMode",
    "preserveDefaultVlan",
    "macspoofchk",
    "antiSpoofing",
    "portIsolation",
    "enabledad",
    "disableContainerInterface",
    "stableMac",
]


class Case(NamedTuple):
    """One call and what its error must hold."""

    name: str
    stdin: bytes
    environ: dict[str, str]
    code: int
    told: tuple[str, ...]


def config(path: str, value: Any, **extra: Any) -> Iterator[Case]:
    """A config with one wrong value; path is dotted, a number is an index into a list."""
    document = json.loads(json.dumps(CONFIG | extra))
    *parents, last = path.split(".")
    target = document
    for part in parents:
        target = target.setdefault(part, {})
    target[last] = value
    told = (f"{path} is {shown(value)}", "accepted: ")
    yield Case(f"{path}={value!r:.40}", json.dumps(document).encode(), {}, 7, told)


def entry(path: str, value: Any) -> Iterator[Case]:
    """A config whose list at path holds one wrong entry."""
    for case in config(path, [value]):
        yield case._replace(told=(f"{path}[0] is {shown(value)}", "accepted: "))


def environ(name: str, value: str, *told: str) -> Iterator[Case]:
    yield Case(
        f"{name}={value!r:.40}", json.dumps(CONFIG).encode(), {name: value}, 4, (name, *told)
    )


def stdin(data: bytes, *told: str) -> Iterator[Case]:
    yield Case(f"stdin {data[:30]!r}", data, {}, 6, ("stdin ", *told))


NO_MTU: list[Any] = [-1, 1, 67, 65536, 10**18, 1500.0, "1500", "", None, True, [], {}]
NO_VLAN: list[Any] = [-1, 4095, 5000, 10**18, 1.0, "5", None, True, [], {}]
NO_WORDS: list[Any] = ["", "a b", "a\nb", "ä", "x" * 256, 5, None]
NO_REQUEST: list[Any] = ["", "x", "192.0.2.1/33", "192.0.2.1/24/24", "fe80::1%1", 5, None, {}]
# Dotted paths and the values that must be refused there.
WRONG: dict[str, list[Any]] = {
    **dict.fromkeys(BOOLS, NO_BOOL),
    "capabilities.ips": NO_BOOL,
    "mtu": NO_MTU,
    "vlan": NO_VLAN,
    "bridge": [*BAD_LINKS, *NO_TEXT],
    "name": [*BAD_IDS, *NO_TEXT],
    "type": [*BAD_TYPES, *NO_TEXT],
    "mode": ["", "Bridge", "vxlan", *NO_TEXT],
    "ipMasqBackend": ["", "ipfw", True, 5, [], {}],
    "dns": NO_OBJECT,
    "args": NO_OBJECT,
    "args.cni": NO_OBJECT,
    "capabilities": NO_OBJECT,
    "runtimeConfig": NO_OBJECT,
    "runtimeConfig.dns": NO_OBJECT,
    "nonMasqueradeCIDRs": NO_ARRAY,
    "dns.nameservers": NO_ARRAY,
    "dns.search": NO_ARRAY,
    "dns.options": NO_ARRAY,
    "runtimeConfig.ips": NO_ARRAY,
    "dns.domain": ["a b", "a\n", 5, True, None],
    "runtimeConfig.mac": [*BAD_MACS, 5, True, []],
    "args.cni.mac": [*BAD_MACS, 5, True, []],
}
# Lists, and the entries that must be refused in them.
WRONG_ENTRIES: dict[str, list[Any]] = {
    "nonMasqueradeCIDRs": [*BAD_NETWORKS, *NO_TEXT],
    "dns.nameservers": [*BAD_ADDRESSES, 5, None, []],
    "runtimeConfig.dns.servers": [*BAD_ADDRESSES, 5, None, []],
    "dns.search": NO_WORDS,
    "dns.options": NO_WORDS,
    "runtimeConfig.dns.searches": NO_WORDS,
    "runtimeConfig.ips": NO_REQUEST,
    "args.cni.ips": NO_REQUEST,
}


def config_cases() -> Iterator[Case]:
    for path, values in WRONG.items():
        for value in values:
            yield from config(path, value)
    for path, values in WRONG_ENTRIES.items():
        for value in values:
            yield from entry(path, value)


def ipam_cases() -> Iterator[Case]:
    for value in [True, 5, "x", [], ["x"]]:
        yield from config("ipam", value)
    for value in [*BAD_TYPES[1:], True, 5, ["x"]]:
        yield from config("ipam.type", value)
    for value in BAD_NETWORKS:
        yield from config("ipam.subnet", value)
    for key in ("rangeStart", "rangeEnd", "gateway"):
        for value in [*BAD_ADDRESSES, 5, "198.51.100.1"]:
            yield from config(f"ipam.{key}", value)
    for value in ["relative", "../x", "/a/../b", "a\0", 5]:
        yield from config("ipam.dataDir", value)
    for key in ("ranges", "routes"):
        for value in NO_ARRAY:
            yield from config(f"ipam.{key}", value)


def environment_cases() -> Iterator[Case]:
    for value in ["NONSENSE", "add", "ADD ", "ADD\n", "VERSIO"]:
        yield from environ("CNI_COMMAND", value, shown(value), "expected one of ADD")
    for name in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"):
        yield from environ(name, "", "not set or empty")
    for value in BAD_IDS[1:]:
        yield from environ("CNI_CONTAINERID", value, shown(value), "accepted: 1 to 255")
    for value in BAD_LINKS[1:]:
        yield from environ("CNI_IFNAME", value, shown(value), "accepted: 1 to 15 bytes")
    for value in ["relative", "../x", "/a\0b", "/" + "x" * 4095]:
        yield from environ("CNI_NETNS", value, shown(value), "accepted: the absolute path")
    for value in ["x", "A=1", "A=1;", "=", "IP=1=2", ";", "IgnoreUnknown=maybe"]:
        yield from environ("CNI_ARGS", value)


def stdin_cases() -> Iterator[Case]:
    whole = json.dumps(CONFIG).encode()
    for data in (b"", b" ", b"\n\n"):
        yield from stdin(data, "is empty, expected")
    for end in range(1, len(whole), 4):
        yield from stdin(whole[:end], "is not JSON: ", "(line 1 column ")
    for text in ("null", "true", "1", '"x"', "[]", "[{}]"):
        yield from stdin(text.encode(), "expected a JSON object")
    for data in (b"\xff", b'{"name":"\xc3"}', whole.decode().encode("utf-16")):
        yield from stdin(data, "is not UTF-8: byte 0x")
    yield from stdin(b"\xef\xbb\xbf" + whole, "byte order mark", "expected plain UTF-8")
    yield from stdin(whole[:-1] + b',"name":"x"}', 'the key "name" twice', "column")
    for number in (b"NaN", b"Infinity", b"-Infinity"):
        yield from stdin(b'{"mtu":' + number + b"}", number.decode(), "(line 1 column 8)")
    for number in (b"1e999", b"9" * 20, b"1" * 5000):
        yield from stdin(b'{"mtu":' + number + b"}", "(line 1 column 8)")
    for opening in (b"[", b'{"a":', b'{"a":['):
        yield from stdin(opening * 50_000, "nested deeper than 64 levels")
    yield from stdin(b'{"a":"' + b"x" * (1 << 20) + b'"}', "at most 1048576 are accepted")
    yield from stdin(b'{"name":"\\ud800"}', "half of a surrogate pair", "expected")


CASES = [*config_cases(), *ipam_cases(), *environment_cases(), *stdin_cases()]


def never(_request: object) -> None:
    raise AssertionError("a malformed call reached its verb")


@pytest.mark.parametrize("case", CASES, ids=[f"{i} {case.name}" for i, case in enumerate(CASES)])
def test_refused(case: Case) -> None:
    verbs = dict.fromkeys(("ADD", "CHECK", "DEL", "GC", "STATUS"), never)
    warnings: list[str] = []
    reply = serve(
        ENVIRON | case.environ, case.stdin, read_conf, verbs, about="", warn=warnings.append
    )
    assert reply.status == 1
    assert reply.stderr == b""
    error = json.loads(reply.stdout)
    assert error["cniVersion"] == ("1.1.0" if case.code == 6 else "1.0.0")
    assert error["code"] == case.code
    whole = f"{error['msg']} {error['details']}"
    assert [told for told in case.told if told not in whole] == []


@pytest.mark.parametrize("key", ["vlanTrunk", "conditionsV4"])
def test_what_is_not_supported_has_code_2_with_key_and_value(key: str) -> None:
    value: list[dict[str, int]] = [{"id": 7}]
    verbs = {"ADD": never}
    stdin = json.dumps(CONFIG | {key: value}).encode()
    reply = serve(ENVIRON, stdin, read_conf, verbs, about="", warn=pytest.fail)
    error = json.loads(reply.stdout)
    assert error["code"] == 2
    assert f'{key} is [{{"id": 7}}], which is not supported: ' in error["msg"]
