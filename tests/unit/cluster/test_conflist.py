"""The config list: rendered from a template, written last and whole."""

from __future__ import annotations

import json
import os
import stat
from ipaddress import ip_network

import pytest
from pydantic import ValidationError

from cni_plugin.agent.config import read_config
from cni_plugin.cluster.conflist import (
    DEFAULT_TEMPLATE,
    SAMPLE,
    NodeValues,
    read_template,
    render,
    rivalry,
    rivals,
)
from cni_plugin.cluster.conflist_conf import ConflistConfig
from cni_plugin.cluster.conflist_file import ConflistFile
from cni_plugin.cluster.kube_choice import Choice
from cni_plugin.cluster.kube_conf import KubernetesConfig
from cni_plugin.cni.conf_review import review_list
from cni_plugin.cni.errors import CNIError, DecodeFailure, InvalidNetworkConfig, UnsupportedField

DUAL = NodeValues(
    (ip_network("10.244.1.0/24"), ip_network("2001:db8:0:1::/64")),
    1450,
    (ip_network("10.244.0.0/16"),),
)
OWN = "10-podwire.conflist"


def test_the_default_is_bridge_mode_with_the_nodes_values():
    document = json.loads(render(DEFAULT_TEMPLATE, DUAL))
    assert document == {
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "podwire",
        "plugins": [
            {
                "type": "podwire",
                "bridge": "cni0",
                "isDefaultGateway": True,
                "ipMasq": True,
                "nonMasqueradeCIDRs": ["10.244.0.0/16"],
                "mtu": 1450,
                "ipam": {
                    "type": "podwire-ipam",
                    "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "2001:db8:0:1::/64"}]],
                },
                "capabilities": {
                    "bandwidth": True,
                    "dns": True,
                    "ips": True,
                    "mac": True,
                    "portMappings": True,
                },
            }
        ],
    }
    assert review_list(document) == ((), ())


def test_a_node_without_ranges_gets_no_list():
    with pytest.raises(InvalidNetworkConfig, match="ranges"):
        render(DEFAULT_TEMPLATE, NodeValues(()))


def template(**plugin) -> bytes:
    first = {"type": "podwire", "mode": "ptp", "ipam": {"ranges": "${ranges}"}, **plugin}
    document = {"cniVersion": "1.0.0", "name": "mine", "plugins": [first, {"type": "portmap"}]}
    return json.dumps(document).encode()


def test_a_default_route_of_each_of_its_ip_versions():
    """In mode ptp there is none otherwise, and pods would reach the node's other pods alone."""
    data = template(ipam={"ranges": "${ranges}", "routes": "${routes}"})
    for values, wanted in (
        (DUAL, [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]),
        (NodeValues(DUAL.ranges[:1]), [{"dst": "0.0.0.0/0"}]),
        (NodeValues(DUAL.ranges[1:]), [{"dst": "::/0"}]),
    ):
        document = json.loads(render(read_template(data, "t"), values))
        assert document["plugins"][0]["ipam"]["routes"] == wanted


def test_a_users_template_keeps_all_else():
    document = json.loads(render(read_template(template(mtu="${mtu}"), "t"), DUAL))
    assert document["name"] == "mine"
    assert document["plugins"][0]["mtu"] == 1450
    assert document["plugins"][1] == {"type": "portmap"}


@pytest.mark.parametrize(
    ("values", "default"),
    [
        (DUAL, ["0.0.0.0/0", "::/0"]),
        (DUAL._replace(ranges=DUAL.ranges[:1]), ["0.0.0.0/0"]),
        (DUAL._replace(ranges=DUAL.ranges[1:]), ["::/0"]),
    ],
)
def test_a_way_out_for_each_of_the_nodes_ip_versions(values, default):
    ipam = {"ranges": "${ranges}", "routes": "${routes}"}
    plugin = json.loads(render(json.loads(template(ipam=ipam)), values))["plugins"][0]
    assert [route["dst"] for route in plugin["ipam"]["routes"]] == default


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "t is empty"),
        (b"[1]", "t holds an array"),
        (b'{"name": "a", "type": "podwire"}', "no config list"),
        (b'{"cniVersion": "1.0.0", "name": "a", "plugins": []}', "at least one plugin object"),
        (template(mtu="${MTU}"), r"plugins\[0\]\.mtu is \"\$\{MTU\}\", accepted: one of"),
        (template(mtu="x${mtu}"), "alone between the quotes"),
        (template(mtu=7), r"plugins\[0\]\.mtu is 7"),
        (template(nonsense="${ranges"), "alone between the quotes"),
    ],
)
def test_a_template_that_cannot_work_is_refused_before_it_is_needed(data, words):
    with pytest.raises(CNIError, match=words):
        read_template(data, "t")


