"""DEL: the difference to nothing, then the address. Works half-done, twice, without a netns,
without a prevResult and without the record.

The address is free only when the link is gone: a lease given back early could be given twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address

from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, NetConf, Request
from cni_plugin.model.names import IFB_PREFIX, host_link, ifb
from cni_plugin.model.objects import POD, AnyLink, Element, Ifb, Obj, RuleChain, Veth, key
from cni_plugin.model.plan import Found, removal
from cni_plugin.ports import Kernel, Netns, Ports
from cni_plugin.record import REMOVING, Record
from ipam.errors import IpamError
from ipam.lean_typing import NamedTuple
from ipam.values import IpamConf, Owner

FEW = 32  # objects; an attachment has about ten


def delete(request: Request, ports: Ports) -> None:
    """SPEC 1.1.0, DEL: what is gone already is success; what cannot be removed is an error, and
    then the address stays reserved."""
    with (
        _netns(request, ports) as netns,
        ports.kernel(netns) as kernel,
        ports.records.lock(request.conf.name, request.attachment),
    ):
        if request.undoes and not _made_by(request.undoes, request, ports):
            ports.warn("nothing to undo: the attachment is not that call's")
            return
        clean_up(request, ports, kernel)


def _made_by(call: str, request: Request, ports: Ports) -> bool:
    """Whether the attachment, as it is now, is what that call has made."""
    record = ports.records.load(request.conf.name, request.attachment)
    return record is not None and record.request == call


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
    """Kernel objects, lease, record; what failed."""
    return remove_attachments(conf, {attachment: record}, ports, kernel).failures


class Removed(NamedTuple):
    """The attachments that are gone, and what failed with the others."""

    done: list[Attachment]
    failures: list[CNIError]


def remove_attachments(
    conf: NetConf, doomed: Mapping[Attachment, Record | None], ports: Ports, kernel: Kernel, *,
    there: bool = False,
) -> Removed:  # fmt: skip
    """Takes attachments away, each with its record if there is one: what fails with one does not
    keep the others. DEL, GC and the reconciler all end here. there: they are alive, as far as
    anybody knows, however many they are."""
    for record in doomed.values():
        _mark(record, ports)
    objects = _objects(conf, doomed, ports, kernel)
    everything = tuple(dict.fromkeys(obj for owned in objects.values() for obj in owned))
    steps = removal(everything, _found(everything, kernel, there=there))
    outcome = kernel.apply(steps, stop=False)
    left = {key(step.subject) for step in steps} - {key(step.subject) for step in outcome.done}
    result = Removed([], list(outcome.failures))
    for attachment, record in doomed.items():
        if left and any(key(obj) in left for obj in objects[attachment]):
            continue  # its address stays reserved
        try:
            _forget(conf, attachment, record, ports)
        except CNIError as error:
            result.failures.append(error)
        except IpamError as error:
            result.failures.append(CNIError(error.msg, error.details, code=error.code))
        else:
            result.done.append(attachment)
    return result


def _mark(record: Record | None, ports: Ports) -> None:
    """From here on nobody puts anything back. Where it cannot be written the removal goes on."""
    if record is None or record.phase == REMOVING:
        return
    try:
        ports.records.save(record._replace(phase=REMOVING))
    except CNIError as error:
        ports.warn(f"the attachment is not marked as being removed: {error}")


def _found(objects: Sequence[Obj], kernel: Kernel, *, there: bool) -> Found:
    """A few are taken to be there without asking: what is gone already costs nothing but the
    attempt. Of many, most may be gone (after a flush, or the end of their namespaces). A host port
    may be another pod's by now."""
    if len(objects) > FEW and not there:
        return kernel.observe(objects)
    found = {key(obj): obj for obj in objects}
    passing = [obj for obj in objects if isinstance(obj, Element) and obj.owner]
    if passing:
        for obj in passing:
            found.pop(key(obj), None)
        found |= kernel.observe(passing)
    return found


def _forget(conf: NetConf, attachment: Attachment, record: Record | None, ports: Ports) -> None:
    """Lease and record, when nothing in the kernel is left."""
    ipam = _ipam_of(conf, record)
    if ipam and ipam.in_process:
        hint = tuple(map(ip_address, record.addresses)) if record else ()
        ports.leases.release(ipam, conf.name, Owner(*attachment), hint)
    ports.records.remove(conf.name, attachment)


def _objects(
    conf: NetConf, doomed: Mapping[Attachment, Record | None], ports: Ports, kernel: Kernel
) -> dict[Attachment, tuple[Obj, ...]]:
    """What goes with each attachment: its record knows, or it is found."""
    lost = [attachment for attachment, record in doomed.items() if record is None]
    names = {attachment: host_link(conf.name, *attachment) for attachment in lost}
    elements = kernel.owned_elements(*names.values()) if lost else ()
    found: dict[Attachment, tuple[Obj, ...]] = {}
    for attachment, record in doomed.items():
        if record is not None:
            found[attachment] = record.owned
            continue
        name = names[attachment]
        found[attachment] = _without_record(name, [e for e in elements if e.owner == name])
        if conf.ipam and conf.ipam.in_process:
            found[attachment] += _taken_over(conf, attachment, conf.ipam, ports, kernel)
    return found


def _without_record(link: str, elements: Sequence[Element]) -> tuple[Obj, ...]:
    """The link's name follows from the attachment, and its elements bear that name; those that
    masquerade lead to their network's chain."""
    leads = dict.fromkeys((element.family, element.goto) for element in elements if element.goto)
    chains = (RuleChain(family, chain, None, ()) for family, chain in leads)
    queues = (Ifb(ifb(direction, link)) for direction in IFB_PREFIX)
    return (Veth(link), *queues, *elements, *chains)


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
