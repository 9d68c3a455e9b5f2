"""CHECK: the state ADD would want, compared with what is there; each difference is named."""

from __future__ import annotations

from cni_plugin.attach.wiring import Wiring
from cni_plugin.cni.errors import Damaged
from cni_plugin.cni.values import Interface, IPConfig, NetConf, Request, Result
from cni_plugin.commands.state import desired_state
from cni_plugin.model.objects import POD, Bridge, Obj, Sysctl, Veth
from cni_plugin.model.plan import differences
from cni_plugin.ports import Ports
from ipam.values import Owner

# Of the pod's own sysctls only these are ours to insist on: `tuning` may set the others.
GUARDED_SYSCTLS = ("accept_ra",)


def check(request: Request, ports: Ports) -> None:
    """Raises Damaged with every difference, wanted and found. SPEC 1.1.0, CHECK: prevResult is the
    chain's final result; what later plugins changed is tolerated."""
    previous = request.prev_result or Result()
    if request.conf.ipam and not request.conf.ipam.in_process:
        ports.delegate(request, request.conf.ipam.type, "CHECK")
    addressing = _ours(request, previous)
    faults = list(_lease_faults(request, addressing, ports))
    with ports.netns(request.netns) as netns, ports.kernel(netns) as kernel:
        wiring = Wiring(
            conf=_with_final_mac(request, previous),
            attachment=request.attachment,
            pod=request.pod,
            netns=request.netns,
            addressing=addressing,
            facts=kernel.facts(request.conf),
        )
        wanted = tuple(_tolerant(obj, request) for obj in desired_state(wiring).objects)
        wanted = tuple(obj for obj in wanted if _insisted(obj))
        faults += differences(wanted, kernel.observe(wanted))
    if faults:
        raise Damaged(
            f"{request.attachment.ifname} of {request.attachment.container_id} is not as ADD left"
            f" it: {faults[0]}",
            "; ".join(faults[1:]),
        )


def _pod_interface(request: Request, previous: Result) -> tuple[int, Interface] | None:
    for index, interface in enumerate(previous.interfaces):
        if interface.name == request.attachment.ifname and interface.sandbox:
            return index, interface
    return None


def _ours(request: Request, previous: Result) -> Result:
    """The addresses on our interface, and the result's routes."""
    found = _pod_interface(request, previous)
    index = found[0] if found else None
    ips: tuple[IPConfig, ...] = ()
    if request.conf.ipam is not None:
        ips = tuple(ip for ip in previous.ips if ip.interface in (index, None))
    return Result(ips=ips, routes=previous.routes if ips else ())


def _with_final_mac(request: Request, previous: Result) -> NetConf:
    """A later plugin (tuning) may have given the pod another MAC: the result says which."""
    found = _pod_interface(request, previous)
    mac = found[1].mac.lower() if found else ""
    runtime = request.conf.runtime._replace(mac=mac or request.conf.runtime.mac)
    return request.conf._replace(runtime=runtime)


def _lease_faults(request: Request, addressing: Result, ports: Ports) -> tuple[str, ...]:
    ipam = request.conf.ipam
    if ipam is None or not ipam.in_process:
        return ()
    hint = tuple(ip.address.ip for ip in addressing.ips)
    held = ports.leases.held(ipam, request.conf.name, Owner(*request.attachment), hint)
    return tuple(
        f"missing: the reservation of {address} in {ipam.data_dir}/{request.conf.name}"
        for address in hint
        if address not in held
    )


def _tolerant(obj: Obj, request: Request) -> Obj:
    """The MTU is insisted on only when the config names it: a bridge's may change later."""
    if isinstance(obj, (Veth, Bridge)) and not request.conf.mtu:
        return obj._replace(mtu=None)
    return obj


def _insisted(obj: Obj) -> bool:
    return not isinstance(obj, Sysctl) or obj.place != POD or obj.path[-1] in GUARDED_SYSCTLS