def test_what_is_not_supported_is_refused_too():
    with pytest.raises(UnsupportedField, match="vlanTrunk"):
        read_template(template(vlanTrunk=[{"id": 1}]), "t")


def test_the_sample_passes_the_default():
    assert review_list(json.loads(render(DEFAULT_TEMPLATE, SAMPLE))).problems == ()


def test_rivals_by_the_order_of_names():
    names = [
        OWN,
        "87-x.conflist",
        "10-a.conf",
        ".10-a.tmp",
        "README",
        "05-y.json",
        "x.conflist.bak",
        ".05-hidden.conf",
    ]
    assert rivals(OWN, names) == (".05-hidden.conf", "05-y.json", "10-a.conf", "87-x.conflist")


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ((), ""),
        (("87-x.conflist",), f"takes {OWN}, the first by name"),
        (("05-y.json", "87-x.conflist"), f'takes "05-y.json" rather than {OWN}'),
    ],
)
def test_what_rivals_mean_is_told_with_their_names(others, words):
    told = rivalry("/etc/cni/net.d", OWN, others)
    assert words in told
    assert bool(told) == bool(others)
    assert all(name in told for name in others)


def test_the_file_is_written_once_and_0600(tmp_path):
    path = tmp_path / "etc/cni/net.d" / OWN
    file = ConflistFile(str(path))
    data = render(DEFAULT_TEMPLATE, DUAL)
    assert file.rivals() == ()
    assert file.write(data)
    before = path.stat()
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert not file.write(data)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert file.write(render(DEFAULT_TEMPLATE, DUAL._replace(mtu=1430)))
    assert json.loads(path.read_bytes())["plugins"][0]["mtu"] == 1430
    assert os.listdir(path.parent) == [OWN]


def test_rivals_are_told_and_left_alone(tmp_path):
    file = ConflistFile(str(tmp_path / OWN))
    file.write(b"{}\n")
    (tmp_path / "05-other.conflist").write_text("{}")
    (tmp_path / "01-folder.conf").mkdir()
    assert file.rivals() == ("05-other.conflist",)
    assert sorted(os.listdir(tmp_path)) == ["01-folder.conf", "05-other.conflist", OWN]


def test_only_what_was_written_is_withdrawn(tmp_path):
    path = tmp_path / OWN
    path.write_bytes(b"somebody's")
    file = ConflistFile(str(path))
    assert not file.withdraw()
    file.write(b"ours")
    path.write_bytes(b"edited")
    assert not file.withdraw()
    file.write(b"ours")
    assert file.withdraw()
    assert not file.withdraw()
    assert os.listdir(tmp_path) == []


def test_the_keys_and_their_defaults():
    conf = ConflistConfig.model_validate({})
    assert (conf.path, conf.on_stop) == (f"/etc/cni/net.d/{OWN}", "keep")
    assert conf.read_template() == DEFAULT_TEMPLATE
    api = KubernetesConfig.model_validate({})
    assert api.choice() == Choice()
    full = KubernetesConfig.model_validate(
        {"server": "https://192.0.2.1:6443", "serverName": "api", "kubeconfig": "/k"}
    )
    assert full.choice() == Choice("/k", "https://192.0.2.1:6443", "api")


