"""podwire-ipam in-process: environment and stdin in, one reply out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipam.plugin import parse_resolv_conf, run
from tests.unit.ipam.kit import NETWORK, reservations


class Plugin:
    """Calls with a config over the test's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines = []
        self.ipam = {
            "type": "podwire-ipam",
            "ranges": [[{"subnet": "10.244.1.0/29"}], [{"subnet": "2001:db8::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(folder),
        }

    def call(
        self,
        command: str,
        container: str = "c1",
        args: Any = "",
        version: str = "1.1.0",
        **extra: Any,
    ) -> Any:
        document = {"cniVersion": version, "name": NETWORK, "type": "bridge", "ipam": self.ipam}
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": "/proc/1/ns/net",
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": args,
            "CNI_PATH": "/opt/cni/bin",
        }
        reply = run(environ, json.dumps(document | extra).encode(), self.lines.append)
        return reply.status, json.loads(reply.stdout) if reply.stdout else None

    def code(self, *args: Any, **keywords: Any) -> Any:
        status, answer = self.call(*args, **keywords)
        assert (status, answer["cniVersion"]) == (1, keywords.get("version", "1.1.0"))
        return answer["code"]


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


def test_add_answers_addresses_routes_and_no_interfaces(plugin: Plugin) -> None:
    status, answer = plugin.call("ADD")
    assert status == 0
    assert answer["ips"] == [
        {"address": "10.244.1.2/29", "gateway": "10.244.1.1"},
        {"address": "2001:db8::2/64", "gateway": "2001:db8::1"},
    ]
    assert answer["routes"] == [{"dst": "0.0.0.0/0"}]
    assert "interfaces" not in answer


def test_add_in_the_oldest_format(plugin: Plugin) -> None:
    _status, answer = plugin.call("ADD", version="0.2.0")
    assert (answer["ip4"]["ip"], answer["ip6"]["ip"]) == ("10.244.1.2/29", "2001:db8::2/64")


def test_two_addresses_of_a_family_need_a_version_that_can_say_so(
    plugin: Plugin, tmp_path: Path
) -> None:
    plugin.ipam["ranges"].append([{"subnet": "10.244.2.0/24"}])
    assert plugin.code("ADD", version="0.2.0") == 7
    assert not (tmp_path / NETWORK).exists()


@pytest.mark.parametrize(
    "asked",
    [
        {"args": "IP=10.244.1.5"},
        {"runtimeConfig": {"ips": ["10.244.1.5/29"]}},
    ],
)
def test_requested_addresses(plugin: Plugin, asked: Any) -> None:
    assert plugin.call("ADD", **asked)[1]["ips"][0]["address"] == "10.244.1.5/29"


def test_ranges_of_the_runtime_come_first(plugin: Plugin) -> None:
    runtime = {"ipRanges": [[{"subnet": "10.244.9.0/24"}]]}
    _status, answer = plugin.call("ADD", runtimeConfig=runtime)
    assert [ip["address"] for ip in answer["ips"]][:2] == ["10.244.9.2/24", "10.244.1.2/29"]


def test_capabilities_of_the_calling_plugin_are_none_of_ours(plugin: Plugin) -> None:
    runtime = {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]}
    assert plugin.call("ADD", runtimeConfig=runtime)[0] == 0


def test_resolv_conf(plugin: Plugin, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.53\nsearch a.example\n")
    plugin.ipam["resolvConf"] = str(file)
    dns = {"nameservers": ["192.0.2.53"], "search": ["a.example"]}
    assert plugin.call("ADD")[1]["dns"] == dns


def test_an_unreadable_resolv_conf_reserves_nothing(plugin: Plugin, tmp_path: Path) -> None:
    plugin.ipam["resolvConf"] = str(tmp_path / "nowhere")
    assert plugin.code("ADD") == 5
    assert not (tmp_path / NETWORK).exists()


def test_resolv_conf_syntax() -> None:
    text = "; c\n# c\nnameserver 192.0.2.1 x\n nameserver 2001:db8::53\ndomain a\ndomain b\nsearch"
    dns = parse_resolv_conf(text + "\nsearch x y\nsearch z\noptions ndots:5 edns0\nnameserver\n")
    assert dns == (
        ("192.0.2.1", "2001:db8::53"),
        "b",
        ("x", "y", "z"),
        ("ndots:5", "edns0"),
    )


def test_del_twice_and_without_prev_result(plugin: Plugin, tmp_path: Path) -> None:
    plugin.call("ADD")
    assert plugin.call("DEL") == (0, None)
    assert plugin.call("DEL") == (0, None)
    assert reservations(tmp_path) == {}


def test_del_with_a_section_that_is_broken_meanwhile(plugin: Plugin, tmp_path: Path) -> None:
    plugin.call("ADD")
    plugin.ipam["ranges"] = "gone"
    assert plugin.call("DEL") == (0, None)
    assert reservations(tmp_path) == {}
    assert "ipam.ranges" in plugin.lines[0]


def test_check(plugin: Plugin) -> None:
    _status, result = plugin.call("ADD")
    assert plugin.call("CHECK", prevResult=result) == (0, None)
    plugin.ipam["ranges"] = [[{"subnet": "10.245.0.0/24"}]]  # a changed range breaks no old pod
    assert plugin.call("CHECK", prevResult=result) == (0, None)


def test_check_names_what_is_missing(plugin: Plugin, tmp_path: Path) -> None:
    _status, result = plugin.call("ADD")
    (tmp_path / NETWORK / "10.244.1.2").unlink()
    _status, answer = plugin.call("CHECK", prevResult=result)
    assert (answer["code"], answer["msg"]) == (104, "10.244.1.2 not reserved for c1 eth0")
    plugin.call("DEL")
    assert plugin.code("CHECK", prevResult=result) == 104


def test_exhaustion_and_status(plugin: Plugin) -> None:
    assert plugin.call("STATUS") == (0, None)
    for n in range(5):
        assert plugin.call("ADD", f"c{n}")[0] == 0
    assert plugin.code("ADD", "c9") == 100
    assert plugin.code("STATUS") == 50


def test_gc_frees_what_is_not_valid(plugin: Plugin, tmp_path: Path) -> None:
    plugin.call("ADD", "live")
    plugin.call("ADD", "dead")
    valid = [{"containerID": "live", "ifname": "eth0"}]
    assert plugin.call("GC", **{"cni.dev/valid-attachments": valid}) == (0, None)
    assert set(reservations(tmp_path).values()) == {b"live\r\neth0"}


def test_gc_without_a_list_frees_nothing_with_an_empty_one_all(
    plugin: Plugin, tmp_path: Path
) -> None:
    plugin.call("ADD")
    assert plugin.call("GC") == (0, None)
    assert len(reservations(tmp_path)) == 2
    assert plugin.call("GC", **{"cni.dev/valid-attachments": []}) == (0, None)
    assert reservations(tmp_path) == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ranges": None}, 7),
        ({"dataDir": "relative"}, 7),
        ({"ranges": [[{"subnet": "10.244.1.0/29", "gateway": "10.9.0.1"}]]}, 7),
        ({"cooldown": "30"}, 7),
    ],
)
def test_bad_sections(plugin: Plugin, tmp_path: Path, change: Any, code: Any) -> None:
    plugin.ipam.update(change)
    assert plugin.code("ADD") == code
    assert not (tmp_path / NETWORK).exists()


