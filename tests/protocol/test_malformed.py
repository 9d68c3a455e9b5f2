"""Bad input: a non-zero status, an error with the right code, and nothing left."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.protocol.conftest import CONF, Desk, changed

# Codes: SPEC 1.1.0, "Error". 8 is libcni's "invalid netns".
VERSION, FIELD, ENVIRONMENT, IO, DECODE, CONFIG, NETNS = 1, 2, 4, 5, 6, 7, 8

BAD_ENVIRONMENT: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "no container id": ({"CNI_CONTAINERID": None}, ["CNI_CONTAINERID"]),
    "empty container id": ({"CNI_CONTAINERID": ""}, ["CNI_CONTAINERID"]),
    "no netns": ({"CNI_NETNS": None}, ["CNI_NETNS"]),
    "empty netns": ({"CNI_NETNS": ""}, ["CNI_NETNS"]),
    "no ifname": ({"CNI_IFNAME": None}, ["CNI_IFNAME"]),
    "nothing": (
        {"CNI_CONTAINERID": None, "CNI_NETNS": None, "CNI_IFNAME": None},
        ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
    ),
    "an unknown command": ({"CNI_COMMAND": "ADDD"}, ["CNI_COMMAND", "ADDD"]),
    "a command in lower case": ({"CNI_COMMAND": "add"}, ["CNI_COMMAND"]),
    "id with a slash": ({"CNI_CONTAINERID": "../../etc/x"}, ["CNI_CONTAINERID"]),
    "id with a trailing newline": ({"CNI_CONTAINERID": "abc\n"}, ["CNI_CONTAINERID"]),
    "id that begins with a hyphen": ({"CNI_CONTAINERID": "-abc"}, ["CNI_CONTAINERID"]),
    "id with a letter that is not ASCII": ({"CNI_CONTAINERID": "äbc"}, ["CNI_CONTAINERID"]),
    "id longer than a file name": ({"CNI_CONTAINERID": "a" * 300}, ["CNI_CONTAINERID"]),
    "ifname .": ({"CNI_IFNAME": "."}, ["CNI_IFNAME"]),
    "ifname ..": ({"CNI_IFNAME": ".."}, ["CNI_IFNAME"]),
    "ifname with a slash": ({"CNI_IFNAME": "a/b"}, ["CNI_IFNAME"]),
    "ifname with a colon": ({"CNI_IFNAME": "a:b"}, ["CNI_IFNAME"]),
    "ifname with a space": ({"CNI_IFNAME": "a b"}, ["CNI_IFNAME"]),
    "ifname with a no-break space": ({"CNI_IFNAME": "a\u00a0b"}, ["CNI_IFNAME"]),
    "ifname with a newline": ({"CNI_IFNAME": "eth0\n"}, ["CNI_IFNAME"]),
    "ifname of 16 characters": ({"CNI_IFNAME": "a" * 16}, ["CNI_IFNAME"]),
    "ifname that the kernel would expand": ({"CNI_IFNAME": "a%d"}, ["CNI_IFNAME"]),
    "args without a value": ({"CNI_ARGS": "IP"}, ["CNI_ARGS"]),
    "args with a bad address": ({"CNI_ARGS": "IP=10.244.0.999"}, ["10.244.0.999"]),
    "args with a bad MAC": ({"CNI_ARGS": "MAC=02:00"}, ["02:00"]),
}

BAD_STDIN: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n",
    "half": b'{"cniVersion": "1.1.0", "name": ',
    "a list": b"[]",
    "null": b"null",
    "a string": b'"podwire"',
    "a number": b"1",
    "text after the object": b"{} {}",
    "not UTF-8": b'{"cniVersion": "1.1.0", "name": "\xff\xfe"}',
    "NaN": b'{"cniVersion": "1.1.0", "name": "net", "mtu": NaN}',
    "Infinity": b'{"cniVersion": "1.1.0", "name": "net", "mtu": -Infinity}',
    "a key twice": b'{"cniVersion": "1.1.0", "name": "net", "name": "other"}',
    "nested too deeply": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "objects nested too deeply": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "too long": b'{"cniVersion": "1.1.0", "a": "' + b"a" * 20_000_000 + b'"}',
    "a number of a million digits": b'{"mtu": ' + b"9" * 1_000_000 + b"}",
}

BAD_CONFIG: dict[str, tuple[dict[str, Any], int, list[str]]] = {
    "a version from the future": ({"cniVersion": "9.9.9"}, VERSION, ["9.9.9"]),
    "a version that is none": ({"cniVersion": "one"}, VERSION, ["one"]),
    "a version that is a number": ({"cniVersion": 1}, CONFIG, ["cniVersion"]),
    "no name": ({"name": None}, CONFIG, ["name"]),
    "an empty name": ({"name": ""}, CONFIG, ["name"]),
    "a name with a slash": ({"name": "../net"}, CONFIG, ["../net"]),
    "a name with a newline": ({"name": "net\n"}, CONFIG, ["name"]),
    "a name that is a list": ({"name": ["net"]}, CONFIG, ["name"]),
    "an unknown mode": ({"mode": "teleport"}, CONFIG, ["mode", "teleport", "bridge", "ptp"]),
    "a negative mtu": ({"mtu": -1}, CONFIG, ["mtu", "-1"]),
    "an mtu beyond the kernel's": ({"mtu": 10**9}, CONFIG, ["mtu"]),
    "an mtu that is a string": ({"mtu": "big"}, CONFIG, ["mtu", "big"]),
    "a boolean that is a string": ({"isGateway": "yes"}, CONFIG, ["isGateway", "yes"]),
    "a bridge with a slash": ({"bridge": "a/b"}, CONFIG, ["bridge", "a/b"]),
    "a bridge with a long name": ({"bridge": "b" * 16}, CONFIG, ["bridge"]),
    "a bridge that the kernel would expand": ({"bridge": "b%d"}, CONFIG, ["bridge", "b%d"]),
    "a vlan out of range": ({"vlan": 4095}, CONFIG, ["vlan", "4095"]),
    "ipam that is a string": ({"ipam": "host-local"}, CONFIG, ["ipam"]),
    "an ipam type with a path": ({"ipam.type": "../bin/sh"}, CONFIG, ["ipam.type", "../bin/sh"]),
    "an absolute ipam type": ({"ipam.type": "/bin/sh"}, CONFIG, ["ipam.type", "/bin/sh"]),
    "no ranges": ({"ipam.ranges": []}, CONFIG, ["ranges"]),
    "a subnet that is none": (
        {"ipam.ranges": [[{"subnet": "10.244.0.0/33"}]]}, CONFIG, ["subnet", "10.244.0.0/33"]
    ),
    "a subnet without room": (
        {"ipam.ranges": [[{"subnet": "10.244.0.0/32"}]]}, CONFIG, ["10.244.0.0/32"]
    ),
    "a range outside its subnet": (
        {"ipam.ranges": [[{"subnet": "10.244.0.0/24", "rangeStart": "10.9.0.5"}]]},
        CONFIG, ["10.9.0.5"],
    ),
    "a range that ends before it starts": (
        {"ipam.ranges": [[{
            "subnet": "10.244.0.0/24", "rangeStart": "10.244.0.9", "rangeEnd": "10.244.0.5",
        }]]},
        CONFIG, ["10.244.0.9"],
    ),
    "ranges that overlap": (
        {"ipam.ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "10.244.0.0/16"}]]},
        CONFIG, ["10.244.0.0/16"],
    ),
    "a relative dataDir": ({"ipam.dataDir": "var/x"}, CONFIG, ["dataDir", "var/x"]),
    "a dataDir that climbs": ({"ipam.dataDir": "/var/../../x/.."}, CONFIG, ["dataDir"]),
    "a route to nowhere": ({"ipam.routes": [{"dst": "nowhere"}]}, CONFIG, ["dst", "nowhere"]),
    "a prevResult of another shape": (
        {"prevResult": {"cniVersion": "1.1.0", "ips": 1}}, CONFIG, ["prevResult"]
    ),
    "runtimeConfig that is a list": ({"runtimeConfig": []}, CONFIG, ["runtimeConfig"]),
    "an address asked for that is none": (
        {"runtimeConfig": {"ips": ["10.244.0.999"]}}, CONFIG, ["10.244.0.999"]
    ),
    "an address asked for outside the ranges": (
        {"runtimeConfig": {"ips": ["192.0.2.1/24"]}}, CONFIG, ["192.0.2.1"]
    ),
    "a MAC that is a group's": (
        {"runtimeConfig": {"mac": "01:00:5e:00:00:01"}}, CONFIG, ["01:00:5e:00:00:01"]
    ),
    "a host port that is none": (
        {"runtimeConfig": {"portMappings": [{"hostPort": 0, "containerPort": 80}]}},
        CONFIG, ["portMappings[0].hostPort is 0"],
    ),
    "a host port at the node's loopback": (
        {"runtimeConfig": {"portMappings": [
            {"hostPort": 80, "containerPort": 80, "hostIP": "127.0.0.1"}]}},
        FIELD, ["portMappings[0].hostIP", "route_localnet"],
    ),
    "a rate without a burst": (
        {"runtimeConfig": {"bandwidth": {"ingressRate": 1000}}}, CONFIG, ["ingressBurst is 0"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ENVIRONMENT)
def test_bad_environment_is_code_4_and_names_the_variables(desk: Desk, name: str) -> None:
    changes, named = BAD_ENVIRONMENT[name]
    reply = desk.run(desk.env("ADD", **changes), CONF)
    assert reply.code == ENVIRONMENT
    assert [word for word in named if word not in reply.json["msg"]] == []
    assert desk.left() == []


@pytest.mark.parametrize(
    "netns", ["/run/netns/none", "/proc/self/ns/net", "/proc/self/ns/mnt", "/run", "/etc/passwd"]
)
def test_a_netns_that_is_none_of_a_pod_is_refused(desk: Desk, netns: str) -> None:
    reply = desk.run(desk.env("ADD", CNI_NETNS=netns), CONF)
    assert reply.code in {ENVIRONMENT, IO, NETNS}
    assert netns in reply.json["msg"]
    assert desk.left() == []


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("name", BAD_STDIN)
def test_stdin_that_is_no_object_is_code_6(desk: Desk, name: str, verb: str) -> None:
    reply = desk.run(desk.env(verb), BAD_STDIN[name])
    assert reply.code == DECODE
    # Never the input itself in full: the message is for a log.
    assert len(reply.stdout) < 4096
    assert desk.left() == []


@pytest.mark.parametrize("name", BAD_CONFIG)
def test_a_bad_config_is_refused_with_path_and_value(desk: Desk, name: str) -> None:
    changes, code, named = BAD_CONFIG[name]
    conf = changed(CONF, changes)
    reply = desk.run(desk.env("ADD"), conf)
    assert reply.code == code, reply.stdout
    text = reply.json["msg"] + reply.json.get("details", "")
    assert [word for word in named if word not in text] == []
    assert desk.left() == []


@pytest.mark.parametrize("version", ["0.3.1", "1.0.0", "1.1.0"])
def test_an_error_is_in_the_version_of_the_config(desk: Desk, version: str) -> None:
    reply = desk.run(desk.env("ADD"), changed(CONF, {"cniVersion": version, "mtu": -1}))
    assert reply.json["cniVersion"] == version


def test_all_messages_fit_in_an_event(desk: Desk) -> None:
    # A Kubernetes event's message holds 1024 bytes.
    conf = json.dumps(changed(CONF, {"name": "x" * 100_000}))
    reply = desk.run(desk.env("ADD"), conf)
    assert reply.code == CONFIG
    assert len(reply.json["msg"]) < 1024
