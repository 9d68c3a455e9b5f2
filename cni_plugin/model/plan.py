"""Difference between what is wanted and what is there, as steps that can be listed and undone.

CHECK is "the difference is empty"; rollback is the applied steps, inverted; DEL is the
difference to nothing. There is no other way here to check, undo or clean up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from cni_plugin.model.objects import (
    HOST,
    POD,
    Addr,
    AnyLink,
    Bridge,
    Element,
    Fdb,
    FilterTable,
    ForwardAccept,
    ForwardChain,
    Ifb,
    Key,
    Neigh,
    Obj,
    Port,
    PortVlan,
    Redirect,
    RouteTo,
    RuleChain,
    Sysctl,
    Tbf,
    Tuned,
    TxChecksum,
    Up,
    Veth,
    Vxlan,
    key,
    satisfied,
)
from ipam.lean_typing import Any, NamedTuple

Found = Mapping[Key, Obj]

# The order in which things are made; reversed when they are taken away. The guard's elements come
# before the pod's link is there, so that no frame is ever unguarded; addresses come before the link
# is up, so that the kernel announces them (arp_notify); routes need the link up; queues too come
# before it, so that nothing passes unshaped. What hangs on a link is done for one namespace after
# the other, so that few batches serve.
_ORDER: tuple[type, ...] = (
    FilterTable, RuleChain, Element, Bridge, Veth, Vxlan, Ifb, AnyLink, Port, PortVlan, Sysctl,
    TxChecksum, Tbf, Redirect, Tuned, Addr, Up, Neigh, Fdb, RouteTo, ForwardAccept, ForwardChain,
)  # fmt: skip
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}
_PLACES = {HOST: 0, POD: 1}


class Step(NamedTuple):
    """One change. wanted None: remove found. found None: add wanted. Both: change found."""

    wanted: Obj | None
    found: Obj | None

    @property
    def subject(self) -> Obj:
        obj = self.wanted if self.wanted is not None else self.found
        assert obj is not None  # noqa: S101  a step without both is not constructible by diff
        return obj


def diff(wanted: Iterable[Obj], found: Found) -> tuple[Step, ...]:
    """Steps from found to wanted, in the order they are to be applied. Objects that are found
    but not wanted are left alone: only `removal` takes things away."""
    wanted = tuple(wanted)
    made = {obj.name for obj in wanted if isinstance(obj, Veth) and key(obj) not in found}
    steps = [
        Step(obj, found.get(key(obj)))
        for obj in wanted
        if key(obj) not in found or not satisfied(obj, found[key(obj)])
        if not _ceded(obj, found) and not (isinstance(obj, Port) and _comes_with(obj, made))
    ]
    return tuple(sorted(steps, key=lambda step: _rank(step.subject)))


def _comes_with(port: Port, made: set[str]) -> bool:
    """A port's switches are off when its link is made."""
    return port.link in made and not (port.hairpin or port.isolated)


def ceded(wanted: Iterable[Obj], found: Found) -> tuple[Obj, ...]:
    """Routes that another of the pod's interfaces has: the first one keeps it (a default route,
    mostly), as with the reference plugins. They are neither added nor missed."""
    return tuple(obj for obj in wanted if _ceded(obj, found))


def _ceded(obj: Obj, found: Found) -> bool:
    if not isinstance(obj, RouteTo) or obj.place != POD:
        return False
    there = found.get(key(obj))
    return isinstance(there, RouteTo) and there.link != obj.link


def removal(objects: Iterable[Obj], found: Found) -> tuple[Step, ...]:
    """Steps that take away those of the objects that are found, less what is another's by now."""
    there = ((obj, found[key(obj)]) for obj in objects if key(obj) in found)
    return in_order_of_removal(Step(None, seen) for obj, seen in there if not of_another(obj, seen))


def of_another(obj: Obj, seen: Obj) -> bool:
    """Whether an element, as found, belongs to another attachment: a host port goes from one to
    the next."""
    if not isinstance(obj, Element) or not isinstance(seen, Element):
        return False
    return bool(obj.owner and seen.owner) and obj.owner != seen.owner