def test_a_template_is_a_file_or_the_list_itself(tmp_path):
    path = tmp_path / "t.json"
    path.write_bytes(template())
    conf = ConflistConfig.model_validate({"template": str(path), "onStop": "remove"})
    assert conf.read_template()["name"] == "mine"
    inline = ConflistConfig.model_validate({"template": json.loads(template())})
    assert inline.read_template() == conf.read_template()
    path.write_bytes(template(mtu="${x}"))
    with pytest.raises(InvalidNetworkConfig):
        conf.read_template()


@pytest.mark.parametrize(
    ("conflist", "told"),
    [
        ("{path: net.d/x.conflist}", 'cluster.conflist.path is "net.d/x.conflist", accepted: an'),
        ("{path: /etc/x.conf}", "ends in NAME.conflist"),
        ("{template: 7}", "cluster.conflist.template is 7, accepted: the absolute path of"),
        (
            "{template: t.json}",
            'cluster.conflist.template is "t.json", accepted: the absolute path',
        ),
        ("{onStop: 1}", "cluster.conflist.onStop is 1, accepted: keep or remove"),
        ("{onStop: perhaps}", 'cluster.conflist.onStop is "perhaps"'),
        ("{file: x}", "cluster.conflist.file is no key of the agent's config"),
        ("{template: {name: x}}", "cluster.conflist.template: the template is no config list"),
        (
            '{template: {cniVersion: 1.0.0, name: x, plugins: [{type: podwire, mtu: "${MTU}"}]}}',
            'cluster.conflist.template: plugins[0].mtu is "${MTU}", accepted: one of ${ranges}',
        ),
        (
            "{template: {cniVersion: 1.0.0, name: x, plugins: [{at: 2026-01-01}]}}",
            "cluster.conflist.template: the template is no JSON",
        ),
    ],
)
def test_the_agents_config_says_what_is_wrong_with_it(tmp_path, conflist, told):
    path = tmp_path / "agent.yaml"
    path.write_text(f"cluster: {{source: {{file: /p}}, conflist: {conflist}}}")
    with pytest.raises(CNIError) as caught:
        read_config(str(path))
    assert told in str(caught.value)


def test_the_agents_config_needs_the_templates_file(tmp_path):
    path = tmp_path / "agent.yaml"
    path.write_text(f"cluster: {{source: {{file: /p}}, conflist: {{template: {tmp_path}/t.json}}}}")
    with pytest.raises(InvalidNetworkConfig) as caught:
        read_config(str(path))
    assert f'template is "{tmp_path}/t.json", which cannot be read: No such' in str(caught.value)
    assert read_config(str(path), files=False).cluster is not None
    (tmp_path / "t.json").write_bytes(template())
    found = read_config(str(path)).cluster
    assert found is not None
    assert found.conflist is not None
    os.unlink(tmp_path / "t.json")
    os.mkfifo(tmp_path / "t.json")  # nobody writes to it
    with pytest.raises(DecodeFailure, match="is empty"):
        found.conflist.read_template()


@pytest.mark.parametrize(
    ("model", "document"),
    [
        (ConflistConfig, {"path": "relative.conflist"}),
        (ConflistConfig, {"path": "/etc/cni/net.d/10-podwire.conf"}),
        (ConflistConfig, {"template": "t"}),
        (ConflistConfig, {"onStop": "perhaps"}),
        (ConflistConfig, {"file": "x"}),
        (KubernetesConfig, {"server": "192.0.2.1:6443"}),
        (KubernetesConfig, {"server": "https://a/b"}),
        (KubernetesConfig, {"server": "https://[2001:db8::1"}),
        (KubernetesConfig, {"server": "https://[zz]:6443"}),
        (KubernetesConfig, {"server": "https://:6443"}),
        (KubernetesConfig, {"server": "https://a:65536"}),
        (KubernetesConfig, {"kubeconfig": "k"}),
        (KubernetesConfig, {"stateFile": "nodes.json"}),
        (KubernetesConfig, {"token": "abc"}),
    ],
)
def test_keys_that_cannot_work_are_refused(model, document):
    with pytest.raises(ValidationError):
        model.model_validate(document)
