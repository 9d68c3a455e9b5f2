"""Addresses from another IPAM plugin: it is run as the SPEC says, and its failure is ADD's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.netns.kit import GATEWAY4, MODES, NODE_WIDE, SHARED, Json, conf, env, left
from tests.support import need
from tests.support.node import Node, Pod, Reply
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot

Snap = Callable[[], Snapshot]
STATIC: Json = {
    "type": "static",
    "addresses": [
        {"address": "10.244.0.9/24", "gateway": GATEWAY4},
        {"address": "2001:db8:244::9/64", "gateway": "2001:db8:244::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
}


@pytest.mark.parametrize("mode", MODES)
def test_static_addresses_work_from_add_to_delete(node: Node, snapshot: Snap, mode: str) -> None:
    need.reference_plugin("static")
    before = snapshot()
    document = conf(mode, cniVersion="1.0.0", ipMasq=True, ipam=STATIC)
    network, pod = Runtime(node, document), node.pod()
    network.add(pod)
    assert pod.addresses("eth0") == ["10.244.0.9/24", "2001:db8:244::9/64"]
    assert pod.ping(GATEWAY4)
    network.check(pod)
    network.delete(pod)
    assert left(before, snapshot()) == []


# A plugin that writes down how it was called and then does what its file for the verb says.
_FAKE = """#!/bin/sh
cat > {folder}/$CNI_COMMAND.stdin
env | grep ^CNI_ | sort > {folder}/$CNI_COMMAND.env
echo $CNI_COMMAND >> {folder}/calls
echo "a word from the delegate" >&2
[ ! -e {folder}/$CNI_COMMAND.sh ] || . {folder}/$CNI_COMMAND.sh
"""
_ANSWER: Json = {
    "cniVersion": "1.1.0",
    "ips": [{"address": "10.244.0.9/24", "gateway": GATEWAY4}],
    "routes": [{"dst": "0.0.0.0/0"}],
}
_REFUSAL: Json = {"cniVersion": "1.1.0", "code": 123, "msg": "no lease", "details": "server down"}


@dataclass
class Fake:
    """A foreign IPAM plugin of the test's own, `fake-ipam`, in CNI_PATH."""

    node: Node
    folder: Path

    def on(self, verb: str, script: str) -> None:
        (self.folder / f"{verb}.sh").write_text(script)

    def answers(self, verb: str, document: Json, status: int = 0) -> None:
        self.on(verb, f"echo '{json.dumps(document)}'\nexit {status}\n")

    def call(self, verb: str, pod: Pod, mode: str = "bridge", **changes: object) -> Reply:
        path = f"{self.folder}:{self.node.cni_bin}"
        document = conf(mode, ipam={"type": "fake-ipam", "its": "own keys"}, **changes)
        return self.node.plugin("podwire", env(verb, pod, CNI_PATH=path), document)

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().split() if log.exists() else []


@pytest.fixture
def fake(node: Node, tmp_path: Path) -> Fake:
    program = tmp_path / "fake-ipam"
    program.write_text(_FAKE.format(folder=tmp_path))
    program.chmod(0o755)
    made = Fake(node, tmp_path)
    made.answers("ADD", _ANSWER)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_the_delegates_address_is_the_pods(node: Node, fake: Fake, mode: str) -> None:
    pod = node.pod()
    result = fake.call("ADD", pod, mode).ok().json
    assert pod.addresses("eth0") == ["10.244.0.9/24"]
    assert result["ips"][0]["address"] == "10.244.0.9/24"
    assert pod.ping(GATEWAY4)


def test_the_delegate_gets_the_same_environment_and_the_complete_config(
    node: Node, fake: Fake
) -> None:
    pod = node.pod()
    fake.call("ADD", pod).ok()
    given = dict(line.split("=", 1) for line in (fake.folder / "ADD.env").read_text().splitlines())
    assert given == {**env("ADD", pod), "CNI_PATH": f"{fake.folder}:{node.cni_bin}"}
    assert json.loads((fake.folder / "ADD.stdin").read_text()) == conf(
        ipam={"type": "fake-ipam", "its": "own keys"}
    )


