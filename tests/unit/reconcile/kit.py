"""A node made of values: what lives is what the test says."""

from __future__ import annotations

from typing import Any

from cni_plugin.cni.values import Attachment
from cni_plugin.model.names import host_link
from cni_plugin.reconcile.evidence import (
    NETNS_GONE,
    Cached,
    Evidence,
    KernelFacts,
    RuntimeFacts,
    Subject,
)
from cni_plugin.record import DONE, Record

NETWORK = "net"
DATA_DIR = "/data"
ADDRESS = "10.244.0.5"
ID = "c0ffee"
KEY = (NETWORK, ID, "eth0")
NETNS = "/run/netns/cni-1"
LINK = host_link(*KEY)
SOMEBODY = {(NETWORK, "other", "eth0"): Cached("/run/netns/other")}


def record(**changes: Any) -> Record:
    made = Record(
        network=NETWORK,
        attachment=Attachment(ID, "eth0"),
        phase=DONE,
        mode="bridge",
        netns=NETNS,
        netns_inode=4026532001,
        pod="default/web-0",
        ipam_type="podwire-ipam",
        data_dir=DATA_DIR,
        addresses=(ADDRESS,),
        owned=(),
    )
    return made._replace(**changes)


def subject(**changes: Any) -> Subject:
    made = Subject(DATA_DIR, NETWORK, Attachment(ID, "eth0"), (ADDRESS,), 1, record())
    return made._replace(**changes)


def evidence(
    kernel: KernelFacts | None = None,
    cached: dict[tuple[str, str, str], Cached] | None = None,
    netns: dict[str, int] | None = None,
    failure: str = "",
) -> Evidence:
    """Without arguments: everything was looked at, and nobody is there."""
    return Evidence(
        kernel or KernelFacts(),
        RuntimeFacts(SOMEBODY if cached is None else cached, failure),
        {NETNS: NETNS_GONE, "/run/netns/other": 4026532999} if netns is None else netns,
    )
