"""The Helm chart, rendered by helm: the same as the kustomizations, and what each value changes."""

from __future__ import annotations

import json
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cni_plugin.agent.config import AgentConfig
from tests.manifests.conftest import CHART, OVERLAYS, Render, objects, pod_spec

Helm = Any
CHANGED = {
    "image": {
        "repository": "registry.example:5000/podwire",
        "tag": "1.2.3",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "registry"}],
    "metrics": {"host": "::", "port": 9760},
    "paths": {"cniBin": "/var/lib/cni-bin", "cniConf": "/var/lib/cni-conf"},
    "maxUnavailable": "10%",
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "seLinuxOptions": {"type": "spc_t"},
    "podAnnotations": {"a.example/b": "c"},
    "podLabels": {"team": "net"},
    "config": {"cluster": {"backend": "vxlan"}},
}


def _rendered(helm: Helm, values: Any = None) -> dict[str, Any]:
    done = helm(values)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


@pytest.mark.parametrize("folder", ["base", *(f"overlays/{name}" for name in OVERLAYS)])
def test_the_chart_is_the_kustomization(helm: Helm, kustomize: Render, folder: str) -> None:
    wanted = objects(kustomize(folder))
    wanted.pop("Namespace")  # helm makes it, by --create-namespace
    config = wanted["ConfigMap"]["data"]["agent.yaml"]
    assert _rendered(helm, {"config": config}) == wanted


def test_without_values_it_is_the_base(helm: Helm, kustomize: Render) -> None:
    wanted = objects(kustomize("base"))
    wanted.pop("Namespace")
    assert _rendered(helm) == wanted


def test_each_value_has_its_place(helm: Helm) -> None:
    found = _rendered(helm, CHANGED)
    spec = pod_spec(found["DaemonSet"])
    agent = spec["containers"][0]
    assert {one["image"] for one in (*spec["initContainers"], agent)} == {
        "registry.example:5000/podwire:1.2.3"
    }
    assert (agent["imagePullPolicy"], spec["imagePullSecrets"]) == (
        "Always",
        [{"name": "registry"}],
    )
    assert found["ConfigMap"]["data"]["agent.yaml"]["metrics"] == "[::]:9760"
    assert found["ConfigMap"]["data"]["agent.yaml"]["cluster"]["backend"] == "vxlan"
    assert agent["readinessProbe"]["httpGet"] == {"host": "::1", "port": 9760, "path": "/readyz"}
    paths = {one.get("hostPath", {}).get("path") for one in spec["volumes"]}
    assert paths.issuperset({"/var/lib/cni-bin", "/var/lib/cni-conf"})
    assert found["DaemonSet"]["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == "10%"
    assert spec["tolerations"] == CHANGED["tolerations"]
    assert spec["securityContext"]["seLinuxOptions"] == {"type": "spc_t"}
    metadata = found["DaemonSet"]["spec"]["template"]["metadata"]
    assert metadata == {
        "annotations": {"a.example/b": "c"},
        "labels": {"app": "podwire", "team": "net"},
    }
    AgentConfig.model_validate(found["ConfigMap"]["data"]["agent.yaml"])
    for document in found.values():
        if document["kind"] != "ConfigMap":  # whose files are parsed here
            kubernetes_validate.validate(document, "1.34", strict=True)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"imgae": {}}, "imgae"),
        ({"config": {"metrics": "off"}}, "metrics"),
        ({"config": {"cluster": {"backend": "gre"}}}, "backend"),
        ({"config": {"dataDirs": ["/data"]}}, "dataDirs"),
        ({"config": {"cluster": {"conflist": {"path": "/etc/x.conflist"}}}}, "path"),
        ({"metrics": {"port": 0}}, "port"),
        ({"paths": {"cniBin": "opt"}}, "cniBin"),
        ({"podLabels": {"app": "x"}}, "podLabels"),
        ({"image": {"repository": "podwire:1"}}, "repository"),
    ],
)
def test_the_schema_refuses(helm: Helm, values: Any, named: str) -> None:
    done = helm(values)
    assert done.returncode != 0
    assert named in done.stderr


def test_every_value_is_in_the_schema_and_has_a_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert values.keys() == schema["properties"].keys() - {"global"}


def test_the_schema_knows_the_agents_keys() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    keys = {field.alias or name for name, field in AgentConfig.model_fields.items()}
    assert keys == schema["properties"]["config"]["properties"].keys() | {"metrics"}
