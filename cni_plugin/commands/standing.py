"""An attachment that stands: its wiring follows again from its config and the result it was given.

CHECK compares with it, and repair puts back what of it is missing.
"""

from __future__ import annotations

from cni_plugin.attach.wiring import Facts, Wiring
from cni_plugin.cni.packing import read_text
from cni_plugin.cni.values import Attachment, Interface, IPConfig, NetConf, Pod, Result
from cni_plugin.model.objects import HOST, POD, Addr, Bridge, Ifb, Obj, Veth
from cni_plugin.record import Record
from ipam.lean_typing import NamedTuple


class Standing(NamedTuple):
    """result: what ADD answered; in a chain the final one, which has more than ours in it."""

    conf: NetConf
    attachment: Attachment
    pod: Pod
    netns: str
    result: Result

    def wiring(self, facts: Facts) -> Wiring:
        """What ADD would wire now. A later plugin (tuning) may have given the pod another MAC: the
        result says which."""
        found = self._pod_interface()
        mac = found[1].mac.lower() if found else ""
        runtime = self.conf.runtime._replace(mac=mac or self.conf.runtime.mac)
        return Wiring(
            conf=self.conf._replace(runtime=runtime),
            attachment=self.attachment,
            pod=self.pod,
            netns=self.netns,
            addressing=self.addressing,
            facts=facts,
        )

    @property
    def addressing(self) -> Result:
        """The addresses on our interface, and the result's routes."""
        found = self._pod_interface()
        index = found[0] if found else None
        ips: tuple[IPConfig, ...] = ()
        if self.conf.ipam is not None:
            ips = tuple(ip for ip in self.result.ips if ip.interface in (index, None))
        return Result(ips=ips, routes=self.result.routes if ips else ())

    def as_made(self, facts: Facts) -> Facts:
        """The facts, with what ADD chose in place of what it would choose now: a bridge that is
        made again has the MAC that the pods have in their ARP caches, and the MTU they have."""
        host = [interface for interface in self.result.interfaces if not interface.sandbox]
        if not host:
            return facts
        mac = host[0].mac if self.conf.mode == "bridge" else ""
        return facts._replace(
            fresh_mac=mac or facts.fresh_mac, uplink_mtu=host[0].mtu or facts.uplink_mtu
        )

    def _pod_interface(self) -> tuple[int, Interface] | None:
        for index, interface in enumerate(self.result.interfaces):
            if interface.name == self.attachment.ifname and interface.sandbox:
                return index, interface
        return None


def standing(record: Record) -> Standing | None:
    """None for a record of another podwire that does not say, in words of this one, what the
    attachment is made of."""
    conf, result = read_text(record.conf, NetConf), read_text(record.result, Result)
    if conf is None or result is None:
        return None
    namespace, _slash, name = record.pod.partition("/")
    return Standing(conf, record.attachment, Pod(namespace, name), record.netns, result)


def tolerant(obj: Obj, conf: NetConf) -> Obj:
    """The MTU is insisted on only when the config names it: a bridge's may change later."""
    if isinstance(obj, (Veth, Bridge, Ifb)) and not conf.mtu:
        return obj._replace(mtu=None)
    return obj


def on_host(obj: Obj) -> Obj | None:
    """The object as far as it can be seen without the pod's namespace; None: it is in there."""
    if isinstance(obj, Veth) and obj.peer_place == POD:
        return obj._replace(peer=None, peer_mac=None)
    return obj if getattr(obj, "place", HOST) == HOST else None


def uncontested(objects: tuple[Obj, ...], obsolete: tuple[Obj, ...]) -> tuple[Obj, ...]:
    """Without the gateway addresses, where somebody has put others in their place (forceAddress):
    a later ADD may move a gateway, what is merely put back may not."""
    links = {obj.link for obj in obsolete if isinstance(obj, Addr)}
    return tuple(
        obj
        for obj in objects
        if not (isinstance(obj, Addr) and obj.place == HOST and obj.link in links)
    )
