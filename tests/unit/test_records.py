"""The lock of an attachment, when a signal comes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cni_plugin import disk
from cni_plugin.cni.errors import Interrupted
from cni_plugin.cni.packing import to_text
from cni_plugin.cni.values import Attachment, NetConf, Result
from cni_plugin.disk import DiskRecords
from cni_plugin.model.objects import Element, Ifb, Obj, RuleChain, Veth
from cni_plugin.record import DONE, REMOVING, Record, dump, load
from ipam.lock import acquire

ATTACHMENT = Attachment("id", "eth0")


def _interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt at a lock makes its file and is ended by a signal."""

    def once(path: str, timeout_s: float) -> int:
        if timeout_s:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            raise Interrupted("signal 15")
        return acquire(path, timeout_s)

    monkeypatch.setattr(disk, "acquire", once)


def test_the_file_of_an_interrupted_lock_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _interrupt(monkeypatch)
    with pytest.raises(Interrupted), DiskRecords(str(tmp_path)).lock("net", ATTACHMENT):
        pytest.fail("nobody holds the lock")
    assert list((tmp_path / "locks").iterdir()) == []


def test_the_file_that_another_call_holds_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = DiskRecords(str(tmp_path))
    with records.lock("net", ATTACHMENT):
        held = list((tmp_path / "locks").iterdir())
        _interrupt(monkeypatch)
        with pytest.raises(Interrupted), records.lock("net", ATTACHMENT):
            pytest.fail("another call holds the lock")
        assert list((tmp_path / "locks").iterdir()) == held


def test_a_record_that_says_what_it_was_made_of_can_be_told_by_its_value() -> None:
    """`podwire ipam repair` keeps them in a dict."""
    made = Record(
        "net", Attachment("a", "eth0"), DONE, "ptp", "/run/netns/a", 1, "", "podwire-ipam",
        "/var/lib/cni/networks", ("10.0.0.2",), (), "1" * 32,
        to_text(NetConf("1.1.0", "net", "podwire")), to_text(Result()),
    )  # fmt: skip
    assert load(dump(made)) == made
    assert {load(dump(made)): 1}[made] == 1


@pytest.mark.parametrize("name", ["request", "conf", "result"])
def test_a_record_of_an_older_podwire_is_read(name: str) -> None:
    made = Record(
        "net", Attachment("a", "eth0"), DONE, "ptp", "/run/netns/a", 1, "", "", "", (), ()
    )
    document = json.loads(dump(made))
    del document[name]
    assert load(json.dumps(document).encode()) == made
    document[name] = {"not": "a text"}
    assert load(json.dumps(document).encode()) is None


def _of_a_newer() -> dict[str, Any]:
    """A record as a podwire may write it that does not exist yet."""
    made = Record(
        "net", Attachment("a", "eth0"), DONE, "ptp", "/run/netns/a", 1, "", "", "", ("10.0.0.2",),
        (Veth("pw1"), Element("inet", "ports", ("pw1",)), RuleChain("inet", "masq-1", None, ()),
         Ifb("pwi1")),
    )  # fmt: skip
    document: dict[str, Any] = json.loads(dump(made))
    document["owned"] += [
        ["element", "inet", "floating4", ["10.0.0.2", "a", "b"], "pw1"],
        ["element", "netdev", "ports", ["pw1"]],
        ["policer", "pw1", {"rate": 1}],
        ["seal", []],
    ]
    document |= {"seal": {"of": ["x"]}, "newer": 2}
    return document


def test_what_only_a_newer_podwire_knows_stays_in_the_record() -> None:
    document = _of_a_newer()
    record = load(json.dumps(document).encode())
    assert record is not None
    assert record.owned[:4] == (
        Veth("pw1"),
        Element("inet", "ports", ("pw1",)),
        RuleChain("inet", "masq-1", None, ()),
        Ifb("pwi1"),
    )
    again = json.loads(dump(record._replace(phase=REMOVING)))
    assert again.pop("phase") == REMOVING
    assert {name: again[name] for name in ("seal", "newer")} == {"seal": {"of": ["x"]}, "newer": 2}
    assert again["owned"] == document["owned"]
    assert {record: 1}[record] == 1


def test_who_looks_at_thousands_reads_a_newer_record_too() -> None:
    found = load(json.dumps(_of_a_newer()).encode(), whole=False)
    assert found is not None
    assert (found.addresses, found.owned) == (("10.0.0.2",), ())


@pytest.mark.parametrize(
    ("entry", "obj"),
    [
        (["veth", "pw1", {"of": "a newer one"}], Veth("pw1")),
        (["ifb", "pwi1", 7], Ifb("pwi1")),
        (["chain", "inet", "masq-1", 7], RuleChain("inet", "masq-1", None, ())),
        (
            ["element", "inet", "ports", ["pw1"], "pw1", 7],
            Element("inet", "ports", ("pw1",), owner="pw1"),
        ),
    ],
)
def test_a_newer_podwire_may_tell_more_of_an_object(entry: list[object], obj: Obj) -> None:
    document = _of_a_newer()
    document["owned"] = [entry]
    found = load(json.dumps(document).encode())
    assert found is not None
    assert found.owned == (obj,)


@pytest.mark.parametrize("entry", [[], "veth", 7, None, {"veth": "pw1"}, [7], [["veth"]]])
def test_what_is_no_object_makes_a_record_torn(entry: object) -> None:
    document = _of_a_newer()
    document["owned"].append(entry)
    assert load(json.dumps(document).encode()) is None
