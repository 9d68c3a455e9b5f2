"""Capabilities whose keys are spelled as a Go runtime spells them."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugin.cni.conf import parse_conf
from cni_plugin.cni.go_keys import as_documented
from cni_plugin.cni.values import NetConf

BASE = {"cniVersion": "1.1.0", "name": "pods", "type": "podwire"}


def conf(**runtime: Any) -> NetConf:
    return parse_conf(BASE | {"runtimeConfig": runtime})[0]


def test_bandwidth_as_containerd_sends_it() -> None:
    """Of the annotations 8M and 8M, by containerd 1.6.20."""
    sent = {"IngressRate": 8000000, "IngressBurst": 4294967295}
    sent |= {"EgressRate": 8000000, "EgressBurst": 4294967295}
    documented = {key[0].lower() + key[1:]: value for key, value in sent.items()}
    assert conf(bandwidth=sent).runtime.bandwidth.limits
    assert conf(bandwidth=sent) == conf(bandwidth=documented)


def test_dns_as_containerd_sends_it() -> None:
    sent = {"Servers": ["192.0.2.53"], "Searches": ["example.org"], "Options": ["ndots:5"]}
    found = conf(dns=sent).dns
    assert (found.nameservers, found.search, found.options) == (
        ("192.0.2.53",), ("example.org",), ("ndots:5",),
    )  # fmt: skip


def test_the_objects_of_a_list_too() -> None:
    sent = [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]
    wanted = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]
    assert as_documented({"portMappings": sent}) == {"portMappings": wanted}


def test_what_is_spelled_as_documented_goes_first() -> None:
    for given in ({"ingressRate": 1, "INGRESSRATE": 2}, {"INGRESSRATE": 2, "ingressRate": 1}):
        assert as_documented({"bandwidth": given}) == {"bandwidth": {"ingressRate": 1}}


@pytest.mark.parametrize("runtime", [{}, {"ips": ["192.0.2.9"]}, {"Bandwidth": {"IngressRate": 1}}])
def test_nothing_else_is_touched(runtime: dict[str, Any]) -> None:
    assert as_documented(runtime) is runtime


@pytest.mark.parametrize("value", [None, 3, "text", [], {}, [None], {"Unknown": {"a": 1}}])
def test_what_is_no_such_object_stays_as_it_is(value: object) -> None:
    assert as_documented({"bandwidth": value}) == {"bandwidth": value}
