"""Fixtures of all suites, and the sandbox in which pytest runs.

pytest re-executes itself inside hack/sandbox.sh: its own network, mounts and processes, as root
or in a user namespace. So no test can touch the machine, and what it leaves is killed.

How to write a test with a real kernel (tests/netns, tests/protocol):

    def test_two_pods_reach_each_other(node, runtime):
        first, second = node.pod(), node.pod()
        network = runtime(CONFLIST)               # libcni's part, on `node`
        network.add(first)                        # the result as a dict; Failed carries .code
        result = network.add(second, args="K8S_POD_NAME=b", capabilities={"mac": "..."})
        assert first.ping(result["ips"][0]["address"].split("/")[0])
        network.check(first)
        network.delete(second, netns="")          # a dead sandbox; forget=True: no prevResult
        network.gc([(first.container_id, "eth0")])
        network.status()

- `node`: a fresh node (network and mounts of its own, lo up, empty /run, /etc/cni, ...).
  `make_node("b")` makes more; `node.connect(other, ["192.0.2.1/24"], ["192.0.2.2/24"])` is a
  cable between two. `node.pod()` is a pod; `pod.remove()` takes its namespace away.
- Both have: run("nft", "list", "tables"), ip("-6", "route") as JSON, configure("link set x up"),
  link("eth0"), links(), addresses("eth0"), routes(6), sysctl("net/ipv4/ip_forward"),
  ping(address). node.path("/run/podwire") is a path the test can open.
- `plugin(env, conf)`: one run of podwire on `node`, a Reply: returncode, stdout (bytes), stderr,
  json, code, ok(). `node.plugin("host-local", env, conf)` runs another from `cni_bin`, a folder
  with podwire, podwire-ipam and the reference plugins.
- `snapshot()`: what is on the node. `before.diff(snapshot()) == []` is "nothing is left";
  `.only("links", "files")` and `.without(r"last_reserved|/lock ")` narrow it.
- `need.link_kind("vxlan")`, `need.tool("conntrack")` (tests.support) skip with the reason.
- `tests.support.node.wait_until(condition, "what")` instead of a sleep.

PODWIRE_BIN and PODWIRE_IPAM_BIN put other executables in podwire's place: with the reference
bridge and host-local the harness itself can be proved.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support import need
from tests.support import snapshot as snapshots
from tests.support.node import Node, Reply, open_node
from tests.support.runtime import Runtime

# How long an example takes says more of the machine than of the code.
settings.register_profile("podwire", deadline=None)
settings.load_profile("podwire")

ROOT = Path(__file__).resolve().parent.parent
SANDBOX = ROOT / "hack" / "sandbox.sh"
BY_FOLDER = (
    "unit", "property", "protocol", "netns", "agent", "cluster", "faults", "e2e", "launcher",
    "install",
    "manifests",
)  # fmt: skip
IN_SANDBOX = ("protocol", "netns", "agent", "cluster", "faults", "e2e", "install")
NO_SANDBOX = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Go on inside the sandbox. Where there can be none, the tests that need it are skipped."""
    for folder in ("/usr/sbin", "/sbin"):  # an ordinary user's PATH lacks ip, nft and others
        if folder not in os.environ["PATH"].split(":"):
            os.environ["PATH"] += f":{folder}"
    left = os.environ.get("PODWIRE_SANDBOX")
    if left is not None:
        here = str(Path("/proc/self/ns/net").readlink())
        if here == left:
            raise pytest.UsageError("PODWIRE_SANDBOX is set, but this is the machine's network")
        return
    if config.option.collectonly:
        return
    probe = subprocess.run([SANDBOX, "true"], capture_output=True, text=True, check=False)
    if probe.returncode:
        reason = probe.stderr.strip().splitlines()[-1:] or ["hack/sandbox.sh failed"]
        if os.environ.get("CI"):
            raise pytest.UsageError(f"no sandbox, and CI must not skip the kernel: {reason[0]}")
        config.stash[NO_SANDBOX] = reason[0]
        return
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(config.invocation_params.dir)
    arguments = [sys.executable, "-m", "pytest", *config.invocation_params.args]
    os.execv(SANDBOX, [str(SANDBOX), *arguments])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The folder gives the marker."""
    missing = config.stash.get(NO_SANDBOX, None)
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder in BY_FOLDER:
            item.add_marker(folder)
        if missing and folder in IN_SANDBOX:
            item.add_marker(pytest.mark.skip(reason=missing))


def _executable(variable: str, command: str, module: str, build: Path) -> Path:
    """The installed console script beside this Python, otherwise one that runs the tree."""
    if variable in os.environ:
        return Path(os.environ[variable])
    installed = Path(sys.executable).with_name(command)
    if installed.exists():
        return installed
    script = build / command
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from {module} import main\nsys.exit(main())\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return script


@pytest.fixture(scope="session")
def podwire(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The executable under test."""
    made = tmp_path_factory.mktemp("podwire")
    return _executable("PODWIRE_BIN", "podwire", "cni_plugin.__main__", made)


