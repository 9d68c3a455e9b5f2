"""DEL: the difference to nothing, then the address. Works half-done, twice, without a netns,
without a prevResult and without the record.

The address is free only when the link is gone: a lease given back early could be given twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, NetConf, Request
from cni_plugin.model.names import host_link
from cni_plugin.model.objects import POD, AnyLink, Element, Obj, RuleChain, Veth
from cni_plugin.model.plan import removal
from cni_plugin.ports import Kernel, Netns, Ports
from cni_plugin.record import Record
from ipam.values import IpamConf, Owner


def delete(request: Request, ports: Ports) -> None:
    """SPEC 1.1.0, DEL: what is gone already is success; what cannot be removed is an error, and
    then the address stays reserved."""
    with _netns(request, ports) as netns, ports.kernel(netns) as kernel:
        clean_up(request, ports, kernel)


@contextmanager
def _netns(request: Request, ports: Ports) -> Iterator[Netns | None]:
    """The pod's namespace, when there is still one: all that is ours is found from the host."""
    with ExitStack() as stack:
        netns = None
        if request.netns:
            try:
                netns = stack.enter_context(ports.netns(request.netns))
            except CNIError as error:
                ports.warn(f"DEL goes on without the pod's namespace: {error}")
        yield netns


def clean_up(request: Request, ports: Ports, kernel: Kernel) -> None:
    """Takes one attachment away. A foreign IPAM plugin goes first, as in the reference plugins:
    dhcp gives its lease back through the interface."""
    record = ports.records.load(request.conf.name, request.attachment)
    failures = _delegate_del(request, ports, record)
    failures += remove_attachment(request.conf, request.attachment, record, ports, kernel)
    raise_all(failures)


def remove_attachment(
    conf: NetConf, attachment: Attachment, record: Record | None, ports: Ports, kernel: Kernel
) -> list[CNIError]:
    """Kernel objects, lease, record; what failed. DEL and GC both end here."""
    ipam = _ipam_of(conf, record)
    doomed = record.owned if record else _without_record(conf, attachment, kernel)
    if record is None and ipam and ipam.in_process:
        doomed += _taken_over(conf, attachment, ipam, ports, kernel)
    steps = removal(doomed, kernel.observe(doomed))
    failures = list(kernel.apply(steps, stop=False).failures)
    if failures:
        return failures
    if ipam and ipam.in_process:
        hint = tuple(map(ip_address, record.addresses)) if record else ()
        ports.leases.release(ipam, conf.name, Owner(*attachment), hint)
    ports.records.remove(conf.name, attachment)
    return []


def _without_record(conf: NetConf, attachment: Attachment, kernel: Kernel) -> tuple[Obj, ...]:
    """The link's name follows from the attachment, and its elements bear that name; those that
    masquerade lead to their network's chain."""
    name = host_link(conf.name, *attachment)
    elements = kernel.owned_elements(name)
    leads = ((obj.family, obj.goto) for obj in elements if isinstance(obj, Element) and obj.goto)
    chains = (RuleChain(family, chain, None, ()) for family, chain in dict.fromkeys(leads))
    return (Veth(name), *elements, *chains)


def _taken_over(
    conf: NetConf, attachment: Attachment, ipam: IpamConf, ports: Ports, kernel: Kernel
) -> tuple[AnyLink, ...]:
    """The interface of a pod that the reference plugin added before podwire took its network over:
    we have no link for it, but its lease is in the store. It must go before its address is free."""
    ours = kernel.host_has(host_link(conf.name, *attachment))
    if ours or not kernel.pod_has(attachment.ifname):
        return ()
    if not ports.leases.held(ipam, conf.name, Owner(*attachment)):
        return ()
    return (AnyLink(POD, attachment.ifname),)


def _ipam_of(conf: NetConf, record: Record | None) -> IpamConf | None:
    """Where the lease is: the record knows, whatever the config has become since ADD."""
    if record is None:
        return conf.ipam
    if not record.ipam_type:
        return None
    return IpamConf(type=record.ipam_type, data_dir=record.data_dir)


def _delegate_del(request: Request, ports: Ports, record: Record | None) -> list[CNIError]:
    ipam = _ipam_of(request.conf, record)
    if ipam is None or ipam.in_process:
        return []
    try:
        ports.delegate(request, ipam.type, "DEL")
    except CNIError as error:
        return [error]
    return []


def raise_all(failures: list[CNIError]) -> None:
    """The first failure, with the others in its details."""
    if not failures:
        return
    first, *others = failures
    if others:
        listed = "; ".join(str(error) for error in others)
        first.details = f"{first.details}; also: {listed}" if first.details else f"also: {listed}"
    raise first
