"""The peers file: its form, its faults, and how it is watched."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cni_plugin.cluster import file_source
from cni_plugin.cluster.file_source import FileSource
from cni_plugin.cluster.peers import Peers, parse_peers
from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.cni.errors import InvalidNetworkConfig

WHOLE = """
backend: vxlan
nodes:
- name: a
  podCIDRs: [10.244.1.0/24, "2001:db8:244:1::/64"]
  addresses: [192.0.2.1, "2001:db8:1::1"]
  vtepMACs: {4: "02:00:5E:00:00:01"}
- {name: b, backend: host-gw}
"""
A = Node(
    "a",
    (ip_network("10.244.1.0/24"), ip_network("2001:db8:244:1::/64")),
    (ip_address("192.0.2.1"), ip_address("2001:db8:1::1")),
    ((4, "02:00:5e:00:00:01"),),
    "vxlan",
)


@pytest.mark.parametrize(("me", "backend"), [("a", "vxlan"), ("b", "host-gw"), ("c", "vxlan")])
def test_every_key(me: str, backend: str) -> None:
    assert parse_peers(WHOLE, "f", me) == Cluster(
        (A, Node("b", backend="host-gw")), (), True, backend
    )


def test_the_backend_is_the_agents_own_unless_the_file_says() -> None:
    assert parse_peers("nodes: [{name: a}]", "f", "a") == Cluster((Node("a"),))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes: [{name: a", "f is no YAML"),
        ("nodes: &x [*x]", "f"),
        ("[]", "the document is [], accepted: an object of nodes, backend"),
        ("{}", "nodes is missing"),
        ("nodes: 7", "nodes is 7, accepted: a list of objects, one a node"),
        ("nodes: []\nnode: 1", "node is no key of a peers file, accepted: nodes, backend; did"),
        ("nodes: [{name: a}]\nnodes: []", 'the key "nodes" is there twice'),
        ("nodes: [{name: a}, {name: a}]", 'nodes[1].name is "a", as nodes[0].name is'),
        ("nodes: [{}]", "nodes[0].name is missing"),
        ("nodes: [{name: 1}]", "nodes[0].name is 1"),
        ("nodes: [{name: a/b}]", 'nodes[0].name is "a/b"'),
        ("nodes: [{name: a, x: 1}]", "nodes[0].x is no key"),
        ("nodes: [{name: a, podCIDRs: [10.1.1.5/24]}]", 'nodes[0].podCIDRs[0] is "10.1.1.5/24"'),
        ("nodes: [{name: a, podCIDRs: [7]}]", "nodes[0].podCIDRs[0] is 7, accepted: a range such"),
        ("nodes: [{name: a, podCIDRs: 7}]", "nodes[0].podCIDRs is 7, accepted: a list of ranges"),
        ("nodes: [{name: a, addresses: [x]}]", 'addresses[0] is "x", accepted: an IPv4 or IPv6 '),
        ("nodes: [{name: a, vtepMACs: {5: x}}]", "nodes[0].vtepMACs[5] is 5, accepted: an object"),
        (
            "nodes: [{name: a, podCIDRs: [10.1.0.0/24, 10.2.0.0/24]}]",
            "nodes[0].podCIDRs is 10.1.0.0/24, 10.2.0.0/24, accepted: at most one an IP version",
        ),
        ("nodes: [{name: a, addresses: [1.2.3.4/24]}]", 'nodes[0].addresses[0] is "1.2.3.4/24"'),
        ("nodes: [{name: a, addresses: [true]}]", "nodes[0].addresses[0] is true"),
        ("nodes: [{name: a, vtepMACs: {4: 01:00:5e:00:00:01}}]", "nodes[0].vtepMACs"),
        ("nodes: [{name: a, vtepMACs: {4: '01:00:5e:00:00:01'}}]", "nodes[0].vtepMACs[4]"),
        ("nodes: [{name: a, backend: ipip}]", 'nodes[0].backend is "ipip"'),
    ],
)  # fmt: skip
def test_a_fault_is_told_by_its_path_and_value(text: str, told: str) -> None:
    with pytest.raises(InvalidNetworkConfig) as caught:
        parse_peers(text, "f", "a")
    assert told in str(caught.value)


def test_an_entry_that_was_there_before_is_the_same_object() -> None:
    peers = Peers("f", "a")
    first = peers.parse("nodes: [{name: a, addresses: [192.0.2.1]}, {name: b}, {name: c}]")
    second = peers.parse(
        "nodes: [{name: c}, {name: a, addresses: [192.0.2.1]}, {name: b, backend: vxlan}]"
    )
    assert [node.name for node in second.nodes] == ["c", "a", "b"]
    assert second.nodes[0] is first.nodes[2]
    assert second.nodes[1] is first.nodes[0]
    assert second.nodes[2] == Node("b", backend="vxlan")


def test_the_files_backend_is_in_each_node_that_has_none_of_its_own() -> None:
    peers = Peers("f", "a")
    peers.parse("nodes: [{name: a}, {name: b, backend: host-gw}]")
    again = peers.parse("{nodes: [{name: a}, {name: b, backend: host-gw}], backend: vxlan}")
    assert again == Cluster(
        (Node("a", backend="vxlan"), Node("b", backend="host-gw")), backend="vxlan"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nodes: [{name: a}, {name: b}, {name: b}]", 'nodes[2].name is "b", as nodes[1].name is'),
        ("nodes: [{name: a}, {name: c}, {name: c, backend: vxlan}]", 'nodes[2].name is "c"'),
        ("nodes: [{name: a}, {name: c, podCIDRs: [7]}]", "nodes[1].podCIDRs[0] is 7"),
        (
            "nodes: [{name: a}, {name: c, addresses: [192.0.2.1, 192.0.2.2]}]",
            "nodes[1].addresses is 192.0.2.1, 192.0.2.2, accepted: at most one an IP version",
        ),
        ('{"nodes": [{"name": "a", "name": "a"}]}', 'the key "name" is there twice'),
        ('{"nodes": [{"name": "a"}, {"name": NaN}]}', 'nodes[1].name is "NaN"'),
        ("nodes: [{name: a}, 7]", "nodes[1] is 7"),
        ("nodes: 7", "nodes is 7, accepted: a list of objects, one a node"),
        ("nodes: [{name: a}]\nmore: 1", "more is no key of a peers file"),
        ("nodes: [{name: a}]\nbackend: x", 'backend is "x"'),
        ("nodes: [&x {name: *x}]", "nodes[0].name"),
    ],
)  # fmt: skip
def test_a_fault_among_entries_that_were_good_is_told_as_ever(text: str, told: str) -> None:
    peers = Peers("f", "a")
    before = peers.parse("nodes: [{name: a}, {name: b}]")
    with pytest.raises(InvalidNetworkConfig) as caught:
        peers.parse(text)
    assert told in str(caught.value)
    assert peers.parse("nodes: [{name: a}, {name: b}]").nodes[1] is before.nodes[1]


# watched -----------------------------------------------------------------------------------------


class Watched:
    """A source at work: what it told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clusters: list[Cluster] = []
        self.warnings: list[str] = []
        self.source = FileSource(str(path), "a", self.warnings.append)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  the source knows of no event
                await asyncio.sleep(0.005)

    async def looks(self, count: int = 4) -> None:
        await asyncio.sleep(count * file_source.LOOK_S)

    def names(self) -> list[list[str]]:
        return [[node.name for node in cluster.nodes] for cluster in self.clusters]


