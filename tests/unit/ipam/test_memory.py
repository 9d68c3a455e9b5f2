"""What a process remembers of a folder ends with the folder."""

from __future__ import annotations

import os
import shutil
import time
from ipaddress import ip_network
from pathlib import Path

from ipam.disk import DiskLeases
from ipam.files import BOOT_ID
from ipam.memory import Memory
from ipam.values import IpamConf, Owner, Range

NETWORK = ip_network("10.0.0.0/24")
BOOT = "11111111-2222-4333-8444-555555555555"


def test_a_folder_that_was_wiped_is_settled_anew(tmp_path: Path) -> None:
    """Its new lock may well have the old one's inode number: ext4 gives the lowest that is free."""
    conf = IpamConf(
        "podwire-ipam",
        data_dir=str(tmp_path),
        range_sets=((Range(NETWORK, NETWORK[1], NETWORK[254], NETWORK[1]),),),
    )
    store = DiskLeases(lambda *_: False, boot_id=lambda: BOOT, memory=Memory())
    for number in range(3):
        store.take(conf, "net", Owner(f"pod-{number}", "eth0"))
        assert (tmp_path / "net" / BOOT_ID).exists()
        shutil.rmtree(tmp_path / "net")
        time.sleep(0.02)  # how exact a file system's times are


def test_a_folder_that_is_as_it_was_is_known(tmp_path: Path) -> None:
    memory = Memory()
    lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    try:
        assert memory.of(str(tmp_path), lock) is memory.of(str(tmp_path), lock)
    finally:
        os.close(lock)