@pytest.fixture(scope="session")
def podwire_ipam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The IPAM executable under test."""
    made = tmp_path_factory.mktemp("podwire-ipam")
    return _executable("PODWIRE_IPAM_BIN", "podwire-ipam", "ipam.plugin", made)


@pytest.fixture(scope="session")
def cni_bin(tmp_path_factory: pytest.TempPathFactory, podwire: Path, podwire_ipam: Path) -> Path:
    """CNI_PATH: podwire, podwire-ipam and the reference plugins that are on this machine."""
    folder = tmp_path_factory.mktemp("cni-bin")
    (folder / "podwire").symlink_to(podwire)
    (folder / "podwire-ipam").symlink_to(podwire_ipam)
    reference = Path(need.REFERENCE)
    for plugin in reference.iterdir() if reference.is_dir() else ():
        (folder / plugin.name).symlink_to(plugin)
    return folder


@pytest.fixture(scope="session")
def sandbox_unchanged() -> Iterator[None]:
    """No node's plugin may have written outside its node: here is only lo, and no table."""
    yield
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    names = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=False)
    assert (tables.stdout, names.stdout) == ("", ""), "a test reached outside its node"


@pytest.fixture
def make_node(cni_bin: Path, sandbox_unchanged: None) -> Iterator[Callable[[str], Node]]:
    """Makes nodes; all end with the test."""
    with ExitStack() as nodes:
        yield lambda name: nodes.enter_context(open_node(name, cni_bin))
    outside = [name for _, name in socket.if_nameindex() if name != "lo"]
    assert not outside, f"the test left links outside its nodes: {outside}"


@pytest.fixture
def node(make_node: Callable[[str], Node]) -> Node:
    """A fresh node."""
    return make_node("node")


@pytest.fixture
def plugin(node: Node) -> Callable[[Mapping[str, str], Mapping[str, Any] | str | bytes], Reply]:
    """One run of podwire on `node`, as a runtime runs it."""
    return lambda env, conf: node.plugin("podwire", env, conf)


@pytest.fixture
def runtime(node: Node) -> Callable[[Mapping[str, Any]], Runtime]:
    """A runtime for a config list on `node`."""
    return lambda conflist: Runtime(node, conflist)


@pytest.fixture
def snapshot(node: Node) -> Callable[[], snapshots.Snapshot]:
    """What is on `node` now."""
    return lambda: snapshots.take(node)


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with the flags that are shipped."""
    need.tool("gcc")
    built = tmp_path_factory.mktemp("launcher") / "podwire"
    subprocess.run(
        [ROOT / "hack" / "launcher.sh", built], check=True, env={**os.environ, "CC": "gcc"}
    )
    return built


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """podwire's relocatable Python tree, made of the Python that runs the tests by the builder that
    the image uses. PODWIRE_TREE: another one, as built by `make tree`."""
    if "PODWIRE_TREE" in os.environ:
        return Path(os.environ["PODWIRE_TREE"]).resolve()
    need.tool("gcc")
    made = tmp_path_factory.mktemp("tree") / "tree"
    command = [sys.executable, ROOT / "hack" / "tree", made]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "CC": "gcc"})
    return made
