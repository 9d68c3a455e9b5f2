"""What is installed runs on a node that has neither Python nor a C library: calls by launcher and
interpreter without an agent, the agent itself, and the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.install.kit import install
from tests.support.bare import BareRoot
from tests.support.node import wait_until

CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "podwire",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": {"ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "2001:db8::/64"}]]},
}


@pytest.fixture
def installed(bare: BareRoot, tree: Path) -> BareRoot:
    """The bare node with podwire."""
    assert install(tree, bare).returncode == 0
    return bare


def _environment(bare: BareRoot, verb: str) -> dict[str, str]:
    pod = bare.node.pods[0] if bare.node.pods else bare.node.pod()
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "eth0",
    }


def test_a_pod_comes_and_goes_without_an_agent(installed: BareRoot) -> None:
    added = installed.call(_environment(installed, "ADD"), CONF).ok()
    pod = installed.node.pods[0]
    assert [ip["address"] for ip in added.json["ips"]] == ["10.244.0.2/24", "2001:db8::2/64"]
    assert pod.ping("10.244.0.1")
    assert pod.ping("2001:db8::1")
    checked = {**CONF, "prevResult": added.json}
    installed.call(_environment(installed, "CHECK"), checked).ok()
    installed.call(_environment(installed, "DEL"), checked).ok()
    assert pod.links() == set()


def test_status_and_version_are_answered(installed: BareRoot) -> None:
    assert installed.call({"CNI_COMMAND": "STATUS"}, CONF).ok().stdout == b""
    answer = installed.call({"CNI_COMMAND": "VERSION"}, '{"cniVersion": "1.1.0"}').ok()
    assert "1.1.0" in answer.json["supportedVersions"]


@pytest.mark.parametrize(
    ("env", "conf", "code"),
    [
        ({"CNI_COMMAND": "ADD"}, "{}", 4),
        ({"CNI_COMMAND": "STATUS"}, "{", 6),
        ({"CNI_COMMAND": "STATUS"}, {**CONF, "mtu": -1}, 7),
    ],
)
def test_malformed_input_gets_its_error(
    installed: BareRoot, env: dict[str, str], conf: Any, code: int
) -> None:
    reply = installed.call(env, conf)
    assert (reply.returncode, reply.code) == (1, code)


def test_the_ipam_plugin_answers_for_itself(installed: BareRoot) -> None:
    env = {**_environment(installed, "ADD"), "CNI_PATH": "/opt/cni/bin"}
    conf = '{"cniVersion": "1.0.0", "name": "net", "ipam": {"subnet": "10.244.0.0/24"}}'
    reply = installed.run("/opt/cni/bin/podwire-ipam", env=env, stdin=conf).ok()
    assert reply.json["ips"] == [{"address": "10.244.0.2/24", "gateway": "10.244.0.1"}]


def test_the_agent_runs_from_the_tree_and_serves(installed: BareRoot) -> None:
    node = installed.node
    node.path("/run/agent.yaml").write_text("metrics: 127.0.0.1:9750\n")
    agent = node.spawn(
        *installed.command("/opt/cni/bin/podwire", "agent", "--config", "/run/agent.yaml"),
        stderr=subprocess.PIPE,
    )
    try:
        wait_until(node.path("/run/podwire/agent.sock").exists, "the agent serves")
        env = {**_environment(installed, "ADD"), "PODWIRE_PYTHON": "/bin/false"}
        installed.call(env, CONF).ok()  # no Python but the agent's could have answered
    finally:
        agent.terminate()
        _, said = agent.communicate(timeout=30)
    assert agent.returncode == 0, said


def test_the_interpreter_takes_nothing_from_the_node(installed: BareRoot) -> None:
    code = "print({line.split()[-1] for line in open('/proc/self/maps') if '/' in line})"
    python = "/opt/podwire/current/bin/python3"
    mapped = eval(installed.run(python, "-I", "-B", "-c", code).ok().stdout)
    assert mapped
    assert all(path.startswith("/opt/podwire/versions/") for path in mapped), mapped


def test_every_module_is_there(installed: BareRoot) -> None:
    code = (
        "import importlib, pkgutil, cni_plugin, ipam\n"
        "for top in (cni_plugin, ipam):\n"
        "    for one in pkgutil.walk_packages(top.__path__, top.__name__ + '.'):\n"
        "        if one.name not in ('cni_plugin.agent.tracing', 'cni_plugin.__main__'):\n"
        "            importlib.import_module(one.name)\n"
    )
    installed.run("/opt/podwire/current/bin/python3", "-I", "-B", "-c", code).ok()


def test_a_closed_stream_does_not_become_the_interpreters_lock(installed: BareRoot) -> None:
    shell = "exec /opt/podwire/current/bin/python3 -I -B -c 'import os; os.fstat(3)' <&-"
    installed.run("/bin/busybox", "sh", "-c", shell).ok()


def test_the_size_on_the_node_is_as_promised(tree: Path) -> None:
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    assert size < 60 << 20
