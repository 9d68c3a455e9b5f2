"""The addresses of this node's pods, as the records of their attachments say."""

from __future__ import annotations

from ipaddress import ip_interface

from cni_plugin.disk import DiskRecords
from cni_plugin.record import load
from ipam.values import IPAddress


def living(records: DiskRecords | None = None) -> frozenset[IPAddress] | None:
    """Of all that there is a record of, of those under way too. None when one cannot be read: then
    nobody knows."""
    found: set[IPAddress] = set()
    try:
        for _, data in (records or DiskRecords()).contents():
            record = load(data, whole=False)
            if record is None:
                return None
            found.update(ip_interface(text).ip for text in record.addresses)
    except (OSError, ValueError):
        return None
    return frozenset(found)
