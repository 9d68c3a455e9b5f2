"""The SPEC's table of variables by command, and CNI_ARGS."""

from __future__ import annotations

import itertools

import pytest

from cni_plugin.cni.env import Environment, parse_args, parse_environment
from cni_plugin.cni.errors import InvalidEnvironment
from cni_plugin.cni.values import Attachment, Pod

FULL = {
    "CNI_CONTAINERID": "0a1b2c",
    "CNI_NETNS": "/var/run/netns/cni-1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}


def parse(command: str, **changes: str) -> tuple[Environment, list[str]]:
    warnings: list[str] = []
    environ = {"CNI_COMMAND": command, **FULL, **changes}
    return parse_environment(environ, warnings.append), warnings


def test_add_reads_everything() -> None:
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1;X=y"
    environment, warnings = parse("ADD", CNI_ARGS=args)
    assert environment.attachment == Attachment("0a1b2c", "eth0")
    assert environment.netns == "/var/run/netns/cni-1"
    assert environment.path == ("/opt/cni/bin", "/usr/lib/cni")
    assert environment.pod == Pod("shop", "web", "u-1")
    assert warnings == []


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((command, name) for command in ("ADD", "CHECK") for name in FULL if name != "CNI_PATH"),
        *(("DEL", name) for name in ("CNI_CONTAINERID", "CNI_IFNAME")),
        ("GC", "CNI_PATH"),
    ],
)
@pytest.mark.parametrize("absent", [True, False], ids=["absent", "empty"])
def test_a_missing_variable_is_named(command: str, name: str, absent: bool) -> None:
    environ = {"CNI_COMMAND": command, **FULL, name: ""}
    if absent:
        del environ[name]
    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment(environ, pytest.fail)
    assert caught.value.code == 4
    assert caught.value.msg == f"{command} needs {name}: not set or empty"


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(InvalidEnvironment) as caught:
        parse_environment({"CNI_COMMAND": "ADD"}, pytest.fail)
    assert caught.value.msg == (
        "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME: not set or empty"
    )


@pytest.mark.parametrize("command", ["GC", "STATUS", "VERSION"])
@pytest.mark.parametrize("filler", ["", "dummy", "/"])
def test_commands_without_an_attachment_ignore_its_variables(command: str, filler: str) -> None:
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS")
    environment, warnings = parse(command, **dict.fromkeys(names, filler))
    assert environment.attachment == Attachment("", "")
    assert environment.netns == ""
    assert warnings == []


@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "STATUS"])
def test_only_gc_needs_the_path(command: str) -> None:
    environment, _ = parse(command, CNI_PATH="")
    assert environment.path == ()


def test_del_needs_no_netns() -> None:
    environment, warnings = parse("DEL", CNI_NETNS="")
    assert environment.netns == ""
    assert warnings == []


def test_del_forgives_a_bad_netns_and_bad_args_with_a_warning_each() -> None:
    environment, warnings = parse("DEL", CNI_NETNS="relative", CNI_ARGS="nonsense")
    assert (environment.netns, environment.args) == ("", {})
    assert len(warnings) == 2
    assert "relative" in warnings[0]
    assert "nonsense" in warnings[1]


def test_several_bad_variables_are_all_told() -> None:
    with pytest.raises(InvalidEnvironment) as caught:
        parse("ADD", CNI_CONTAINERID="a/b", CNI_IFNAME="e%d", CNI_NETNS="x")
    assert "CNI_CONTAINERID" in caught.value.msg
    assert "CNI_IFNAME" in caught.value.details
    assert "CNI_NETNS" in caught.value.details


def test_args_come_in_any_order() -> None:
    pairs = ["IgnoreUnknown=true", "K8S_POD_NAME=web", "IP=192.0.2.9", "FOO=bar"]
    expected = {"IgnoreUnknown": "true", "K8S_POD_NAME": "web", "IP": "192.0.2.9"}
    for order in itertools.permutations(pairs):
        assert parse_args(";".join(order)) == expected


@pytest.mark.parametrize("truth", ["1", "true", "TRUE", "True"])
def test_ignore_unknown_is_true(truth: str) -> None:
    assert parse_args(f"FOO=bar;IgnoreUnknown={truth}") == {"IgnoreUnknown": truth}


@pytest.mark.parametrize("falsehood", ["0", "false", "False"])
def test_ignore_unknown_is_false(falsehood: str) -> None:
    with pytest.raises(InvalidEnvironment, match="FOO"):
        parse_args(f"FOO=bar;IgnoreUnknown={falsehood}")


@pytest.mark.parametrize("odd", ["yes", "", "2", "t"])
def test_ignore_unknown_of_another_value_is_refused_even_when_unused(odd: str) -> None:
    with pytest.raises(InvalidEnvironment, match="IgnoreUnknown"):
        parse_args(f"IP=192.0.2.1;IgnoreUnknown={odd}")


def test_unknown_keys_are_named() -> None:
    with pytest.raises(InvalidEnvironment) as caught:
        parse_args("FOO=1;IP=192.0.2.1;BAR=2")
    assert "FOO, BAR" in caught.value.msg
    assert "IgnoreUnknown=1" in caught.value.details


@pytest.mark.parametrize("text", ["a", ";", "A=1;", "=1", "A=1=2", "A=1;;B=2"])
def test_what_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(InvalidEnvironment, match="KEY=VALUE"):
        parse_args(f"{text};IgnoreUnknown=1")


def test_keys_are_case_sensitive_and_the_last_of_equal_keys_wins() -> None:
    assert parse_args("ip=x;IP=a;IP=b;IgnoreUnknown=1") == {"IP": "b", "IgnoreUnknown": "1"}
