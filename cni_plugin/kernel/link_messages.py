"""The messages of a step about a link, or what hangs on one: addresses, routes, queues."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from cni_plugin.kernel import rtnl
from cni_plugin.kernel.netlink import KernelError, Line, Message
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.refusal import StepFailed
from cni_plugin.model.objects import (
    HOST,
    POD,
    Addr,
    AnyLink,
    Bridge,
    Fdb,
    Ifb,
    Neigh,
    Port,
    PortVlan,
    Redirect,
    RouteTo,
    Tbf,
    Tuned,
    Up,
    Veth,
    Vxlan,
)
from cni_plugin.model.plan import Step, describe


def messages_of(places: Places, step: Step) -> Iterator[Message]:
    """The messages of one step. An object whose link is gone needs none when it is removed."""

    def line() -> str:
        return describe(step)

    obj = step.subject
    if isinstance(obj, (Bridge, Veth, Vxlan, Ifb, AnyLink)):
        yield from _link_messages(places, step, obj, line)
    elif isinstance(obj, Up):
        yield rtnl.change_link(obj.link, rtnl.LinkChange(up=step.wanted is not None), line)
    elif isinstance(obj, (Port, Tuned)):
        if step.wanted is not None:  # a switch has no absence to go back to
            yield _switched(obj, line)
    elif isinstance(obj, (Tbf, Redirect)):
        yield from _queue_messages(places, step, obj, line)
    elif isinstance(obj, PortVlan):
        yield from _vlan_messages(places, step, obj, line)
    elif isinstance(obj, (Addr, Neigh, Fdb, RouteTo)):
        yield from _hanging_messages(places, step, obj, line)


def _switched(obj: Port | Tuned, line: Line) -> Message:
    if isinstance(obj, Port):
        return rtnl.change_port(obj, line)
    change = rtnl.LinkChange(
        queue_length=obj.queue_length, allmulti=obj.allmulti, promisc=obj.promisc
    )
    return rtnl.change_link(obj.link, change, line)


def _link_messages(
    places: Places, step: Step, link: Bridge | Veth | Vxlan | Ifb | AnyLink, line: Line
) -> Iterator[Message]:
    if isinstance(link, Bridge):
        yield from _bridge_messages(places, step, line)
    elif isinstance(link, Veth):
        yield from _veth_messages(places, step, link, line)
    elif isinstance(link, Vxlan):
        yield from _vxlan_messages(step, link, line)
    elif isinstance(link, Ifb) and step.wanted is not None:
        if step.found is None:
            from cni_plugin.kernel import shaping

            yield shaping.new_ifb(link, line)
        yield rtnl.change_link(link.name, rtnl.LinkChange(mtu=link.mtu, alias=link.alias), line)
    else:
        yield rtnl.delete_link(link.name, line)


def _bridge_messages(places: Places, step: Step, line: Line) -> Iterator[Message]:
    bridge = step.subject
    assert isinstance(bridge, Bridge)  # noqa: S101  for the type checker
    if step.wanted is None:
        if not bridge_ports(places, bridge.name):
            yield rtnl.delete_link(bridge.name, line)
    elif step.found is None:
        yield rtnl.new_bridge(bridge, line)
        if bridge.alias:
            yield rtnl.change_link(bridge.name, rtnl.LinkChange(alias=bridge.alias), line)
    else:
        change = rtnl.LinkChange(
            up=bridge.up,
            mac=bridge.mac,
            promisc=bridge.promisc,
            mtu=bridge.mtu,
            vlan_filtering=bridge.vlan_filtering,
        )
        yield rtnl.change_link(bridge.name, change, line)


def bridge_ports(places: Places, name: str) -> tuple[str, ...]:
    """The names of the links in a bridge; none when it is gone."""
    bridge = places.link(HOST, name)
    if bridge is None:
        return ()
    links = map(rtnl.parse_link, places.host.dump(rtnl.dump_links(bridge.ifindex)))
    return tuple(link.name for link in links if link.master == bridge.ifindex)


def _veth_messages(places: Places, step: Step, veth: Veth, line: Line) -> Iterator[Message]:
    if step.wanted is None:
        yield rtnl.delete_link(veth.name, line)
        return
    master = _index(places, HOST, veth.master) if veth.master else 0
    if step.found is None:
        netns_fd = places.netns_fd if veth.peer_place == POD else None
        yield rtnl.new_veth(veth, netns_fd, master, line)
        yield rtnl.change_link(veth.name, rtnl.LinkChange(alias=veth.alias), line)
    else:
        change = rtnl.LinkChange(
            up=veth.up, mac=veth.mac, mtu=veth.mtu, master=master, alias=veth.alias
        )
        yield rtnl.change_link(veth.name, change, line)


def _vxlan_messages(step: Step, vxlan: Vxlan, line: Line) -> Iterator[Message]:
    from cni_plugin.kernel import tunnel  # a call never needs it

    if step.wanted is None:
        yield rtnl.delete_link(vxlan.name, line)
        return
    change = rtnl.LinkChange(alias=vxlan.alias)
    if not isinstance(step.found, Vxlan):
        yield tunnel.new_vxlan(vxlan, line)
    else:
        yield tunnel.change_vxlan(vxlan, line)
        # Not the MAC it has: setting that one too flushes the link's neighbours (net/ipv4/arp.c).
        mac = vxlan.mac if vxlan.mac != step.found.mac else None
        change = change._replace(mac=mac, mtu=vxlan.mtu)
    yield rtnl.change_link(vxlan.name, change, line)


def _queue_messages(
    places: Places, step: Step, obj: Tbf | Redirect, line: Line
) -> Iterator[Message]:
    """A queue or what leads to one: nothing is left to remove when the link is gone."""
    from cni_plugin.kernel import shaping  # few pods have limits

    if step.wanted is None and places.link(HOST, obj.link) is None:
        return
    index = _index(places, HOST, obj.link)
    if isinstance(obj, Tbf):
        yield (shaping.replace_tbf if step.wanted else shaping.delete_tbf)(obj, index, line)
        return
    if isinstance(step.found, Redirect):
        yield from shaping.delete_redirect(step.found, index, line)
    if isinstance(step.wanted, Redirect):
        target = _index(places, HOST, step.wanted.to)
        yield from shaping.new_redirect(step.wanted, index, target, line)


def _vlan_messages(places: Places, step: Step, vlan: PortVlan, line: Line) -> Iterator[Message]:
    link = places.link(HOST, vlan.link)
    if step.wanted is None:
        if link:
            yield rtnl.port_vlan(link.ifindex, vlan.vid, line, remove=True)
        return
    index = _index(places, HOST, vlan.link)
    yield rtnl.port_vlan(index, vlan.vid, line)
    if not vlan.default:
        yield rtnl.port_vlan(index, 1, line, remove=True)


def _hanging_messages(
    places: Places, step: Step, obj: Addr | Neigh | Fdb | RouteTo, line: Line
) -> Iterator[Message]:
    """What hangs on a link: nothing is left to remove when the link is gone."""
    place = getattr(obj, "place", HOST)
    if step.wanted is None and places.link(place, obj.link) is None:
        return
    index = _index(places, place, obj.link)
    replace = step.found is not None
    if isinstance(obj, Neigh):
        yield (rtnl.new_neigh if step.wanted else rtnl.delete_neigh)(obj, index, line)
    elif isinstance(obj, Fdb):
        from cni_plugin.kernel import tunnel

        yield (tunnel.new_fdb if step.wanted else tunnel.delete_fdb)(obj, index, line)
    elif isinstance(obj, Addr):
        if step.wanted:
            yield rtnl.new_address(obj, index, line, replace=replace)
        else:
            yield rtnl.delete_address(obj, index, line)
    elif step.wanted:
        yield rtnl.new_route(obj, index, line, replace=replace)
    else:
        yield rtnl.delete_route(obj, index, line)


def _index(places: Places, place: str, name: str) -> int:
    link = places.link(place, name)
    if link is None:  # gone between looking and acting: the kernel would say ENODEV
        raise StepFailed(
            KernelError(errno.ENODEV, f"ip link show {name}"), Step(Up(place, name), None)
        )
    return link.ifindex