def watching(
    path: Path, monkeypatch: pytest.MonkeyPatch, story: Callable[[Watched], Awaitable[None]]
) -> Watched:
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(file_source, name, 0.01)
    watched = Watched(path)

    async def run() -> None:
        task = asyncio.create_task(watched.source.run(watched.clusters.append))
        try:
            await story(watched)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return watched


def replace(path: Path, text: str) -> None:
    """As editors and Kubernetes do: a new file by rename."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(path)


def test_each_new_content_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "peers.yaml"
    path.write_text("nodes: [{name: a}]")

    async def story(watched: Watched) -> None:
        await watched.until(lambda: len(watched.clusters) == 1)
        path.write_text("nodes: [{name: a}, {name: b}]")
        await watched.until(lambda: len(watched.clusters) == 2)
        replace(path, "nodes: [{name: a}, {name: b}] # the same")
        await watched.looks()
        replace(path, "nodes: [{name: b}]")
        await watched.until(lambda: len(watched.clusters) == 3)

    watched = watching(path, monkeypatch, story)
    assert watched.names() == [["a"], ["a", "b"], ["b"]]
    assert watched.warnings == []


@pytest.mark.parametrize("damage", ["garbled", "gone", "bytes", "folder", "fifo", "large"])
def test_a_file_that_is_no_good_changes_nothing_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    path = tmp_path / "peers.yaml"
    path.write_text("nodes: [{name: a}]")
    monkeypatch.setattr(file_source, "BYTES_MAX", 1000)

    def spoil() -> None:
        path.unlink()
        match damage:
            case "garbled":
                replace(path, "nodes: [")
            case "bytes":
                path.write_bytes(b"\xff\xfe")
            case "folder":
                path.mkdir()
            case "fifo":
                os.mkfifo(path)
            case "large":
                path.write_text("#" * 1001)

    async def story(watched: Watched) -> None:
        await watched.until(lambda: watched.clusters)
        spoil()
        await watched.until(lambda: watched.warnings)
        await watched.looks()
        if path.is_dir():
            path.rmdir()
        replace(path, "nodes: [{name: b}]")
        await watched.until(lambda: len(watched.clusters) == 2)

    watched = watching(path, monkeypatch, story)
    assert watched.names() == [["a"], ["b"]]
    reasons = [one for one in watched.warnings if "No such file" not in one or damage == "gone"]
    assert len(reasons) == 1, watched.warnings
    assert str(path) in reasons[0]
    assert reasons[0].endswith("what it said before stays")


def test_a_file_that_comes_later_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "peers.yaml"

    async def story(watched: Watched) -> None:
        await watched.until(lambda: watched.warnings)
        replace(path, "nodes: [{name: a}]")
        await watched.until(lambda: watched.clusters)

    watched = watching(path, monkeypatch, story)
    assert watched.names() == [["a"]]
    assert watched.warnings == [f"cluster: {path} cannot be read: No such file or directory"]


def test_a_file_that_is_being_written_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "peers.yaml"
    path.write_text("nodes:\n- name: n0\n")

    async def story(watched: Watched) -> None:
        monkeypatch.setattr(file_source, "AGAIN_S", 0.05)
        await watched.until(lambda: watched.clusters)
        with path.open("w") as file:
            file.write("nodes:\n")
            for number in range(40):
                file.write(f"- name: n{number}\n")
                file.flush()
                await asyncio.sleep(0.01)
        await watched.until(lambda: len(watched.clusters) == 2)

    assert [len(one) for one in watching(path, monkeypatch, story).names()] == [1, 40]


NEVER_S = 60.0


def _patient(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Awaitable[None]:
    """Once the first content is told, nobody looks by the clock any more."""

    async def wait() -> None:
        await watched.until(lambda: watched.clusters)
        for name in ("LOOK_S", "AGAIN_S"):
            monkeypatch.setattr(file_source, name, NEVER_S)
        await asyncio.sleep(0.05)  # the wait that had begun before

    return wait()


def test_a_file_that_is_renamed_into_place_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "peers.yaml"
    path.write_text("nodes: [{name: a}]")

    async def story(watched: Watched) -> None:
        await _patient(watched, monkeypatch)
        replace(tmp_path / "other.yaml", "nodes: []")
        for name in "bcd":
            replace(path, f"nodes: [{{name: {name}}}]")
            await watched.until(lambda: watched.names()[-1] == [name])  # noqa: B023  at once

    watched = watching(path, monkeypatch, story)
    assert watched.names() == [["a"], ["b"], ["c"], ["d"]]


def test_a_kubernetes_volume_that_is_replaced_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def publish(version: str) -> None:
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        (folder / "peers.yaml").write_text(f"nodes: [{{name: {version}}}]")
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("v1")
    path = tmp_path / "peers.yaml"
    path.symlink_to("..data/peers.yaml")

    async def story(watched: Watched) -> None:
        await _patient(watched, monkeypatch)
        for version in ("v2", "v3"):
            publish(version)
            await watched.until(lambda: watched.names()[-1] == [version])  # noqa: B023  at once

    assert watching(path, monkeypatch, story).names() == [["v1"], ["v2"], ["v3"]]


def test_where_nothing_is_heard_it_is_still_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is replaced whole takes its watch along."""
    path = tmp_path / "folder" / "peers.yaml"
    path.parent.mkdir()
    path.write_text("nodes: [{name: a}]")

    async def story(watched: Watched) -> None:
        await watched.until(lambda: watched.clusters)
        path.parent.rename(tmp_path / "old")
        path.parent.mkdir()
        path.write_text("nodes: [{name: b}]")
        await watched.until(lambda: len(watched.clusters) == 2)

    assert watching(path, monkeypatch, story).names() == [["a"], ["b"]]