def test_a_missing_section(plugin: Plugin) -> None:
    plugin.ipam = None
    assert plugin.code("ADD") == 7


def test_unknown_keys_are_warned_about(plugin: Plugin) -> None:
    plugin.ipam["rangestart"] = "10.244.1.4"
    assert plugin.call("ADD")[0] == 0
    assert "did you mean rangeStart" in plugin.lines[0]


def executable(tmp_path: Path, command: str = "", stdin: bytes = b"") -> Any:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if command:
        environ["CNI_COMMAND"] = command
    return subprocess.run(
        [sys.executable, "-m", "ipam.plugin"],
        input=stdin,
        env=environ,
        capture_output=True,
        check=False,
        timeout=30,
    )


def test_without_a_command_it_says_what_it_is(tmp_path: Path) -> None:
    done = executable(tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"podwire-ipam: ")
    assert b"1.1.0" in done.stderr


def test_version(tmp_path: Path) -> None:
    done = executable(tmp_path, "VERSION", b'{"cniVersion": "0.4.0"}')
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["cniVersion"]) == (0, "0.4.0")
    assert "1.1.0" in answer["supportedVersions"]


def test_garbage_on_stdin_is_an_error_document(tmp_path: Path) -> None:
    done = executable(tmp_path, "STATUS", b"{")
    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 6)
