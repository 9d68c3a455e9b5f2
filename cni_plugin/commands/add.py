"""ADD: address, wanted state, difference, apply; everything undone when any of it fails.

Order: the lease is durable and the record written before the first change in the kernel, so that
DEL cleans up whatever moment the process dies at.
"""

from __future__ import annotations

from collections.abc import Iterable

from cni_plugin.attach.wiring import Desired, Wiring
from cni_plugin.cni.errors import CNIError, Conflict, Interrupted
from cni_plugin.cni.packing import read_text, to_text
from cni_plugin.cni.values import Dns, IPConfig, Request, Result
from cni_plugin.commands.delete import clean_up
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.model.names import host_link
from cni_plugin.model.objects import (
    HOST,
    Addr,
    Bridge,
    ForwardAccept,
    Obj,
    RuleChain,
    Sysctl,
    Veth,
    key,
)
from cni_plugin.model.plan import Step, ceded, describe_object, diff, inverse, removal
from cni_plugin.ports import Kernel, Netns, Ports
from cni_plugin.record import DONE, PENDING, Record, noted
from ipam.errors import IpamError
from ipam.lean_typing import NamedTuple
from ipam.values import IpamConf, IPInterface, Lease, Owner

ATTEMPTS = 3  # a parallel ADD may make or remove the bridge between looking and acting
BRIDGED_UNFILTERED = (
    "bridged packets do not pass iptables (net.bridge.bridge-nf-call-iptables is not 1): a Service"
    " whose pod is on this node will not answer its neighbours; load br_netfilter and set it to 1"
)

CUT_OFF = "an earlier ADD of this attachment was cut off: cleaning up after it"
MADE_BEFORE = (
    "another version of podwire has made this attachment, by this very call, and its record cannot"
    " be read as an answer: taken away and made anew"
)


def add(request: Request, ports: Ports) -> Result:
    """Wires the pod. On failure nothing is left: no link, address, rule, lease or record."""
    result = None
    try:
        with (
            ports.netns(request.netns) as netns,
            ports.kernel(netns) as kernel,
            ports.records.lock(request.conf.name, request.attachment),
        ):
            record = ports.records.load(request.conf.name, request.attachment)
            if record is not None and _is_done(request, record):
                answered = read_text(record.result, Result)
                if answered is not None:
                    return _after(request.prev_result, answered)
            _refuse_or_clean(request, record, ports, kernel)
            if request.conf.mode == "bridge" and not kernel.bridged_packets_filtered():
                ports.warn(BRIDGED_UNFILTERED)
            result = _wired(_Call(request, ports, kernel, netns))
    except Interrupted:
        if result is None:
            raise
        ports.warn("a signal came when the pod was wired already: ADD has succeeded")
    return _after(request.prev_result, result)


def _is_done(request: Request, record: Record) -> bool:
    """Whether it was this very call that made the attachment: whoever served it died on the way to
    tell. One that was cut off before is begun anew, like any other."""
    return bool(request.id) and record.request == request.id and record.phase == DONE


def _wired(call: _Call) -> Result:
    try:
        return call.wire()
    except BaseException as error:
        call.give_back()
        if isinstance(error, Interrupted):
            call.sweep()
        raise


def _refuse_or_clean(request: Request, record: Record | None, ports: Ports, kernel: Kernel) -> None:
    """SPEC 1.1.0, ADD: an interface that is there already is an error. What an ADD that was cut
    off left behind is not: it is cleaned up and the call goes on. Nor is what this very call made
    when another podwire noted the answer in words of its own."""
    conf, attachment = request.conf, request.attachment
    again = record is not None and _is_done(request, record)
    ours = record is not None or kernel.host_has(host_link(conf.name, *attachment))
    standing = record is None or (record.phase == DONE and not again)
    if kernel.pod_has(attachment.ifname) and standing:
        raise Conflict(
            f"CNI_IFNAME {attachment.ifname!r} exists already in {request.netns}",
            "this attachment was added before: run DEL first"
            if ours
            else "another plugin or program made it: give this network another CNI_IFNAME",
        )
    if ours:
        ports.warn(MADE_BEFORE if again else CUT_OFF)
        clean_up(request, ports, kernel)


