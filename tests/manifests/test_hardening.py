"""What the manifests may not ask for, and what they must: docs/security.md says it to people."""

from __future__ import annotations

from typing import Any

import pytest

from tests.manifests.conftest import MANIFESTS, every_container, objects, pod_spec

NAMES = ("podwire.yaml", "uninstall.yaml")
EXECUTABLES = {"/opt/podwire", "/opt/cni/bin"}
Json = dict[str, Any]


def _daemonset(name: str) -> Json:
    return objects((MANIFESTS / name).read_text())["DaemonSet"]


def _writable(spec: Json, container: Json) -> set[str]:
    """Of the node's paths."""
    paths = {one["name"]: one.get("hostPath", {}).get("path", "") for one in spec["volumes"]}
    mounts = container.get("volumeMounts", ())
    return {paths[one["name"]] for one in mounts if not one.get("readOnly")} - {""}


@pytest.mark.parametrize("name", NAMES)
def test_no_container_is_privileged(name: str) -> None:
    spec = pod_spec(_daemonset(name))
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostPID", "hostIPC", "shareProcessNamespace"} & spec.keys()
    for container in every_container(spec):
        context = container["securityContext"]
        assert context["capabilities"]["drop"] == ["ALL"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert not {"privileged", "procMount", "seccompProfile"} & context.keys()
        assert container["resources"].keys() == {"requests", "limits"}
        assert not any("hostPort" in port for port in container.get("ports", ()))


def test_what_the_agent_can_write_is_never_executed() -> None:
    spec = pod_spec(_daemonset("podwire.yaml"))
    install, agent = spec["initContainers"][0], spec["containers"][0]
    assert (install["name"], agent["name"]) == ("install", "agent")
    assert _writable(spec, install) == EXECUTABLES
    assert "add" not in install["securityContext"]["capabilities"]
    assert not _writable(spec, agent) & EXECUTABLES
    assert _writable(spec, agent) == {
        "/etc/cni/net.d", "/run/podwire", "/var/lib/cni", "/var/lib/podwire", "/proc/sys/net",
        "/run/xtables.lock",
    }  # fmt: skip


def test_a_token_comes_to_who_asks_the_api_alone() -> None:
    found = objects((MANIFESTS / "podwire.yaml").read_text())
    spec = pod_spec(found["DaemonSet"])
    assert found["ServiceAccount"]["automountServiceAccountToken"] is False
    assert spec["automountServiceAccountToken"] is False
    mounted = {
        container["name"]: [one["name"] for one in container["volumeMounts"]]
        for container in every_container(spec)
    }
    assert [name for name, volumes in mounted.items() if "api" in volumes] == ["agent"]


def test_the_rights_are_those_that_the_docs_name() -> None:
    rules = objects((MANIFESTS / "podwire.yaml").read_text())["ClusterRole"]["rules"]
    assert rules == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]


def test_the_uninstallation_needs_nothing_that_may_have_gone_before() -> None:
    """Neither podwire's own rights nor its config, nor an image that no node has."""
    found = objects((MANIFESTS / "uninstall.yaml").read_text())
    spec = pod_spec(found["DaemonSet"])
    name = found["ServiceAccount"]["metadata"]["name"]
    assert spec["serviceAccountName"] == name == "podwire-uninstall"
    assert found["ClusterRole"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    binding = found["ClusterRoleBinding"]
    assert binding["roleRef"]["name"] == found["ClusterRole"]["metadata"]["name"]
    assert binding["subjects"][0]["name"] == name
    config = next(one for one in spec["volumes"] if one["name"] == "config")
    assert config["configMap"]["optional"] is True
    assert len({one["image"] for one in every_container(spec)}) == 1
    mounts = {one["name"] for one in spec["containers"][0].get("volumeMounts", ())}
    assert mounts == set(), "who waits has nothing of the node"


def test_one_agent_a_node_and_time_to_end() -> None:
    daemonset = _daemonset("podwire.yaml")
    assert daemonset["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 1}
    from cni_plugin.agent.config import AgentConfig
    from cni_plugin.agent.run import UNDO_LIMIT_S

    limit_s = AgentConfig().stop_limit_s + UNDO_LIMIT_S
    assert pod_spec(daemonset)["terminationGracePeriodSeconds"] > limit_s


def test_the_probes_ask_where_the_agent_answers() -> None:
    from cni_plugin.agent.config import AgentConfig

    agent = pod_spec(_daemonset("podwire.yaml"))["containers"][0]
    places = {
        f"{agent[probe]['httpGet']['host']}:{agent[probe]['httpGet']['port']}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert places == {AgentConfig().metrics}
