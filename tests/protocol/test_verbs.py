"""Every verb in every version of the SPEC: stdout, exit status, and the shape of the result."""

from __future__ import annotations

from typing import Any

import pytest

from tests.protocol.conftest import CONF, Desk, changed

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
Json = dict[str, Any]


def number(version: str) -> tuple[int, ...]:
    """Versions in their order."""
    return tuple(map(int, version.split(".")))


def add(desk: Desk, conf: Json) -> Json:
    """ADD, which must succeed."""
    result: Json = desk.run(desk.env("ADD"), conf).ok().json
    return result


def delete(desk: Desk, conf: Json) -> None:
    """DEL, which must say nothing."""
    assert desk.run(desk.env("DEL"), conf).ok().stdout == b""


def expected(version: str, result: Json, desk: Desk) -> Json:
    """The whole result of CONF in this version, with the names and MACs that are ours to choose."""
    if number(version) < (0, 3, 0):
        return {
            "cniVersion": version,
            "ip4": {
                "ip": result["ip4"]["ip"],
                "gateway": "10.244.0.1",
                "routes": [{"dst": "0.0.0.0/0"}],
            },
            "dns": {},
        }
    pod_link = desk.pod.link("eth0")
    bridge = desk.node.link("cni0")
    assert pod_link is not None
    assert bridge is not None
    (host,) = [x for x in desk.node.ip("link") if x.get("master") == "cni0"]
    links: list[Json] = [
        {"name": "cni0", "mac": bridge["address"]},
        {"name": host["ifname"], "mac": host["address"]},
        {"name": "eth0", "mac": pod_link["address"], "sandbox": desk.pod.netns},
    ]
    if number(version) >= (1, 1, 0):
        for link, seen in zip(links, (bridge, host, pod_link), strict=True):
            link["mtu"] = seen["mtu"]
    address = {
        "address": desk.pod.addresses("eth0")[0],
        "gateway": "10.244.0.1",
        "interface": 2,
    }
    if number(version) < (1, 0, 0):
        address["version"] = "4"
    return {
        "cniVersion": version,
        "interfaces": links,
        "ips": [address],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_add_answers_in_the_version_of_the_config(desk: Desk, version: str) -> None:
    conf = changed(CONF, {"cniVersion": version})
    result = add(desk, conf)
    wanted = expected(version, result, desk)
    delete(desk, conf)
    # dns may be left out or empty.
    assert {"dns": {}, **result} == wanted


def test_add_without_a_version_is_0_1_0(desk: Desk) -> None:
    conf = changed(CONF, {"cniVersion": None})
    result = add(desk, conf)
    delete(desk, conf)
    assert result["cniVersion"] == "0.1.0"
    assert "ip4" in result


@pytest.mark.parametrize("version", VERSIONS)
def test_check_is_silent_and_refused_before_0_4_0(desk: Desk, version: str) -> None:
    conf = changed(CONF, {"cniVersion": version})
    result = add(desk, conf)
    reply = desk.run(desk.env("CHECK"), {**conf, "prevResult": result})
    delete(desk, conf)
    if number(version) < (0, 4, 0):
        assert reply.code == 1
    else:
        assert (reply.returncode, reply.stdout) == (0, b"")


@pytest.mark.parametrize("verb", ["STATUS", "GC"])
@pytest.mark.parametrize("version", VERSIONS)
def test_status_and_gc_are_silent_and_refused_before_1_1_0(
    desk: Desk, version: str, verb: str
) -> None:
    # As libcni calls them: variables set but empty.
    env = desk.env(verb, CNI_CONTAINERID="", CNI_NETNS="", CNI_IFNAME="")
    conf = changed(CONF, {"cniVersion": version})
    reply = desk.run(env, {**conf, "cni.dev/valid-attachments": []})
    if number(version) < (1, 1, 0):
        assert reply.code == 1
    else:
        assert (reply.returncode, reply.stdout) == (0, b"")


@pytest.mark.parametrize("given", [*VERSIONS, "9.9.9"])
def test_version_echoes_what_it_was_asked_in(desk: Desk, given: str) -> None:
    env = desk.env("VERSION", CNI_CONTAINERID="dummy", CNI_NETNS="dummy", CNI_IFNAME="dummy")
    reply = desk.run(env, {"cniVersion": given}).ok()
    assert reply.json == {"cniVersion": given, "supportedVersions": list(VERSIONS)}


def test_version_needs_no_config(desk: Desk) -> None:
    reply = desk.run(desk.env("VERSION"), b"").ok()
    assert reply.json == {"cniVersion": "1.1.0", "supportedVersions": list(VERSIONS)}


def test_stdout_is_one_line_of_json_and_stderr_is_not_needed(desk: Desk) -> None:
    reply = desk.run(desk.env("ADD"), CONF).ok()
    delete(desk, CONF)
    assert reply.stdout.strip().startswith(b"{")
    assert reply.stdout.strip().endswith(b"}")


def test_add_of_an_interface_that_exists_is_refused_and_leaves_it(desk: Desk) -> None:
    desk.pod.configure("link add eth0 type bridge")
    try:
        reply = desk.run(desk.env("ADD"), CONF)
        assert reply.code is not None
        link = desk.pod.link("eth0")
        assert link is not None
        assert link["linkinfo"]["info_kind"] == "bridge"
    finally:
        desk.pod.configure("link del eth0")
    delete(desk, CONF)


@pytest.mark.parametrize("netns", ["as given", "", "/run/netns/gone"])
@pytest.mark.parametrize("previous", [True, False])
def test_del_of_what_is_there_gone_or_never_was(desk: Desk, netns: str, previous: bool) -> None:
    env = desk.env("DEL") if netns == "as given" else desk.env("DEL", CNI_NETNS=netns)
    result = add(desk, CONF)
    conf = {**CONF, "prevResult": result} if previous else CONF
    for _ in range(2):
        reply = desk.run(env, conf)
        assert (reply.returncode, reply.stdout) == (0, b"")
    assert desk.pod.links() == set()
    assert [x for x in desk.left() if "/10.244.0." in x or "veth" in x] == []


def test_del_without_a_netns_variable(desk: Desk) -> None:
    add(desk, CONF)
    reply = desk.run(desk.env("DEL", CNI_NETNS=None), CONF)
    assert (reply.returncode, reply.stdout) == (0, b"")
    assert [x for x in desk.left() if "/10.244.0." in x or "veth" in x] == []


def test_gc_without_a_list_deletes_nothing_and_with_an_empty_one_all(desk: Desk) -> None:
    add(desk, CONF)
    held = [x for x in desk.left() if "/10.244.0." in x]
    assert desk.run(desk.env("GC"), CONF).ok().stdout == b""
    kept = [x for x in desk.left() if "/10.244.0." in x]
    empty = {**CONF, "cni.dev/valid-attachments": []}
    assert desk.run(desk.env("GC"), empty).ok().stdout == b""
    left = [x for x in desk.left() if "/10.244.0." in x or "veth" in x]
    delete(desk, CONF)
    assert len(held) == 1
    assert kept == held
    assert left == []


def test_without_a_command_it_says_what_it_is(desk: Desk) -> None:
    reply = desk.node.plugin("podwire", {"CNI_COMMAND": ""}, b"")
    assert reply.returncode == 0
    assert "podwire" in reply.stderr + reply.stdout.decode()


def test_podwire_ipam_answers_without_interfaces(desk: Desk) -> None:
    env = desk.env("ADD")
    result = desk.run(env, CONF, executable="podwire-ipam").ok().json
    reply = desk.run(desk.env("DEL"), CONF, executable="podwire-ipam")
    assert (reply.returncode, reply.stdout) == (0, b"")
    address = result["ips"][0].pop("address")
    assert {"dns": {}, **result} == {
        "cniVersion": "1.1.0",
        "ips": [{"gateway": "10.244.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    }
    assert address.startswith("10.244.0.")


def test_an_unknown_key_is_a_warning_with_the_nearest_known_one(desk: Desk) -> None:
    conf = changed(CONF, {"isGatway": True})
    reply = desk.run(desk.env("ADD"), conf).ok()
    desk.run(desk.env("DEL"), conf).ok()
    assert "isGatway" in reply.stderr
    assert "isGateway" in reply.stderr


def test_a_cleaning_verb_forgives_a_config_that_add_would_refuse(desk: Desk) -> None:
    desk.run(desk.env("ADD"), CONF).ok()
    conf = changed(CONF, {"mtu": -1})
    assert desk.run(desk.env("DEL"), conf).ok().stdout == b""
    assert [x for x in desk.left() if "/10.244.0." in x or "veth" in x] == []