class _Call:
    """One ADD under way: what it has taken, so that it can be given back."""

    def __init__(self, request: Request, ports: Ports, kernel: Kernel, netns: Netns) -> None:
        self._request = request
        self._ports = ports
        self._kernel = kernel
        self._netns = netns
        self._applied: tuple[Step, ...] = ()
        self._made: tuple[Obj, ...] = ()  # goes with the attachment and was not there before
        self._delegated = False
        self._reserved = False

    def wire(self) -> Result:
        ipam = self._request.conf.ipam
        if ipam is None:
            return self._attach(Result())
        if ipam.in_process:
            return self._attach(self._reserve())
        # A foreign plugin may need the interface (dhcp asks through it), so the link comes first.
        self._attach(Result(), PENDING)
        self._delegated = True
        addressing = self._ports.delegate(self._request, ipam.type, "ADD")
        if addressing is None or not addressing.ips:
            raise CNIError(f"{ipam.type} ADD gave no address")
        return self._attach(addressing)

    def give_back(self) -> None:
        """Undoes the call. What cannot be undone is logged; DEL finds it by the record."""
        left: list[CNIError] = []
        for undo in (self._undo, self._made_again):
            try:
                steps = undo()
                left += self._kernel.apply(steps, stop=False).failures if steps else ()
            except CNIError as error:
                left.append(error)
        failures: list[Exception] = [*left]
        for give in (self._undelegate, *(() if left else (self._release, self._forget))):
            try:
                give()
            except (CNIError, IpamError) as error:
                failures.append(error)
        for failure in failures:
            self._ports.warn(f"undoing ADD: {failure}")

    def sweep(self) -> None:
        """A signal may end the call between a step and its note, which `give_back` goes by. So
        what is left is looked for as DEL does, under the same lock, with nothing remembered."""
        try:
            with self._ports.kernel(self._netns) as kernel:
                clean_up(self._request, self._ports, kernel)
        except (CNIError, IpamError) as error:
            self._ports.warn(f"undoing ADD: {error}")

    def _made_again(self) -> tuple[Step, ...]:
        """An answer that was lost hides a step that was done, so what the call set out to make is
        looked for once more."""
        return removal(self._made, self._kernel.observe(self._made))

    def _undelegate(self) -> None:
        """SPEC 1.1.0 section 4: a delegate whose ADD failed gets a DEL."""
        ipam = self._request.conf.ipam
        if self._delegated and ipam:
            self._ports.delegate(self._request, ipam.type, "DEL")

    def _release(self) -> None:
        conf = self._request.conf
        if self._reserved and conf.ipam:
            self._ports.leases.release(conf.ipam, conf.name, owner_of(self._request))

    def _forget(self) -> None:
        self._ports.records.remove(self._request.conf.name, self._request.attachment)

    def _reserve(self) -> Result:
        conf, ports = self._request.conf, self._ports
        assert conf.ipam is not None  # noqa: S101  for the type checker
        leases = ports.leases.reserve(
            conf.ipam, conf.name, owner_of(self._request), conf.runtime.ips
        )
        self._reserved = True
        dns = ports.resolv_conf(conf.ipam.resolv_conf) if conf.ipam.resolv_conf else Dns()
        return addressing_of(conf.ipam, leases, dns)

    def _attach(self, addressing: Result, phase: str = DONE) -> Result:
        """Brings the kernel to the wanted state; looks again when somebody else changed it. phase:
        what the record says then."""
        attempts = ATTEMPTS
        while True:
            wanted = desired_state(self._wiring(addressing))
            own = owned(wanted.objects)
            self._save(PENDING, addressing, wanted, own)
            failure = self._bring_about(wanted, own, fresh=attempts == ATTEMPTS)
            if failure is None:
                break
            attempts -= 1
            if not attempts or not getattr(failure, "stale", False):
                raise failure
        if self._request.conf.enable_dad:
            self._kernel.settled(self._request.attachment.ifname)
        self._save(phase, addressing, wanted, own)
        return wanted.result

    def _bring_about(
        self, wanted: Desired, own: tuple[Obj, ...], *, fresh: bool
    ) -> CNIError | None:
        """Applies the difference, once; the failure that ended it, if any."""
        found = self._kernel.observe((*wanted.objects, *wanted.obsolete), fresh=fresh)
        for route in ceded(wanted.objects, found):
            self._ports.warn(f"{describe_object(route)}: left to another interface that has it")
        steps = (*removal(wanted.obsolete, found), *diff(wanted.objects, found))
        self._made += tuple(obj for obj in own if key(obj) not in found)
        outcome = self._kernel.apply(steps, stop=True)
        self._applied += outcome.done
        return outcome.failures[0] if outcome.failures else None

    def _wiring(self, addressing: Result) -> Wiring:
        request = self._request
        return Wiring(
            conf=request.conf,
            attachment=request.attachment,
            pod=request.pod,
            netns=request.netns,
            addressing=addressing,
            facts=self._kernel.facts(request.conf),
        )

    def _save(self, phase: str, addressing: Result, wanted: Desired, own: tuple[Obj, ...]) -> None:
        made = Made(self._request, self._netns.inode, addressing, wanted, own)
        self._ports.records.save(record_of(made, phase))

    def _undo(self) -> tuple[Step, ...]:
        """The applied steps, inverted, less what other pods may rely on by now."""
        conf = self._request.conf
        mine = host_link(conf.name, *self._request.attachment)
        shared = conf.mode == "bridge" and any(
            port != mine for port in self._kernel.ports(conf.bridge)
        )
        return tuple(
            step for step in inverse(self._applied) if not _stays(step.subject, conf.bridge, shared)
        )


