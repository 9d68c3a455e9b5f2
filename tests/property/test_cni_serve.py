"""Whatever comes in, serve() answers with one JSON document or nothing, and the status agrees."""

from __future__ import annotations

import json
from ipaddress import ip_interface
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cni_plugin.cni.conf_load import read_conf
from cni_plugin.cni.errors import SUPPORTED_VERSIONS, TryAgainLater
from cni_plugin.cni.skel import serve
from cni_plugin.cni.values import IPConfig, Reply, Request, Result
from ipam.errors import StoreFailed

COMMANDS = ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
GOOD = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/var/run/netns/c1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = [
    "cniVersion",
    "name",
    "type",
    "mode",
    "bridge",
    "isGateway",
    "ipMasq",
    "mtu",
    "vlan",
    "vlanTrunk",
    "dns",
    "ipam",
    "args",
    "capabilities",
    "runtimeConfig",
    "prevResult",
    "hairpinMode",
    "nonMasqueradeCIDRs",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
]
INNER = st.sampled_from(
    [
        "type",
        "subnet",
        "ranges",
        "ips",
        "mac",
        "dns",
        "cni",
        "ipRanges",
        "routes",
        "dataDir",
        "address",
    ]
)
NESTED = JSON | st.dictionaries(INNER, JSON | st.dictionaries(INNER, JSON, max_size=2), max_size=3)
CONFIGS = st.builds(
    lambda head, rest: head | rest,
    st.fixed_dictionaries(
        {"name": st.just("pods"), "type": st.just("podwire")},
        optional={"cniVersion": st.sampled_from(SUPPORTED_VERSIONS)},
    ),
    st.dictionaries(st.sampled_from(KEYS), NESTED, max_size=4),
)
STDIN = (
    st.binary(max_size=200)
    | JSON.map(lambda value: json.dumps(value).encode())
    | CONFIGS.map(lambda value: json.dumps(value).encode())
)
VARIABLES = st.fixed_dictionaries(
    {"CNI_COMMAND": st.sampled_from(COMMANDS) | st.text(max_size=6)},
    optional={name: st.just(value) | st.text(max_size=20) for name, value in GOOD.items()},
)
OUTCOMES = st.sampled_from(
    [
        Result(ips=(IPConfig(ip_interface("192.0.2.5/24")),)),
        None,
        TryAgainLater("locked", "by 1"),
        StoreFailed("disk full"),
        RuntimeError("unforeseen \udcff"),
        RecursionError(),
    ]
)


def call(environ: dict[str, str], stdin: bytes, outcome: Any) -> Reply:
    def verb(_request: Request) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    verbs = dict.fromkeys(COMMANDS[:5], verb)
    return serve(environ, stdin, read_conf, verbs, about="podwire", warn=lambda _line: None)


def judge(environ: dict[str, str], reply: Reply) -> None:
    if reply.status:
        assert reply.status == 1
        error = json.loads(reply.stdout)
        assert error.keys() == {"cniVersion", "code", "msg", "details"}
        assert error["cniVersion"] in SUPPORTED_VERSIONS
        assert type(error["code"]) is int
        assert error["code"] > 0
        assert error["msg"]
        assert "Traceback" not in error["msg"] + error["details"]
        assert b"Traceback" not in reply.stderr or error["code"] == 999
    elif environ["CNI_COMMAND"] in ("ADD", "VERSION"):
        assert json.loads(reply.stdout)["cniVersion"]
    else:
        assert reply.stdout == b""
    assert reply.stdout.count(b"\n") == (1 if reply.stdout else 0)
    reply.stdout.decode()


@given(VARIABLES, STDIN, OUTCOMES)
@example({"CNI_COMMAND": "ADD", **GOOD}, b'{"name":"a","type":"podwire"}', RuntimeError("\udcff"))
def test_one_document_or_nothing(environ: dict[str, str], stdin: bytes, outcome: Any) -> None:
    judge(environ, call(environ, stdin, outcome))


@given(st.sampled_from(COMMANDS[:5]), CONFIGS, OUTCOMES)
def test_one_document_or_nothing_for_nearly_good_calls(
    command: str, config: dict[str, Any], outcome: Any
) -> None:
    environ = {"CNI_COMMAND": command, **GOOD}
    judge(environ, call(environ, json.dumps(config).encode(), outcome))


@given(CONFIGS)
def test_clean_up_always_reaches_its_verb(config: dict[str, Any]) -> None:
    """Only what names the attachment and the network can stop DEL."""
    fixed = config | {"name": "pods", "cniVersion": "1.1.0"}
    try:
        stdin = json.dumps(fixed, allow_nan=False).encode()
        json.dumps(fixed, ensure_ascii=False).encode()
    except ValueError:
        return
    environ = {"CNI_COMMAND": "DEL", **GOOD}
    seen: list[Request] = []
    reply = serve(
        environ, stdin, read_conf, {"DEL": seen.append}, about="", warn=lambda _line: None
    )
    if reply.status:
        assert json.loads(reply.stdout)["code"] == 6  # an integer beyond 19 digits
    else:
        assert [request.conf.name for request in seen] == ["pods"]
