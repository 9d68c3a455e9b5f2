"""Reading the evidence: what parses, what is gone, and what only seems so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cni_plugin.reconcile import observe
from cni_plugin.reconcile.evidence import NETNS_GONE, NETNS_UNKNOWN, Cached
from cni_plugin.reconcile.observe import netns_inodes, read_cache


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
