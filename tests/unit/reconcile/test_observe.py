"""Reading the evidence: what parses, what is gone, and what only seems so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.kernel import rtnl
from cni_plugin.kernel.netlink import Received, attr, nested, text
from cni_plugin.reconcile import observe
from cni_plugin.reconcile.evidence import (
    NETNS_GONE,
    NETNS_UNKNOWN,
    Cached,
    KernelFacts,
    RuntimeFacts,
)
from cni_plugin.reconcile.links import name_and_alias
from cni_plugin.reconcile.observe import Observer, netns_inodes, read_cache

from .kit import KEY, LINK, record


def cache_file(folder: Path, name: str, **changes: Any) -> None:
    document = {
        "kind": "cniCacheV1",
        "containerId": "c0ffee",
        "ifName": "eth0",
        "networkName": "net",
        "netns": "/run/netns/a",
        "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web-0"]],
    }
    (folder / name).write_text(json.dumps(document | changes))


def test_the_cache_is_read_by_what_its_files_say(tmp_path: Path) -> None:
    cache_file(tmp_path, "misleading-name")
    cache_file(tmp_path, "b", containerId="beef", cniArgs=None, netns=None)
    cache_file(tmp_path, "foreign", kind="somethingElse")
    facts = read_cache(str(tmp_path))
    assert facts.failure == ""
    assert facts.cached == {
        ("net", "c0ffee", "eth0"): Cached("/run/netns/a", "default/web-0"),
        ("net", "beef", "eth0"): Cached("", ""),
    }
    assert facts.networks == {"net"}


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01", '{"kind": "cniCacheV1"}'])
def test_one_entry_that_does_not_parse_spoils_the_evidence(tmp_path: Path, text: str) -> None:
    cache_file(tmp_path, "good")
    (tmp_path / "bad").write_text(text)
    assert "bad" in read_cache(str(tmp_path)).failure


def test_a_cache_that_is_not_there_is_no_evidence(tmp_path: Path) -> None:
    assert "No such file" in read_cache(str(tmp_path / "results")).failure


def test_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, absent, nowhere = tmp_path / "plain", tmp_path / "absent", tmp_path / "no" / "where"
    plain.touch()
    link = tmp_path / "alive"
    link.symlink_to("/proc/self/ns/net")
    monkeypatch.setattr(observe, "_sees_all_processes", lambda: True)
    dead = "/proc/4194999/ns/net"  # above pid_max
    paths = [str(one) for one in (plain, absent, nowhere, link)]
    assert netns_inodes([*paths, dead]) == {
        str(plain): NETNS_UNKNOWN,
        str(absent): NETNS_GONE,
        str(nowhere): NETNS_UNKNOWN,
        str(link): Path("/proc/self/ns/net").stat().st_ino,
        dead: NETNS_GONE,
    }


def test_another_pid_namespace_knows_nothing_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "_sees_all_processes", lambda: False)
    assert netns_inodes(["/proc/1/ns/net"]) == {"/proc/1/ns/net": NETNS_UNKNOWN}


@pytest.fixture
def glanced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DiskRecords, Observer]:
    """A node with the link of the kit's record, and who looks at it for a list."""
    monkeypatch.setattr(observe, "read_links", lambda: {LINK: ""})
    monkeypatch.setattr(observe, "read_kernel", lambda: KernelFacts({LINK: ""}, {("x", "y"): None}))
    cached = {KEY: Cached("/run/netns/of-the-cache", "default/of-the-cache")}
    monkeypatch.setattr(observe, "read_cache", lambda _path: RuntimeFacts(cached))
    observer = Observer((str(tmp_path),), state_dir=str(tmp_path / "state"), whole=False)
    return DiskRecords(str(tmp_path / "state")), observer


def test_a_list_of_the_living_reads_no_more_than_their_links(
    glanced: tuple[DiskRecords, Observer],
) -> None:
    records, observer = glanced
    records.save(record(data_dir=""))
    evidence = observer.look().evidence
    assert evidence.kernel == KernelFacts({LINK: ""})
    assert evidence.runtime.cached == {}


@pytest.mark.parametrize(
    "other",
    [
        {"attachment": ("beef", "eth0")},  # without a link
        {"pod": ""},  # the cache may know it
        {"netns": ""},
    ],
)
def test_one_that_its_link_does_not_tell_takes_all_evidence(
    glanced: tuple[DiskRecords, Observer], other: dict[str, Any]
) -> None:
    records, observer = glanced
    if "attachment" in other:
        records.save(record(data_dir=""))
        other = {"attachment": Attachment(*other["attachment"])}
    records.save(record(data_dir="", **other))
    evidence = observer.look().evidence
    assert evidence.kernel.present
    assert KEY in evidence.runtime.cached


def test_who_frees_always_has_all_evidence(
    glanced: tuple[DiskRecords, Observer], tmp_path: Path
) -> None:
    records, _observer = glanced
    records.save(record(data_dir=""))
    seen = Observer((str(tmp_path),), state_dir=str(tmp_path / "state")).look()
    assert seen.evidence.kernel.present
    assert KEY in seen.evidence.runtime.cached


@pytest.mark.parametrize(
    "attributes",
    [
        b"",
        text(rtnl.IFLA_IFNAME, "pw1"),
        text(rtnl.IFLA_IFNAME, "pw1")
        + attr(4, bytes(4))
        + text(rtnl.IFLA_IFALIAS, "podwire a b c"),
        text(rtnl.IFLA_IFALIAS, "first") + nested(18, text(20, "inside")) + text(3, "last"),
        text(rtnl.IFLA_IFNAME, "pw1") + text(rtnl.IFLA_IFALIAS, "cut off")[:-6],
    ],
)
def test_a_glance_at_a_link_sees_its_name_and_alias(attributes: bytes) -> None:
    body = rtnl.IFINFO.pack(0, 0, 7, 0, 0) + attributes
    whole = rtnl.parse_link(Received(rtnl.RTM_NEWLINK, 0, body))
    assert name_and_alias(body) == (whole.name, whole.alias)
