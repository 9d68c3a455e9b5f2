"""hack/kind-up.sh against stand-ins for docker, kind and kubectl: what it runs, in which order,
and what it makes of their answers. Nothing here is kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import cni_plugin
from tests.manifests.conftest import Render, every_container, objects, pod_spec
from tests.support.stand_in import StandIn

IMAGE = f"podwire:{cni_plugin.__version__}"
LIMIT = "--timeout=300s"


def test_the_commands_in_their_order(tmp_path: Path) -> None:
    programs = StandIn(tmp_path)
    done = programs.run()
    assert done.returncode == 0, done.stderr
    smoke = ["kubectl", "-n", "podwire-smoke"]
    applied = programs.calls[5][3]
    assert applied.endswith("/build/kind/podwire")
    assert programs.calls == [
        ["docker", "info", "--format", "{{.ServerVersion}}"],
        ["kind", "get", "clusters"],
        ["make", "image", f"IMAGE={IMAGE}"],
        ["kind", "create", "cluster", "--name", "podwire", "--config", "-"],
        ["kind", "load", "docker-image", IMAGE, "--name", "podwire"],
        ["kubectl", "apply", "-k", applied],
        ["kubectl", "-n", "podwire", "rollout", "status", "daemonset/podwire", LIMIT],
        ["kubectl", "wait", "--for=condition=Ready", "nodes", "--all", LIMIT],
        ["kubectl", "-n", "kube-system", "rollout", "status", "deployment/coredns", LIMIT],
        ["kubectl", "apply", "-f", "-"],
        [
            "docker", "run", "--detach", "--rm", "--name", "podwire-smoke-outside", "--network",
            "kind", "registry.k8s.io/e2e-test-images/agnhost:2.53", "netexec", "--http-port=8080",
        ],
        [*smoke, "rollout", "status", "daemonset/server", LIMIT],
        [*smoke, "rollout", "status", "daemonset/client", LIMIT],
        ["kubectl", "get", "nodes", "-o", "json"],
        [*smoke, "get", "pods", "-o", "json"],
        [*smoke, "get", "service", "server", "-o", "json"],
        ["docker", "inspect", "podwire-smoke-outside"],
        ["docker", "rm", "--force", "podwire-smoke-outside"],
        ["kubectl", "delete", "namespace", "podwire-smoke", "--wait=false"],
    ]  # fmt: skip
    assert programs.contexts == {"kind-podwire"}
    assert done.stdout.splitlines()[-2:] == [
        "PASSED",
        "kubectl --context kind-podwire ...; `make kind-down` takes it away",
    ]


@pytest.mark.parametrize(("family", "proxy"), [("ipv6", "ipvs"), ("dual", "nftables")])
def test_the_cluster_is_as_it_was_asked_for(tmp_path: Path, family: str, proxy: str) -> None:
    programs = StandIn(tmp_path, family)
    options = ("--ip-family", family, "--proxy-mode", proxy, "--no-build", "-o", "json")
    done = programs.run(*options, "--node-image", "kindest/node:v1.34.0")
    assert done.returncode == 0, done.stderr
    asked = yaml.safe_load(programs.stdin("create", "cluster"))
    assert asked["networking"] == {
        "disableDefaultCNI": True,
        "ipFamily": family,
        "kubeProxyMode": proxy,
    }
    assert [one["role"] for one in asked["nodes"]] == ["control-plane", "worker", "worker"]
    create = next(words for words in programs.calls if "create" in words)
    assert create[-2:] == ["--image", "kindest/node:v1.34.0"]
    assert not any("make" in words for words in programs.calls)
    said = json.loads(done.stdout)
    checks = {(one["check"], one["version"]): one for one in said["checks"]}
    names = {"same node", "other node", "hostPort", "egress", "ClusterIP", "NodePort", "DNS"}
    versions = {"ipv4": {4}, "ipv6": {6}, "dual": {4, 6}}[family]
    wanted = {("pods on every node", 0), *((name, v) for name in names for v in versions)}
    assert checks.keys() == wanted
    assert all(one["passed"] and one["done"] == one["total"] > 0 for one in said["checks"])
    far = {v: checks["other node", v]["total"] for v in versions}
    assert set(far.values()) == {6}, "each of three nodes to both others"
    assert len(programs.requests) == 36 * len(versions)


def test_without_kube_proxy_the_api_is_named_and_services_are_not_tried(tmp_path: Path) -> None:
    programs = StandIn(tmp_path)
    done = programs.run(
        "--proxy-mode", "none", "--name", "other", "--image", "host:5/p:1", "-o", "json"
    )
    assert done.returncode == 0, done.stderr
    files = programs.kept()
    agent = yaml.safe_load(files["agent.yaml"])
    server = agent["cluster"]["source"]["kubernetes"]["server"]
    assert server == "https://other-control-plane:6443"
    kustomization = yaml.safe_load(files["kustomization.yaml"])
    assert kustomization["images"] == [{"name": "podwire", "newName": "host:5/p", "newTag": "1"}]
    assert not any("deployment/coredns" in words for words in programs.calls)
    skipped = [one["check"] for one in json.loads(done.stdout)["checks"] if one["skipped"]]
    assert skipped == ["ClusterIP", "NodePort", "DNS"]


def test_what_is_applied_is_the_overlay_with_the_image(tmp_path: Path, kustomize: Render) -> None:
    StandIn(tmp_path, faults=["rollout"]).run("--image", "registry.example/podwire:9")
    found = objects(kustomize("../build/kind/podwire"))
    images = {one["image"] for one in every_container(pod_spec(found["DaemonSet"]))}
    assert images == {"registry.example/podwire:9"}
    assert "10.244.0.0/16" in found["ConfigMap"]["data"]["agent.yaml"]["cluster"]["clusterCIDRs"]


@pytest.mark.parametrize(
    ("without", "faults", "told"),
    [
        ((), ("daemon",), "docker is there, its daemon is not to be had: Cannot connect"),
        (("docker",), (), "docker is missing; install Docker Engine"),
        (("kind", "kubectl"), (), "kubectl is missing; install kubectl"),
    ],
)
def test_what_is_missing_is_told_and_nothing_is_changed(
    tmp_path: Path, without: tuple[str, ...], faults: tuple[str, ...], told: str
) -> None:
    programs = StandIn(tmp_path, without=without, faults=faults)
    done = programs.run()
    assert done.returncode == 3
    assert told in done.stderr
    assert all(f"{name} is missing" in done.stderr for name in without)
    assert done.stderr.splitlines()[-1] == "podwire: nothing was changed"
    assert [words for words in programs.calls if words[:2] != ["docker", "info"]] == []


def test_a_cluster_of_that_name_is_neither_taken_nor_replaced_unasked(tmp_path: Path) -> None:
    programs = StandIn(tmp_path, clusters=["podwire"], faults=["rollout"])
    done = programs.run()
    assert done.returncode == 1
    assert "--reuse takes it, `make kind-down` deletes it" in done.stderr
    assert programs.calls[-1] == ["kind", "get", "clusters"]
    programs.run("--reuse", "--no-build")
    assert ["kind", "load", "docker-image", IMAGE, "--name", "podwire"] in programs.calls
    assert not any("create" in words for words in programs.calls)


def test_agents_that_never_get_ready_end_it_with_their_log(tmp_path: Path) -> None:
    programs = StandIn(tmp_path, faults=["rollout"])
    done = programs.run("--timeout", "7")
    assert done.returncode == 1
    assert "the agents did not become ready in 7 s" in done.stderr
    assert programs.calls[-1][3:5] == ["logs", "daemonset/podwire"]


def test_what_does_not_work_is_told(tmp_path: Path) -> None:
    programs = StandIn(tmp_path, faults=["cross", "masquerade"])
    done = programs.run("--tries", "1", "-o", "json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["passed"] is False
    wrong = {one["check"]: one for one in said["checks"] if not one["passed"]}
    assert wrong.keys() == {"other node", "egress"}
    assert len(wrong["other node"]["failures"]) == 6
    assert "Connection timed out" in wrong["other node"]["failures"][0]
    assert "found: 10.244." in wrong["egress"]["failures"][0]
    assert programs.calls[-1][1:3] == ["delete", "namespace"], "what it made is gone all the same"


def test_a_pod_without_an_address_is_told_and_nothing_more_is_tried(tmp_path: Path) -> None:
    programs = StandIn(tmp_path, faults=["pod"])
    done = programs.run()
    assert done.returncode == 1, done.stderr
    assert "podwire-control-plane has 1 of 2 pods with addresses" in done.stdout
    assert programs.requests == []


@pytest.mark.parametrize("image", ["podwire", "registry.example:5000/podwire", ":1", "a:"])
def test_an_image_needs_a_tag(tmp_path: Path, image: str) -> None:
    programs = StandIn(tmp_path)
    done = programs.run("--image", image)
    assert done.returncode == 2
    assert "has no tag, accepted: NAME:TAG" in done.stderr
    assert programs.calls == []


def test_down_deletes_the_cluster_and_nothing_else(tmp_path: Path) -> None:
    programs = StandIn(tmp_path, clusters=["a"], without=["kubectl"])
    assert programs.run("--down", "--name", "a").returncode == 0
    assert programs.calls[1:] == [["kind", "delete", "cluster", "--name", "a"]]
