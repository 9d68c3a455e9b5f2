"""The part `cluster` of the agent's config."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from cni_plugin.agent.config import read_config
from cni_plugin.backend.view import Settings
from cni_plugin.cluster import conf
from cni_plugin.cluster.admission import Rules
from cni_plugin.cluster.conf import ClusterConf
from cni_plugin.cni.errors import CNIError

SOURCE = "source: {file: /etc/podwire/peers.yaml}"


def read(folder: Path, text: str) -> ClusterConf:
    path = folder / "agent.yaml"
    path.write_text(f"cluster: {{{text}}}")
    found = read_config(str(path)).cluster
    assert found is not None
    return found


def test_without_it_the_node_is_by_itself() -> None:
    assert read_config(None).cluster is None


def test_every_key(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        f"{SOURCE}, node: a, backend: vxlan, clusterCIDRs: [10.244.0.0/16],"
        " serviceCIDRs: [10.96.0.0/12, '2001:db8::/112'], mtu: 1400,"
        " vxlan: {vni: 7, port: 4789, directRouting: true, txChecksumOffload: off}",
    )
    assert (found.node, found.backend, found.source.file) == (
        "a",
        "vxlan",
        "/etc/podwire/peers.yaml",
    )
    assert found.settings == Settings(7, 4789, True, 1400, tx_checksum=False)
    services = (ip_network("10.96.0.0/12"), ip_network("2001:db8::/112"))
    assert found.rules == Rules((ip_network("10.244.0.0/16"),), services)


def test_the_kubernetes_api_in_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(tmp_path, "source: {kubernetes: {}}, node: m")
    assert found.source.kubernetes is not None
    assert found.source.kubernetes.state_file == "/var/lib/podwire/nodes.json"
    assert found.node == "m"
    monkeypatch.setattr(conf.socket, "gethostname", lambda: "Worker-1")
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert read(tmp_path, SOURCE).node == "worker-1"
    monkeypatch.setenv("NODE_NAME", "n")
    assert read(tmp_path, SOURCE).node == "n"


def test_where_the_api_is_no_pods_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")

    def servers(text: str) -> list[str]:
        return list(map(str, read(tmp_path, f"source: {text}").rules.servers))

    assert servers("{kubernetes: {}}") == ["10.96.0.1/32"]
    assert servers("{kubernetes: {server: 'https://[2001:db8::1]:6443'}}") == [
        "2001:db8::1/128",
        "10.96.0.1/32",
    ]
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    assert servers("{kubernetes: {server: 'https://api.example'}}") == []
    assert servers("{file: /p}") == []


@pytest.mark.parametrize(("release", "wanted"), [("5.4.0-42", False), ("6.1.0", None)])
def test_the_offload_is_left_alone_where_the_kernel_is_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, wanted: bool | None
) -> None:
    monkeypatch.setattr(conf, "kernel_release", lambda: release)
    assert read(tmp_path, SOURCE).settings == Settings(tx_checksum=wanted)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("node: a", "cluster.source is missing, accepted: either file"),
        (
            f"{SOURCE}, vni: 7",
            "cluster.vni is no key of the agent's config, accepted in cluster: source",
        ),
        (f"{SOURCE}, vni: 7", "did you mean cluster.vxlan.vni?"),
        (f"{SOURCE}, cluster_cidrs: []", "did you mean cluster.clusterCIDRs?"),
        (f"{SOURCE}, masquerade: 1", "cluster.masquerade is 1, accepted: true or false"),
        ("source: {}", "cluster.source is {}, accepted: either file"),
        ("source: {file: /p, kubernetes: {}}", "accepted: either file"),
        ("source: {kubernetes: {kubeconfig: k}}", 'cluster.source.kubernetes.kubeconfig is "k"'),
        ("source: {kubernetes: {token: k}}", "cluster.source.kubernetes.token is no key"),
        (f"{SOURCE}, node: ../a", 'cluster.node is "../a"'),
        ("source: {file: peers.yaml}", 'cluster.source.file is "peers.yaml"'),
        (f"{SOURCE}, backends: vxlan", "cluster.backends is no key of the agent's config"),
        (f"{SOURCE}, backend: ipip", 'cluster.backend is "ipip"'),
        (f"{SOURCE}, clusterCIDRs: [10.244.1.1/16]", 'cluster.clusterCIDRs[0] is "10.244.1.1/16"'),
        (
            f"{SOURCE}, clusterCIDRs: [10.244.1.1/16]",
            "accepted: a range without host bits, here 10.244.0.0",
        ),
        (
            f"{SOURCE}, clusterCIDRs: [x]",
            'cluster.clusterCIDRs[0] is "x", accepted: a range such as',
        ),
        (
            f"{SOURCE}, clusterCIDRs: 10.244.0.0/16",
            '"10.244.0.0/16", accepted: a list of ranges such as',
        ),
        (
            f"{SOURCE}, mtu: 100",
            "cluster.mtu is 100, accepted: a whole number of bytes, 576 to 65535",
        ),
        (f"{SOURCE}, vxlan: {{vni: 16777216}}", "cluster.vxlan.vni is 16777216"),
        (f"{SOURCE}, vxlan: {{vni: true}}", "cluster.vxlan.vni is true"),
        (f"{SOURCE}, vxlan: {{port: 0}}", "cluster.vxlan.port is 0"),
    ],
)
def test_a_fault_is_told_by_its_path_and_value(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CNIError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)
