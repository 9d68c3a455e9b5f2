"""The dispatcher: each command's way from environment and stdin to one reply."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

import pytest

from cni_plugin.cni.errors import SUPPORTED_VERSIONS, NotAvailable, UnsupportedField
from cni_plugin.cni.skel import serve
from cni_plugin.cni.values import Attachment, IPConfig, NetConf, Reply, Request, Result
from ipam.errors import PoolExhausted

ENVIRON = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/var/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "LD_LIBRARY_PATH": "/odd",
}
CONFIG = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire"}
RESULT = Result(ips=(IPConfig(ip_interface("192.0.2.5/24")),))
COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS")


class Plugin:
    """Verbs that note what they were asked and answer what the test wants."""

    def __init__(self, answer: Any = RESULT) -> None:
        self.answer = answer
        self.requests = []
        self.lenient = []
        self.warnings = []

    def load_conf(self, document: Any, warn: Any, *, lenient: bool) -> NetConf:
        self.lenient.append(lenient)
        return NetConf(document["cniVersion"], document["name"], document["type"])

    def verb(self, request: Request) -> Any:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def call(self, command: str = "ADD", config: Any = CONFIG, **environ: str) -> Reply:
        stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
        return serve(
            {**ENVIRON, "CNI_COMMAND": command, **environ},
            stdin,
            self.load_conf,
            dict.fromkeys(COMMANDS, self.verb),
            about="podwire 0",
            warn=self.warnings.append,
        )


def error_of(reply: Reply) -> dict[str, Any]:
    assert reply.status == 1
    document = json.loads(reply.stdout)
    assert document.keys() == {"cniVersion", "code", "msg", "details"}
    return document


def test_add_prints_the_result_in_the_configs_version() -> None:
    reply = Plugin().call(config=CONFIG | {"cniVersion": "0.2.0"})
    assert reply == Reply(0, b'{"cniVersion": "0.2.0", "ip4": {"ip": "192.0.2.5/24"}}\n')


@pytest.mark.parametrize("command", ["CHECK", "DEL", "GC", "STATUS"])
def test_other_commands_print_nothing(command: str) -> None:
    assert Plugin().call(command, CONFIG | {"prevResult": {}}) == Reply(0)


def test_the_request_holds_what_the_runtime_sent() -> None:
    plugin = Plugin()
    prev = {"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.5/24"}]}
    plugin.call(config=CONFIG | {"prevResult": prev}, CNI_ARGS="K8S_POD_NAME=web")
    (request,) = plugin.requests
    assert request.attachment == Attachment("c1", "eth0")
    assert (request.netns, request.path) == ("/var/run/netns/c1", ("/opt/cni/bin",))
    assert request.prev_result == RESULT
    assert request.pod.name == "web"
    assert json.loads(request.stdin)["prevResult"] == prev
    assert request.environ == {k: v for k, v in ENVIRON.items() if k.startswith("CNI_")} | {
        "CNI_ARGS": "K8S_POD_NAME=web"
    }


@pytest.mark.parametrize("command", ["", None])
def test_without_a_command_it_says_what_it_is(command: str) -> None:
    environ = {} if command is None else {"CNI_COMMAND": ""}
    reply = serve(environ, b"", Plugin().load_conf, {}, about="podwire 0", warn=pytest.fail)
    assert (reply.status, reply.stdout) == (0, b"")
    assert reply.stderr.startswith(b"podwire 0\n")
    assert all(version.encode() in reply.stderr for version in SUPPORTED_VERSIONS)


@pytest.mark.parametrize("config", [b"", b" ", {}, {"cniVersion": ""}])
def test_version_needs_neither_config_nor_name(config: Any) -> None:
    reply = Plugin().call("VERSION", config)
    assert json.loads(reply.stdout) == {
        "cniVersion": "1.1.0",
        "supportedVersions": list(SUPPORTED_VERSIONS),
    }


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "1.0.0", "9.9.9"])
def test_version_echoes_the_input(version: str) -> None:
    dummies = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"), "dummy")
    reply = Plugin().call("VERSION", {"cniVersion": version}, **dummies)
    assert json.loads(reply.stdout)["cniVersion"] == version


def test_the_environment_is_judged_before_stdin() -> None:
    error = error_of(Plugin().call(config=b"nonsense", CNI_IFNAME="a/b"))
    assert error["code"] == 4


def test_an_error_carries_the_configs_version_even_when_the_environment_is_bad() -> None:
    error = error_of(Plugin().call("NONSENSE", CONFIG | {"cniVersion": "0.3.1"}))
    assert (error["cniVersion"], error["code"]) == ("0.3.1", 4)
    assert '"NONSENSE"' in error["msg"]


@pytest.mark.parametrize("config", [b"", b"{", CONFIG | {"cniVersion": "3"}])
def test_an_error_without_a_usable_version_has_the_newest(config: Any) -> None:
    assert error_of(Plugin().call(config=config))["cniVersion"] == "1.1.0"


@pytest.mark.parametrize("name", [None, 1, "", "a b", "a\n", "../x", "ü", "x" * 256])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_network_name_is_refused_by_every_command(command: str, name: str) -> None:
    plugin = Plugin()
    error = error_of(plugin.call(command, CONFIG | {"name": name, "prevResult": {}}))
    assert error["code"] == 7
    assert error["msg"].startswith("name is ")
    assert plugin.requests == []


def test_old_configs_have_no_newer_commands() -> None:
    error = error_of(Plugin().call("GC", CONFIG | {"cniVersion": "1.0.0"}))
    assert (error["code"], error["cniVersion"]) == (1, "1.0.0")


def test_check_needs_prev_result() -> None:
    error = error_of(Plugin().call("CHECK"))
    assert error["code"] == 7
    assert "prevResult" in error["msg"]


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_broken_prev_result_stops_add_and_check(command: str) -> None:
    error = error_of(Plugin().call(command, CONFIG | {"prevResult": {"ips": 3}}))
    assert (error["code"], "prevResult.ips is 3" in error["msg"]) == (7, True)


def test_a_broken_prev_result_does_not_stop_del() -> None:
    plugin = Plugin()
    assert plugin.call("DEL", CONFIG | {"prevResult": {"ips": 3}}) == Reply(0)
    assert plugin.requests[0].prev_result is None
    assert "prevResult.ips is 3" in plugin.warnings[0]


@pytest.mark.parametrize(
    ("command", "lenient"),
    [("ADD", False), ("CHECK", False), ("STATUS", False), ("DEL", True), ("GC", True)],
)
def test_only_clean_up_reads_the_config_leniently(command: str, lenient: bool) -> None:
    plugin = Plugin()
    plugin.call(command, CONFIG | {"prevResult": {}})
    assert plugin.lenient == [lenient]


ENTRY = {"containerID": "c1", "ifname": "eth0"}
OTHER = {"containerID": "c2", "ifname": "eth0"}
VALID, OLD = "cni.dev/valid-attachments", "cni.dev/attachments"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({VALID: None}, None),
        ({VALID: []}, ()),
        ({VALID: [ENTRY]}, (Attachment("c1", "eth0"),)),
        ({OLD: [ENTRY]}, (Attachment("c1", "eth0"),)),
        ({VALID: [ENTRY], OLD: [ENTRY]}, (Attachment("c1", "eth0"),)),
        ({VALID: [ENTRY], OLD: [OTHER]}, (Attachment("c1", "eth0"), Attachment("c2", "eth0"))),
        ({VALID: [], OLD: None}, ()),
    ],
    ids=["absent", "null", "empty", "new", "old", "both", "joined", "empty and null"],
)
def test_valid_attachments(keys: dict[str, Any], expected: Any) -> None:
    plugin = Plugin()
    assert plugin.call("GC", CONFIG | keys) == Reply(0)
    assert plugin.requests[0].valid_attachments == expected


@pytest.mark.parametrize("key", [VALID, OLD])
@pytest.mark.parametrize(
    "value",
    [
        3,
        {},
        "c1",
        [1],
        [{}],
        [{"containerID": "c1"}],
        [{"containerID": "", "ifname": "eth0"}],
        [{"containerID": 1, "ifname": "eth0"}],
        [None],
        [["c1", "eth0"]],
        False,
    ],
)
def test_a_broken_list_of_attachments_frees_nothing(key: str, value: Any) -> None:
    plugin = Plugin()
    error = error_of(plugin.call("GC", CONFIG | {key: value}))
    assert error["code"] == 7
    assert error["msg"].startswith(key)
    assert plugin.requests == []


@pytest.mark.parametrize("key", [VALID, OLD])
@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"containerID": "../a"}, '[1].containerID is "../a", accepted: 1 to 255'),
        ({"containerID": "a" * 256}, "[1].containerID is"),
        ({"containerID": "a\n"}, '[1].containerID is "a\\n"'),
        ({"ifname": "a/b"}, '[1].ifname is "a/b", accepted: 1 to 15 bytes'),
        ({"ifname": "eth0%d"}, '[1].ifname is "eth0%d"'),
        ({"ifname": ""}, '[1].ifname is ""'),
    ],
    ids=["path", "too long", "newline", "slash", "percent", "empty"],
)
def test_an_attachment_that_add_would_refuse_frees_nothing(
    key: str, wrong: dict[str, str], where: str
) -> None:
    plugin = Plugin()
    error = error_of(plugin.call("GC", CONFIG | {key: [ENTRY, OTHER | wrong]}))
    assert error["code"] == 7
    assert error["msg"].startswith(key + where)
    assert plugin.requests == []


def test_known_errors_keep_code_message_and_details() -> None:
    error = error_of(Plugin(NotAvailable("pool full", "254 of 254")).call("STATUS"))
    assert error == {
        "cniVersion": "1.1.0",
        "code": 50,
        "msg": "pool full",
        "details": "254 of 254",
    }
    assert error_of(Plugin(PoolExhausted("full")).call())["code"] == 100
    assert error_of(Plugin(UnsupportedField("vlanTrunk is []")).call())["code"] == 2


def test_unknown_errors_are_999_with_the_traceback_on_stderr_only() -> None:
    reply = Plugin(KeyError("lost")).call()
    error = error_of(reply)
    assert error["code"] == 999
    assert error["details"] == "KeyError: 'lost'"
    assert b"Traceback" not in reply.stdout
    assert b"Traceback" in reply.stderr


def test_add_without_a_result_is_a_defect() -> None:
    assert error_of(Plugin(None).call())["code"] == 999


def test_a_command_without_a_verb_is_refused() -> None:
    reply = serve(
        {**ENVIRON, "CNI_COMMAND": "STATUS"},
        json.dumps(CONFIG).encode(),
        Plugin().load_conf,
        {"ADD": Plugin().verb},
        about="",
        warn=pytest.fail,
    )
    assert error_of(reply)["code"] == 4


def test_bytes_that_are_no_text_do_not_break_the_reply() -> None:
    error = error_of(Plugin().call(CNI_IFNAME="eth\udcff"))
    assert error["code"] == 4
    assert "eth\\udcff" in error["msg"]
