"""After a start: attachments whose ADD or removal was cut off, by the last agent's end or a direct
run's.

Nobody was told of such an ADD, so it is rolled back; a removal is finished. Whoever still works on
one holds its lock, and a launcher that lost its agent begins anew under it.
"""

from __future__ import annotations

from cni_plugin.agent.ports import Busy
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf
from cni_plugin.commands.delete import raise_all, remove_attachment
from cni_plugin.disk import DiskRecords
from cni_plugin.ports import Ports
from cni_plugin.record import DONE, PENDING, REMOVING, Record
from ipam.errors import IpamError
from ipam.values import IpamConf

_WHAT = {
    PENDING: "an ADD that was cut off is rolled back",
    REMOVING: "a removal that was cut off is finished",
}


def roll_back(record: Record, ports: Ports) -> str:
    """Takes away what the record tells of, unless somebody works on it. Returns what was done, as
    a sentence, "" for nothing. Raises CNIError and IpamError."""
    try:
        with (
            ports.kernel(None) as kernel,
            ports.records.lock(record.network, record.attachment),
        ):
            now = ports.records.load(record.network, record.attachment)
            if now is None or now.phase == DONE or not _ours(now):
                return ""
            raise_all(remove_attachment(_conf(now), now.attachment, now, ports, kernel))
    except Busy:
        return ""
    container_id, ifname = record.attachment
    return f"{ifname} of {container_id}: {_WHAT.get(now.phase, now.phase)}"


def _ours(record: Record) -> bool:
    """A foreign IPAM plugin must be asked to release, which only DEL can do."""
    ipam = _conf(record).ipam
    return ipam is None or ipam.in_process


def _conf(record: Record) -> NetConf:
    ipam = IpamConf(record.ipam_type, data_dir=record.data_dir) if record.ipam_type else None
    return NetConf("", record.network, "podwire", ipam=ipam)


def recover(records: DiskRecords, ports: Ports) -> tuple[list[str], list[str]]:
    """Rolls back what was cut off: what was done, and what failed, a sentence each. What is wrong
    with one record, whatever it is, keeps none of the others."""
    done: list[str] = []
    failed: list[str] = []
    records.drop_stale_locks()
    for network, name in tuple(records.files()):
        try:
            record = records.load_file(network, name)
            line = roll_back(record, ports) if record and record.phase != DONE else ""
        except Exception as error:  # noqa: BLE001  the next record may be a better one
            known = isinstance(error, (CNIError, IpamError))
            said = str(error) if known else f"{type(error).__name__}: {error}"
            failed.append(f"the record {network}/{name}: {said}")
        else:
            done += [line] if line else []
    return done, failed
