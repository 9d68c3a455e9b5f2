"""STATUS: whether ADD can be served, worded for the reader of `kubectl describe node`."""

from __future__ import annotations

from cni_plugin.cni.errors import NotAvailable
from cni_plugin.cni.values import Request
from cni_plugin.commands.add import BRIDGED_UNFILTERED
from cni_plugin.ports import Ports
from ipam.errors import IpamError
from ipam.values import IpamConf, SetUsage


def status(request: Request, ports: Ports) -> None:
    """Raises NotAvailable (50) when the ranges are exhausted or the store cannot be used."""
    conf = request.conf
    note = ""
    with ports.kernel(None) as kernel:
        if conf.mode == "bridge" and not kernel.bridged_packets_filtered():
            note = BRIDGED_UNFILTERED
            ports.warn(note)
    if conf.ipam is None:
        return
    if not conf.ipam.in_process:
        ports.delegate(request, conf.ipam.type, "STATUS")
        return
    try:
        usage = ports.leases.usage(conf.ipam, conf.name)
    except IpamError as error:
        raise NotAvailable(f"network {conf.name}: {error.msg}", error.details) from error
    for index, one in enumerate(usage):
        if one.used >= one.total:
            raise NotAvailable(
                f"network {conf.name}: {_set_name(conf.ipam, index)} has no free address",
                "; ".join(part for part in (_counts(one), note) if part),
            )


def _set_name(ipam: IpamConf, index: int) -> str:
    return "range set " + ", ".join(str(item.subnet) for item in ipam.range_sets[index])


def _counts(usage: SetUsage) -> str:
    return f"used {usage.used}, cooling {usage.cooling}, total {usage.total}"