def test_the_delegates_stderr_is_passed_through(node: Node, fake: Fake) -> None:
    assert "a word from the delegate" in fake.call("ADD", node.pod()).stderr


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_the_delegates_error_is_ours_with_its_code(node: Node, fake: Fake, verb: str) -> None:
    pod = node.pod()
    previous = {} if verb == "ADD" else {"prevResult": fake.call("ADD", pod).ok().json}
    fake.answers(verb, _REFUSAL, status=1)
    reply = fake.call(verb, pod, **previous)
    assert reply.code == 123
    assert reply.json["msg"] == f"fake-ipam {verb}: no lease"
    assert reply.json["details"].startswith("server down")


FAILURES = {
    "an error": f"echo '{json.dumps(_REFUSAL)}'; exit 1",
    "silence": "exit 1",
    "no JSON": "echo oops",
    "no address": 'echo \'{"cniVersion": "1.1.0"}\'',
    "death": "kill -KILL $$",
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("mode", MODES)
def test_when_the_delegates_add_fails_its_delete_is_run_and_nothing_is_left(
    node: Node, snapshot: Snap, fake: Fake, mode: str, failure: str
) -> None:
    fake.on("ADD", FAILURES[failure])
    pod, before = node.pod(), snapshot()
    reply = fake.call("ADD", pod, mode)
    assert reply.returncode == 1
    assert "fake-ipam" in reply.json["msg"]
    assert fake.calls == ["ADD", "DEL"]
    assert left(before, snapshot(), kept=SHARED) == []
    assert pod.links() == set()


def test_a_delegates_child_that_holds_stdout_does_not_hold_the_pod(node: Node, fake: Fake) -> None:
    """The plugin has answered and ended; what it left running must not cost the runtime a
    minute."""
    fake.on(
        "ADD",
        f"sleep 50 & echo $! > {fake.folder}/child\necho '{json.dumps(_ANSWER)}'\n",
    )
    try:
        assert fake.call("ADD", node.pod()).ok().seconds < 20
    finally:
        node.run("sh", "-c", f"kill $(cat {fake.folder}/child)")


def test_when_wiring_fails_after_the_delegate_its_address_is_given_back(
    node: Node, snapshot: Snap, fake: Fake
) -> None:
    far = {**_ANSWER, "routes": [{"dst": "203.0.113.0/24", "gw": "192.0.2.99"}]}
    fake.answers("ADD", far)
    pod, before = node.pod(), snapshot()
    assert fake.call("ADD", pod).code == 103
    assert fake.calls == ["ADD", "DEL"]
    assert left(before, snapshot(), kept=SHARED) == []


def test_delete_runs_the_delegate_while_the_interface_is_there(node: Node, fake: Fake) -> None:
    """dhcp gives its lease back through it."""
    fake.on("DEL", f"nsenter --net=$CNI_NETNS ip link show eth0 > {fake.folder}/seen")
    pod = node.pod()
    fake.call("ADD", pod).ok()
    fake.call("DEL", pod).ok()
    assert "eth0" in (fake.folder / "seen").read_text()
    assert pod.links() == set()


def test_a_delegate_that_fails_to_delete_does_not_keep_the_interface(
    node: Node, snapshot: Snap, fake: Fake
) -> None:
    pod, before = node.pod(), snapshot()
    fake.call("ADD", pod).ok()
    fake.answers("DEL", _REFUSAL, status=1)
    assert fake.call("DEL", pod).code == 123
    assert pod.links() == set()
    fake.on("DEL", "exit 0")
    fake.call("DEL", pod).ok()
    assert left(before, snapshot(), kept=NODE_WIDE) == []


@pytest.mark.parametrize("verb", ["STATUS", "GC"])
def test_status_and_gc_ask_the_delegate(node: Node, fake: Fake, verb: str) -> None:
    more = {"cni.dev/valid-attachments": []} if verb == "GC" else {}
    fake.call(verb, node.pod(), **more).ok()
    assert fake.calls == [verb]


def test_a_delegate_that_is_not_there_is_named(node: Node, snapshot: Snap) -> None:
    pod, before = node.pod(), snapshot()
    reply = node.plugin("podwire", env("ADD", pod), conf(ipam={"type": "no-such-ipam"}))
    assert reply.code == 4
    assert "no-such-ipam" in reply.json["msg"]
    assert left(before, snapshot(), kept=SHARED) == []
