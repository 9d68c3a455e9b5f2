"""`podwire uninstall`: nothing of podwire's is left, nothing of others' is touched, and no pod that
is there is stranded."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.model.names import tunnel_name
from tests.install.kit import install
from tests.support import agent as agents
from tests.support import need
from tests.support.bare import ROOT, BareRoot
from tests.support.kube_api import KubeProcess, node_object
from tests.support.node import Pod, wait_until
from tests.support.snapshot import Snapshot

CONF: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "net",
    "type": "podwire",
    "isDefaultGateway": True,
    "ipMasq": True,
    "ipam": {"ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "2001:db8::/64"}]]},
}
CONFLIST = {"cniVersion": "1.0.0", "name": "net", "plugins": [CONF]}
OTHER = {"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "bridge"}]}


class Installed:
    """A bare node on which podwire is installed, and used as a runtime does."""

    def __init__(self, bare: BareRoot, tree: Path) -> None:
        self.bare = bare
        self.node = bare.node
        assert install(tree, bare).returncode == 0
        self.net_dir = bare.path / "etc/cni/net.d"
        self.net_dir.mkdir(parents=True)
        self.conflist("10-podwire", CONFLIST)

    def conflist(self, name: str, document: object) -> Path:
        path = self.net_dir / f"{name}.conflist"
        path.write_text(json.dumps(document))
        return path

    def call(self, verb: str, pod: Pod, **keys: Any) -> Any:
        env = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.netns,
            "CNI_IFNAME": "eth0",
        }
        return self.bare.call(env, {**CONF, **keys}).ok().json

    def pod(self, **keys: Any) -> Pod:
        pod = self.node.pod()
        self.call("ADD", pod, **keys)
        return pod

    def command(self, *options: str) -> list[str]:
        """By the Python that runs the tests: it sees the node's programs, as the image has them."""
        words = [sys.executable, "-I", "-B", "-m", "cni_plugin", "uninstall", "--root", ROOT]
        return [*words, *options]

    def uninstall(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.node.run(*self.command(*options), check=False)


@pytest.fixture
def installed(bare: BareRoot, tree: Path) -> Installed:
    """A node with podwire and nothing else."""
    return Installed(bare, tree)


@pytest.fixture
def clean(bare: BareRoot, snapshot: Callable[[], Snapshot]) -> Snapshot:
    """The node before podwire came."""
    return snapshot()


def _use_all(installed: Installed) -> None:
    """Whatever podwire leaves its marks on."""
    node = installed.node
    pod = installed.pod()
    installed.call("DEL", pod)
    for words in ("-P FORWARD DROP", "-N PODWIRE-FORWARD", "-A FORWARD -j PODWIRE-FORWARD"):
        node.run("iptables-nft", *words.split())
    if need.has_link_kind("vxlan"):
        ours = f"{tunnel_name(4, 7, 8472)} type vxlan id 7 dstport 8472 local 192.0.2.1"
        node.configure(f"link add {ours}")
        node.configure("link add podwire-foreign type vxlan id 8 dstport 8472 local 192.0.2.1")
    node.configure("route add 10.244.9.0/24 dev cni0 proto 113")
    node.configure("link add foreign type bridge")
    node.run("ip", "link", "set", "foreign", "up", "alias", "podwire is what this is not")
    node.configure("route add 10.244.8.0/24 dev foreign proto 113")
    node.configure("route add 10.244.7.0/24 dev foreign proto 99")
    node.run("nft", "add", "table", "inet", "foreign")
    kept = installed.bare.path / "var/lib/podwire"
    kept.mkdir(parents=True)
    (kept / "nodes.json").write_text("{}")


def test_nothing_is_left_and_others_things_are_untouched(
    clean: Snapshot, installed: Installed, snapshot: Callable[[], Snapshot]
) -> None:
    installed.conflist("05-other", OTHER)
    _use_all(installed)
    done = installed.uninstall("--reservations")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("nothing of podwire is left on this node\n")
    came = clean.diff(snapshot())
    foreign = ("foreign", '"filter"', "FORWARD", "INPUT", "OUTPUT")
    assert [line for line in came if not any(word in line for word in foreign)] == []
    assert "PODWIRE" not in str(came)
    assert any("10.244.7.0/24" in line for line in came)
    assert not any("10.244.8.0/24" in line for line in came)
    if need.has_link_kind("vxlan"):
        assert any("podwire-foreign" in line for line in came)
    root = installed.bare.path
    assert [path.name for path in installed.net_dir.iterdir()] == ["05-other.conflist"]
    assert not (root / "opt/podwire").exists()
    assert not list((root / "opt/cni/bin").iterdir())
    assert not (root / "var/lib/podwire").exists()
    assert installed.uninstall("--verify").returncode == 0


def test_verify_changes_nothing_and_its_remedies_remove_all(
    installed: Installed, snapshot: Callable[[], Snapshot]
) -> None:
    _use_all(installed)
    before = snapshot()
    looked = installed.uninstall("--verify", "--reservations", "-o", "json")
    assert looked.returncode == 1
    assert before.diff(snapshot()) == []
    left = json.loads(looked.stdout)["left"]
    kinds = {thing["kind"] for thing in left}
    assert kinds == {"conflist", "kernel", "state", "store", "launcher", "tree"}
    for thing in left:
        installed.node.run("sh", "-ec", thing["removedBy"])
    again = installed.uninstall("--verify", "--reservations")
    assert (again.returncode, again.stdout) == (0, "nothing of podwire is left on this node\n")


def test_what_pods_need_stays_until_they_are_gone(installed: Installed) -> None:
    pod = installed.pod()
    done = installed.uninstall()
    assert done.returncode == 3
    assert "1 attachment is left" in done.stdout
    assert "removed" not in done.stdout
    assert (installed.net_dir / "10-podwire.conflist").exists()
    assert pod.ping("10.244.0.1")
    installed.call("DEL", pod)
    assert installed.uninstall().returncode == 0


def test_the_config_list_goes_at_once_where_there_is_another(installed: Installed) -> None:
    pod = installed.pod()
    installed.conflist("05-other", OTHER)
    assert installed.uninstall().returncode == 3
    assert not (installed.net_dir / "10-podwire.conflist").exists()
    assert pod.ping("10.244.0.1")
    installed.call("DEL", pod)
    assert installed.uninstall().returncode == 0


def test_waiting_ends_with_the_last_pod(installed: Installed) -> None:
    pods = [installed.pod(), installed.pod()]
    with installed.node.spawn(
        *installed.command("--wait", "60"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as waiting:
        assert waiting.stderr is not None
        assert "2 attachments are left" in waiting.stderr.readline()
        for pod in pods:
            assert waiting.poll() is None
            installed.call("DEL", pod)
        said, progress = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, progress
    assert said.endswith("nothing of podwire is left on this node\n")


def test_a_pod_that_went_without_a_del_holds_nobody_up(installed: Installed) -> None:
    pod = installed.pod()
    host_link = next(name for name in installed.node.links() if name.startswith("pw"))
    pod.remove()
    wait_until(lambda: host_link not in installed.node.links(), "its link is gone")
    assert installed.uninstall("--reservations").returncode == 0


def test_a_call_under_way_is_waited_for(installed: Installed) -> None:
    installed.call("DEL", installed.pod())
    locks = installed.node.path("/run/podwire/locks")
    locks.mkdir(exist_ok=True)
    with (locks / "x").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = installed.uninstall()
        assert done.returncode == 3
        assert "a call under way" in done.stdout
    assert installed.uninstall().returncode == 0


def test_in_another_network_namespace_nothing_goes(installed: Installed) -> None:
    pod = installed.pod()
    done = installed.node.run("unshare", "--net", *installed.command(), check=False)
    assert done.returncode == 3
    assert "is it the node's" in done.stdout
    assert "removed" not in done.stdout
    installed.call("DEL", pod)


def test_waiting_has_an_end(installed: Installed) -> None:
    installed.pod()
    assert installed.uninstall("--wait", "0.1").returncode == 3


def test_forced_it_cuts_pods_off(installed: Installed) -> None:
    pod = installed.pod()
    assert installed.uninstall("--force", "--reservations").returncode == 0
    assert pod.links() == set()


def test_it_waits_for_the_agent(installed: Installed) -> None:
    with agents.running(installed.node) as agent:
        done = installed.uninstall("--force")
        assert done.returncode == 3
        assert f"pid {agent.process.pid}" in done.stdout
        assert (installed.net_dir / "10-podwire.conflist").exists()
        agent.stop()
    assert installed.uninstall("--wait", "10").returncode == 0


def test_a_folder_of_the_tree_keeps_what_others_put_there(installed: Installed) -> None:
    foreign = installed.bare.path / "opt/podwire/notes"
    foreign.write_text("not podwire's")
    assert installed.uninstall().returncode == 0
    assert foreign.exists()
    assert [path.name for path in foreign.parent.iterdir()] == ["notes"]


def test_a_bridge_with_a_foreign_port_is_told_of(installed: Installed) -> None:
    installed.call("DEL", installed.pod())
    installed.node.configure("link add foreign type veth peer name other")
    installed.node.configure("link set foreign master cni0")
    done = installed.uninstall()
    assert done.returncode == 1
    assert "ip link delete cni0" in done.stdout


def test_it_removes_the_tree_that_it_runs_from(installed: Installed) -> None:
    installed.call("DEL", installed.pod())
    done = installed.bare.run("/opt/cni/bin/podwire", "uninstall")
    assert done.returncode == 0, done
    assert not (installed.bare.path / "opt/podwire").exists()


def test_a_version_that_somebody_runs_stays_and_is_told_of(installed: Installed) -> None:
    python = "/opt/podwire/current/bin/python3"
    words = installed.bare.command(python, "-I", "-c", "print('up', flush=True); input()")
    with installed.node.spawn(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        done = installed.uninstall()
        assert done.returncode == 1
        assert done.stdout.count("a process runs from it") == 1
        assert done.stderr == ""
        running.communicate("\n")
    assert installed.uninstall().returncode == 0


def test_mount_points_stay_empty(installed: Installed) -> None:
    (installed.bare.path / "var/lib/podwire").mkdir()
    installed.node.run("mount", "-t", "tmpfs", "none", f"{ROOT}/var/lib/podwire")
    (installed.bare.path / "var/lib/podwire/nodes.json").write_text("{}")
    assert installed.uninstall().returncode == 0
    assert not list((installed.bare.path / "var/lib/podwire").iterdir())


def _config(installed: Installed, server: str) -> str:
    """An agent's config whose nodes are those of an API server."""
    entry = {"name": "x", "cluster": {"server": server}, "context": {"cluster": "x"}}
    kubeconfig = {"current-context": "x", "contexts": [entry], "clusters": [entry]}
    installed.node.path("/run/kubeconfig").write_text(json.dumps(kubeconfig))
    source = {"kubernetes": {"kubeconfig": "/run/kubeconfig"}}
    config = {"cluster": {"source": source, "node": "node"}}
    installed.node.path("/run/agent.yaml").write_text(json.dumps(config))
    return "/run/agent.yaml"


def test_annotations_go_and_others_stay(installed: Installed) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    root = Path(__file__).resolve().parents[2]
    start = ("env", f"PYTHONPATH={root}")
    api = KubeProcess(lambda words: installed.node.spawn(*start, *words, **pipes), "127.0.0.1", 0)
    try:
        annotations = {"podwire.io/backend": "vxlan", "example.com/x": "kept"}
        api.do("put", node_object("node", annotations=annotations))
        config = _config(installed, api.url)
        looked = installed.uninstall("--verify", "--config", config)
        assert "kubectl annotate node node podwire.io/backend-" in looked.stdout
        assert installed.uninstall("--config", config).returncode == 0
        assert api.do("annotations", "node") == {"example.com/x": "kept"}
    finally:
        api.close()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cluster: {source: {file: /p}, conflist: {template: /gone.json}}", ""),
        ("dataDirs: [/a", "is no YAML"),
        ("cluster: {source: {file: /p}, backend: gre}", "cluster.backend is"),
        (None, "No such file or directory"),
    ],
)
def test_a_broken_config_keeps_nobody_from_it(
    installed: Installed, text: str | None, fault: str
) -> None:
    """The template is not needed, and what is podwire's bears its marks."""
    installed.call("DEL", installed.pod())
    if text is not None:
        installed.node.path("/run/agent.yaml").write_text(text)
    done = installed.uninstall("--config", "/run/agent.yaml")
    assert done.returncode == 0
    assert done.stdout.endswith("nothing of podwire is left on this node\n")
    assert (fault in done.stderr) if fault else (done.stderr == "")
    looked = installed.uninstall("--verify", "--config", "/run/agent.yaml", "-o", "json")
    assert looked.returncode == (1 if fault else 0), "what it names may be elsewhere"
    assert (json.loads(looked.stdout)["configFault"] or "").find(fault) >= 0


def test_what_can_be_used_of_a_broken_config_is(installed: Installed) -> None:
    folder = installed.bare.path / "etc/other"
    folder.mkdir()
    (folder / "10-podwire.conflist").write_text(json.dumps(CONFLIST))
    path = "/etc/other/10-podwire.conflist"
    config = f"cluster: {{source: {{kubernetes: 5}}, mtu: x, conflist: {{path: {path}}}}}"
    installed.node.path("/run/agent.yaml").write_text(config)
    done = installed.uninstall("--config", "/run/agent.yaml")
    assert done.returncode == 0
    assert f"config list {path}, addresses in /var/lib/cni/networks" in done.stderr
    assert "annotations not looked at" in done.stderr
    assert not list(folder.iterdir())


def test_an_api_that_does_not_answer_is_no_clean_node(installed: Installed) -> None:
    done = installed.uninstall("--config", _config(installed, "http://127.0.0.1:1"))
    assert done.returncode == 1
    assert "the node's annotations" in done.stderr


def test_what_no_runtime_reads_for_a_config_list_is_none(installed: Installed) -> None:
    (installed.net_dir / "05-dangling.conflist").symlink_to("/nonexistent/05.conflist")
    (installed.net_dir / "06-folder.conf").mkdir()
    done = installed.uninstall()
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(installed.net_dir.iterdir())) == 2


def test_what_is_kept_by_somebody_is_told_in_its_line_and_the_rest_goes(
    installed: Installed,
) -> None:
    launcher = f"{ROOT}/opt/cni/bin/podwire"
    installed.node.run("mount", "--bind", launcher, launcher)
    done = installed.uninstall()
    assert (done.returncode, done.stderr) == (1, "")
    head, line = done.stdout.splitlines()[-2:]
    assert head.split() == ["LEFT", "WHAT", "REMOVED", "BY", "BECAUSE"]
    assert line.split("  ")[0] == "launcher"
    assert line.endswith("Device or resource busy")
    assert not (installed.bare.path / "opt/podwire").exists()
    again = json.loads(installed.uninstall("-o", "json").stdout)
    assert [one["because"] for one in again["left"]] == ["Device or resource busy"]


def test_what_cannot_be_opened_ends_nothing(installed: Installed) -> None:
    """The agent's lock is a folder, the folder of config lists a link to itself."""
    installed.node.path("/run/podwire/agent.lock").mkdir(parents=True)
    (installed.net_dir / "10-podwire.conflist").unlink()
    installed.net_dir.rmdir()
    installed.net_dir.symlink_to(installed.net_dir)
    done = installed.uninstall()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{ROOT}/run/podwire/agent.lock: Is a directory" in done.stderr
    assert f"{ROOT}/etc/cni/net.d: Too many levels of symbolic links" in done.stderr
    assert not (installed.bare.path / "opt/podwire").exists()
    assert not installed.node.path("/run/podwire").exists()


def test_who_may_not_is_told_so_line_by_line(installed: Installed) -> None:
    words = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    done = installed.node.run(*words, *installed.command(), check=False)
    assert done.returncode in (1, 3)
    assert "Traceback" not in done.stderr
    assert (installed.bare.path / "opt/cni/bin/podwire").exists()
    assert "Permission denied" in done.stdout + done.stderr


def test_usage(installed: Installed) -> None:
    for options in (("--verify", "--force"), ("--wait", "-1"), ("--net-dir", "x")):
        assert installed.uninstall(*options).returncode == 2


def test_a_root_that_is_not_there_proves_nothing(installed: Installed) -> None:
    done = installed.uninstall("--verify", "--root", "/nonexistent")
    assert done.returncode == 2
    assert "/nonexistent" in done.stderr