def _stays(obj: Obj, bridge: str, shared: bool) -> bool:
    """Node-wide objects that a failed ADD leaves: forwarding and the base chains (harmless, and
    another ADD may count on them this very moment), and a bridge that has other ports."""
    if isinstance(obj, Sysctl):
        return obj.path in (("ipv4", "ip_forward"), ("ipv6", "conf", "all", "forwarding"))
    if isinstance(obj, RuleChain):
        return obj not in owned((obj,))
    if isinstance(obj, (Bridge, ForwardAccept)) or (
        isinstance(obj, Veth) and obj.peer_place == HOST
    ):
        return shared
    return isinstance(obj, Addr) and obj.place == HOST and obj.link.startswith(bridge) and shared


def owner_of(request: Request) -> Owner:
    """Who the lease of this request belongs to."""
    return Owner(*request.attachment, pod=str(request.pod))


def addressing_of(ipam: IpamConf, leases: Iterable[Lease], dns: Dns) -> Result:
    """What an IPAM plugin would have answered."""
    return Result(ips=tuple(map(_ip_config, leases)), routes=ipam.routes, dns=dns)


class Made(NamedTuple):
    """What an ADD makes, as its record tells it. own: the objects that go with the attachment."""

    request: Request
    netns_inode: int
    addressing: Result
    wanted: Desired
    own: tuple[Obj, ...]


def record_of(made: Made, phase: str) -> Record:
    """The attachment's record before and after the kernel's part."""
    request, ipam = made.request, made.request.conf.ipam
    return Record(
        network=request.conf.name,
        attachment=request.attachment,
        phase=phase,
        mode=request.conf.mode,
        netns=request.netns,
        netns_inode=made.netns_inode,
        pod=str(request.pod),
        ipam_type=ipam.type if ipam else "",
        data_dir=ipam.data_dir if ipam else "",
        addresses=tuple(str(ip.address.ip) for ip in made.addressing.ips),
        owned=noted(made.own),
        request=request.id,
        conf=to_text(request.conf) if phase == DONE else "",
        result=to_text(made.wanted.result) if phase == DONE else "",
    )


def _ip_config(lease: Lease) -> IPConfig:
    address: IPInterface = lease.address
    return IPConfig(address, lease.gateway)


def _after(previous: Result | None, result: Result) -> Result:
    """Later in a chain: what earlier plugins made is passed on, ours comes after it."""
    if previous is None:
        return result
    offset = len(previous.interfaces)
    ips = tuple(
        ip if ip.interface is None else ip._replace(interface=ip.interface + offset)
        for ip in result.ips
    )
    return Result(
        interfaces=previous.interfaces + result.interfaces,
        ips=previous.ips + ips,
        routes=previous.routes + result.routes,
        dns=result.dns if any(result.dns) else previous.dns,
    )
