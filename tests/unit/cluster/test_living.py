"""Who lives on this node, as records say."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from cni_plugin.cluster.living import living
from cni_plugin.cni.values import Attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.record import DONE, PENDING, Record


def record(owner: str, phase: str, *addresses: str) -> Record:
    who = Attachment(owner, "eth0")
    return Record(
        "net", who, phase, "bridge", "/run/netns/x", 7, "", "podwire-ipam", "/d", addresses, ()
    )


def test_every_record_counts_and_one_that_cannot_be_read_means_that_nobody_knows(
    tmp_path: Path,
) -> None:
    records = DiskRecords(str(tmp_path))
    assert living(records) == frozenset()
    records.save(record("a", DONE, "10.244.1.2/24", "2001:db8::2/64"))
    records.save(record("b", PENDING, "10.244.1.3/24"))
    expected = frozenset(map(ip_address, ("10.244.1.2", "2001:db8::2", "10.244.1.3")))
    assert living(records) == expected
    (tmp_path / "attachments" / "net" / "c:eth0").write_text("{")
    assert living(records) is None