def in_order_of_removal(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The pair goes first: all that hangs on it goes with it, and its guard must not go before it
    does. Then the links it queued in, so that one message can delete them all."""
    backwards = sorted(steps, key=lambda step: _rank(step.subject), reverse=True)
    return tuple(sorted(backwards, key=lambda step: _turn_to_go(step.subject)))


def _turn_to_go(obj: Obj) -> int:
    return 0 if isinstance(obj, (Veth, AnyLink)) else 1 if isinstance(obj, Ifb) else 2


def _rank(obj: Obj) -> tuple[int, int]:
    """The namespace's place in the order, and the kind's."""
    return _PLACES[getattr(obj, "place", HOST)], _RANK[type(obj)]


def inverse(steps: Sequence[Step]) -> tuple[Step, ...]:
    """What undoes the applied steps: last first, added is removed, changed is restored."""
    return tuple(Step(step.found, step.wanted) for step in reversed(steps))


def differences(wanted: Iterable[Obj], found: Found) -> tuple[str, ...]:
    """Each difference as one sentence with the wanted and the found value, for CHECK."""
    lines = []
    for step in diff(wanted, found):
        line = describe_object(step.subject)
        if step.found is None:
            lines.append(f"missing: {line}")
        else:
            subject = line if isinstance(step.subject, RouteTo) else _named(step.subject)
            lines.append(f"{subject}: {_fields(step.subject, step.found)}")
    return tuple(lines)


def _named(obj: Obj) -> str:
    return " ".join(str(part) for part in _words(key(obj)) if part)


def _words(parts: Iterable[object]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, tuple):
            yield "/".join(str(inner) for inner in part)
        else:
            yield str(part)


def _fields(wanted: Obj, found: Obj) -> str:
    pairs = zip(type(wanted)._fields, wanted, found, strict=True)
    unequal = [(name, w, f) for name, w, f in pairs if w is not None and w != f]
    if isinstance(wanted, RuleChain):
        return "the rules are not the ones podwire writes"
    return ", ".join(f"{name} wanted {w}, found {f}" for name, w, f in unequal)


def describe(step: Step) -> str:
    """A step as the command a person would type."""
    obj = step.subject
    if step.wanted is None:
        return describe_object(obj, "delete")
    return describe_object(obj, "add" if step.found is None else "change")


def describe_object(obj: Obj, verb: str = "add") -> str:
    """An object as an `ip`, `bridge`, `sysctl` or `nft` line."""
    return _DESCRIBE[type(obj)](obj, verb)


def _in_place(place: str) -> str:
    return "ip -n POD" if place == "pod" else "ip"


def _bridge(obj: Bridge, verb: str) -> str:
    words = [f"ip link {verb} {obj.name}"]
    if verb != "delete":
        words += [f"mtu {obj.mtu}"] if obj.mtu else []
        words += ["up type bridge"]
        words += [f"vlan_filtering {int(obj.vlan_filtering)}"] if obj.vlan_filtering else []
        words += ["promisc on"] if obj.promisc else []
    return " ".join(words)


def _veth(obj: Veth, verb: str) -> str:
    if verb == "delete":
        return f"ip link delete {obj.name}"
    words = [f"ip link {verb} {obj.name}"]
    words += [f"address {obj.mac}"] if obj.mac else []
    words += [f"mtu {obj.mtu}"] if obj.mtu else []
    words += [f"master {obj.master}"] if obj.master else []
    words += ["up"] if obj.up else []
    netns = " netns POD" if obj.peer_place == "pod" else ""
    words += [f"type veth peer name {obj.peer}{netns}"] if obj.peer else []
    words += [f"address {obj.peer_mac}"] if obj.peer_mac else []
    return " ".join(words)


def _vxlan(obj: Vxlan, verb: str) -> str:
    if verb == "delete":
        return f"ip link delete {obj.name}"
    words = [f"ip link {verb} {obj.name}"]
    words += [f"address {obj.mac}"] if obj.mac else []
    words += [f"mtu {obj.mtu}"] if obj.mtu else []
    words += [f"type vxlan id {obj.vni} dstport {obj.port} local {obj.local}"]
    words += [] if obj.learning else ["nolearning"]
    return " ".join(words)


def _ifb(obj: Ifb, verb: str) -> str:
    mtu = f" mtu {obj.mtu}" if obj.mtu and verb != "delete" else ""
    return f"ip link {verb} {obj.name}{mtu}" + (" type ifb" if verb != "delete" else "")


def _any_link(obj: AnyLink, verb: str) -> str:
    return f"{_in_place(obj.place)} link {verb} {obj.name}"


def _port(obj: Port, _verb: str) -> str:
    on = {True: "on", False: "off"}
    return f"bridge link set dev {obj.link} hairpin {on[obj.hairpin]} isolated {on[obj.isolated]}"


def _port_vlan(obj: PortVlan, verb: str) -> str:
    keep = "" if obj.default else " (and no VLAN 1)"
    return f"bridge vlan {verb} dev {obj.link} vid {obj.vid} pvid untagged{keep}"


def _up(obj: Up, verb: str) -> str:
    return f"{_in_place(obj.place)} link set {obj.link} {'down' if verb == 'delete' else 'up'}"


def _addr(obj: Addr, verb: str) -> str:
    nodad = " nodad" if obj.dad is False and obj.address.version == 6 else ""
    noprefix = "" if obj.connected else " noprefixroute"
    return f"{_in_place(obj.place)} address {verb} {obj.address} dev {obj.link}{nodad}{noprefix}"


def _neigh(obj: Neigh, verb: str) -> str:
    entry = f"{obj.address} lladdr {obj.mac} dev {obj.link} nud permanent"
    return f"{_in_place(obj.place)} neighbour {verb} {entry}"


def _fdb(obj: Fdb, verb: str) -> str:
    return f"bridge fdb {verb} {obj.mac} dev {obj.link} dst {obj.dst} self permanent"


def _route(obj: RouteTo, verb: str) -> str:
    words = [f"{_in_place(obj.place)} route {verb} {obj.dst}"]
    words += [f"via {obj.gw}"] if obj.gw else []
    words += [f"dev {obj.link}"]
    words += [f"table {obj.table}"] if obj.table != 254 else []
    default_metric = 1024 if obj.dst.version == 6 else 0
    words += [f"metric {obj.priority}"] if obj.priority != default_metric else []
    words += ["scope link"] if obj.scope == 253 else []
    words += ["onlink"] if obj.onlink else []
    words += [f"mtu {obj.mtu}"] if obj.mtu else []
    words += [f"advmss {obj.advmss}"] if obj.advmss else []
    words += [f"proto {obj.protocol}"] if obj.protocol else []
    return " ".join(words)


def _tx_checksum(obj: TxChecksum, _verb: str) -> str:
    return f"ethtool -K {obj.link} tx {'on' if obj.on else 'off'}"


def _sysctl(obj: Sysctl, _verb: str) -> str:
    where = "ip netns exec POD " if obj.place == "pod" else ""
    return f"{where}sysctl -w net/{'/'.join(obj.path)}={obj.value}"


def _tbf(obj: Tbf, verb: str) -> str:
    if verb == "delete":
        return f"tc qdisc delete dev {obj.link} root"
    size = f"burst {obj.burst}b limit {obj.limit}b"
    return f"tc qdisc {verb} dev {obj.link} root tbf rate {obj.rate * 8}bit {size}"


def _redirect(obj: Redirect, verb: str) -> str:
    line = f"tc filter {verb} dev {obj.link} {obj.hook}"
    if verb == "delete":
        return line
    some = " ".join(map(str, obj.shaped)) or "all"
    but = f" but {' '.join(map(str, obj.unshaped))}" if obj.unshaped else ""
    return f"{line} match {some}{but} action mirred egress redirect dev {obj.to}"


def _tuned(obj: Tuned, verb: str) -> str:
    words = [f"{_in_place(obj.place)} link set {obj.link}"]
    if verb != "delete":
        words += [f"txqueuelen {obj.queue_length}"] if obj.queue_length is not None else []
        words += [
            f"{name} {'on' if on else 'off'}"
            for name, on in (("allmulticast", obj.allmulti), ("promisc", obj.promisc))
            if on is not None
        ]
    return " ".join(words)


def _element(obj: Element, verb: str) -> str:
    goto = f" : goto {obj.goto}" if obj.goto else ""
    goto = f" : {' . '.join(obj.to)}" if obj.to and verb != "delete" else goto
    return f"nft {verb} element {obj.family} podwire {obj.set} {{ {' . '.join(obj.key)}{goto} }}"


def _chain(obj: RuleChain, verb: str) -> str:
    return f"nft {verb} chain {obj.family} podwire {obj.name} ({len(obj.rules)} rules)"


def _filter_table(obj: FilterTable, verb: str) -> str:
    return f"nft {verb} table {obj.family} podwire"


def _forward_chain(obj: ForwardChain, verb: str) -> str:
    if verb != "delete":
        return f"{obj.program} -N PODWIRE-FORWARD"
    rule = f"{obj.program} -D FORWARD -j PODWIRE-FORWARD"
    return f"{rule}; {obj.program} -F PODWIRE-FORWARD; {obj.program} -X PODWIRE-FORWARD"


def _forward(obj: ForwardAccept, verb: str) -> str:
    flag = "-D" if verb == "delete" else "-A"
    tool = "ip6tables" if obj.range.version == 6 else "iptables"
    return f"{tool} {flag} PODWIRE-FORWARD -s {obj.range} -j ACCEPT (and -d {obj.range})"


_DESCRIBE: dict[type, Callable[[Any, str], str]] = {
    Bridge: _bridge, Veth: _veth, Vxlan: _vxlan, Ifb: _ifb, AnyLink: _any_link, Port: _port,
    PortVlan: _port_vlan, Up: _up, Addr: _addr, Neigh: _neigh, Fdb: _fdb, RouteTo: _route,
    TxChecksum: _tx_checksum, Sysctl: _sysctl, Tbf: _tbf, Redirect: _redirect, Tuned: _tuned,
    Element: _element, RuleChain: _chain, FilterTable: _filter_table, ForwardAccept: _forward,
    ForwardChain: _forward_chain,
}  # fmt: skip
