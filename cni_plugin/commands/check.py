"""CHECK: the state ADD would want, compared with what is there; each difference is named."""

from __future__ import annotations

from cni_plugin.cni.errors import Damaged, InvalidNetworkConfig
from cni_plugin.cni.values import Request, Result
from cni_plugin.commands.standing import Standing, tolerant
from cni_plugin.commands.state import desired_state
from cni_plugin.model.objects import POD, Obj, Sysctl
from cni_plugin.model.plan import differences
from cni_plugin.ports import Ports
from ipam.values import Owner

# Of the pod's own sysctls only these are ours to insist on, and those that the config names: a
# later plugin (tuning) may set the others.
GUARDED_SYSCTLS = ("accept_ra",)


def check(request: Request, ports: Ports) -> None:
    """Raises Damaged with every difference, wanted and found. SPEC 1.1.0, CHECK: prevResult is the
    chain's final result; what later plugins changed is tolerated."""
    if request.conf.ipam and not request.conf.ipam.in_process:
        ports.delegate(request, request.conf.ipam.type, "CHECK")
    conf, previous = request.conf, request.prev_result or Result()
    made = Standing(conf, request.attachment, request.pod, request.netns, previous)
    _require_addresses(request, made.addressing)
    faults = list(_lease_faults(request, made.addressing, ports))
    with ports.netns(request.netns) as netns, ports.kernel(netns) as kernel:
        objects = desired_state(made.wiring(kernel.facts(conf))).objects
        wanted = tuple(tolerant(obj, conf) for obj in objects)
        named = _named_sysctls(request)
        wanted = tuple(obj for obj in wanted if _insisted(obj, named))
        faults += differences(wanted, kernel.observe(wanted))
    if faults:
        raise Damaged(
            f"{request.attachment.ifname} of {request.attachment.container_id} is not as ADD left"
            f" it: {faults[0]}",
            "; ".join(faults[1:]),
        )


def _require_addresses(request: Request, addressing: Result) -> None:
    """A result without what ADD answers says nothing that could be compared."""
    if request.conf.ipam is not None and not addressing.ips:
        raise InvalidNetworkConfig(
            f"prevResult has no address of {request.attachment.ifname}, accepted: the result of the"
            " last ADD, which has one at least",
            "SPEC, CHECK: the runtime must send the result of the last ADD",
        )


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


def _named_sysctls(request: Request) -> set[tuple[str, ...]]:
    if not request.conf.sysctls:
        return set()
    from cni_plugin.cni.sysctls import path_of_pod

    return {path_of_pod(path, request.attachment.ifname) for path, _ in request.conf.sysctls}


def _insisted(obj: Obj, named: set[tuple[str, ...]]) -> bool:
    if not isinstance(obj, Sysctl) or obj.place != POD:
        return True
    return obj.path[-1] in GUARDED_SYSCTLS or obj.path in named
