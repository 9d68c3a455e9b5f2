"""`podwire ipam` against real pods: what it sees, what it refuses, what it repairs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.netns.kit import conf, env
from tests.support.node import Node, Pod

Json = dict[str, Any]
STORE = "/var/lib/cni/networks/net"
RECORDS = "/run/podwire/attachments/net"


@pytest.fixture
def ipam(node: Node) -> Callable[..., tuple[int, str]]:
    """`podwire ipam ...` on the node: status and what it said."""
    program = node.cni_bin / "podwire"

    def run(*words: str) -> tuple[int, str]:
        done = node.run(program, "ipam", *words, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture
def two(node: Node, runtime: Callable[[Json], Any]) -> tuple[Any, Pod, Pod]:
    """A network with two pods in the runtime's cache."""
    network = runtime(conf(ipMasq=True))
    pods = node.pod(), node.pod()
    for number, pod in enumerate(pods):
        network.add(pod, args=f"K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{number}")
    return network, *pods


def codes(said: str) -> list[str]:
    return sorted(finding["code"] for finding in json.loads(said))


def test_living_pods_are_seen_and_nothing_is_found(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod]
) -> None:
    _network, first, _second = two
    status, said = ipam("ls")
    assert status == 0
    assert [line.split()[2::2] for line in said.splitlines()[1:]] == [
        ["default/web-0", "live"],
        ["default/web-1", "live"],
    ]
    status, said = ipam("show", "web-0")
    assert (status, first.container_id in said) == (0, True)
    assert "because:    its host link pw" in said
    status, said = ipam("check")
    assert (status, said) == (0, "nothing found in 1 network, 2 reservations, 2 records\n")


def test_a_pod_that_lives_is_not_released_without_force(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod], node: Node
) -> None:
    _network, first, _second = two
    status, said = ipam("release", first.container_id[:12])
    assert status == 1
    assert "is alive, its host link" in said
    before = node.links()
    assert ipam("release", first.container_id, "--force")[0] == 0
    assert len(before - node.links()) == 1
    assert ipam("check")[0] == 0


def test_damage_is_found_and_repaired(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod], node: Node
) -> None:
    _network, first, second = two
    store, records = node.path(STORE), node.path(RECORDS)
    (store / "10.244.0.2").write_bytes(b"")  # torn, of a living pod
    (store / "10.244.0.3").unlink()  # a living pod without a reservation
    (store / "10.244.0.9").touch(mode=0o600)  # torn, of nobody
    (store / "10.244.0.2").chmod(0o644)
    (records / "half:eth0").write_text("{")
    (records / "half:eth0").chmod(0o600)
    status, said = ipam("check", "-o", "json")
    assert status == 1
    assert codes(said) == [
        "leftover",
        "mode",
        "torn-record",
        "torn-reservation",
        "torn-reservation",
        "unreserved-interface",
    ]
    status, said = ipam("repair")
    assert status == 1
    assert "nothing was changed" in said
    assert ipam("check", "-o", "json")[1].count('"code"') == 6
    assert ipam("repair", "--yes")[0] == 0
    assert ipam("check")[0] == 0
    assert (store / "10.244.0.2").read_bytes() == f"{first.container_id}\r\neth0".encode()
    assert (store / "10.244.0.3").read_bytes() == f"{second.container_id}\r\neth0".encode()
    assert not (store / "10.244.0.9").exists()


def test_what_a_dead_pod_leaves_is_found(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod]
) -> None:
    _network, first, _second = two
    first.remove()
    status, said = ipam("check", "-o", "json")
    assert (status, codes(said)) == (1, ["dead-reservation", "element-without-link"])
    assert ipam("repair", "--yes")[0] == 1  # the reservation is for gc
    assert codes(ipam("check", "-o", "json")[1]) == ["dead-reservation"]
    assert ipam("release", first.container_id)[0] == 0
    assert ipam("check")[0] == 0


def test_gc_sees_the_dead_twice(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod], node: Node
) -> None:
    _network, first, _second = two
    first.remove()
    status, said = ipam("gc")
    assert status == 0
    assert "would free 0; kept 1 dead, 1 live" in said
    assert not node.path("/run/podwire/strikes.json").exists()
    assert "freed 0; kept 1 dead, 1 live" in ipam("gc", "--yes")[1]
    strikes = node.path("/run/podwire/strikes.json")
    document = json.loads(strikes.read_text())
    document["strikes"][0]["seen_dead_at_s"] -= 60.0  # a minute ago
    strikes.write_text(json.dumps(document))
    status, said = ipam("gc", "--yes")
    assert (status, said.splitlines()[-1]) == (0, "freed 1; kept 1 live")
    assert "in the runtime's cache only with a dead namespace; so for 6" in said
    assert ipam("check")[0] == 0


def test_gc_keeps_everyone_without_the_runtimes_evidence(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod], node: Node
) -> None:
    _network, first, _second = two
    first.remove()
    next(node.path("/var/lib/cni/results").iterdir()).write_text("")
    said = ipam("gc", "--yes")[1]
    assert "freed 0; kept 1 live, 1 unknown" in said
    assert "does not parse; remove it if its container is gone" in said


def test_migrate_takes_living_pods_along(
    ipam: Callable[..., tuple[int, str]], two: tuple[Any, Pod, Pod], node: Node
) -> None:
    network, first, _second = two
    assert ipam("migrate", "--check", STORE)[0] == 0
    status, said = ipam("migrate", STORE, "/run/networks")
    assert status == 0
    assert "moved 2 reservations" in said
    assert ipam("check")[0] == 0
    network.delete(first)  # with the old config: the record knows
    assert [p.name for p in node.path("/run/networks/net").iterdir() if p.name[0] == "1"] == [
        "10.244.0.3"
    ]


@pytest.mark.parametrize("alive", [False, True], ids=["dead", "links alive"])
def test_gc_verb_frees_60_of_60(
    node: Node, plugin: Callable[..., Any], runtime: Callable[[Json], Any], alive: bool
) -> None:
    """The 253 of reliability.md take a minute to make: see docs/ipam.md for their time."""
    document = conf(ipMasq=True)
    pods = [node.pod() for _ in range(60)]
    for pod in pods:
        plugin(env("ADD", pod), document).ok()
    living = pods.pop()
    if not alive:
        for pod in pods:
            pod.remove()
    valid = [{"containerID": living.container_id, "ifname": "eth0"}]
    started = time.monotonic()
    reply = plugin({"CNI_COMMAND": "GC"}, {**document, "cni.dev/valid-attachments": valid})
    reply.ok()
    assert time.monotonic() - started < 5.0
    held = [p.name for p in node.path(STORE).iterdir() if p.name[0] == "1"]
    assert len(held) == 1
    assert len([name for name in node.links() if name.startswith("pw")]) == 1
    assert node.run("nft", "list", "set", "inet", "podwire", "pods4").stdout.count(" . ") == 2
