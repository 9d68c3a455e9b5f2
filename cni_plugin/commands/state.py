"""The whole wanted state of one attachment: the mode's objects and the filter's."""

from __future__ import annotations

from cni_plugin import attach
from cni_plugin.attach.wiring import Desired, Wiring, gateway_link
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.problems import OF_ONE_POD
from cni_plugin.filter import guard, masquerade, presence
from cni_plugin.model.objects import (
    POD,
    Element,
    ForwardAccept,
    Ifb,
    Obj,
    RuleChain,
    Veth,
    distinct,
)
from ipam.values import IPNetwork


def desired_state(wiring: Wiring) -> Desired:
    """What ADD makes and CHECK compares with."""
    mode = attach.desired(wiring)
    filters = (*_guard(wiring), *_presence(wiring), *_masquerade(wiring), *_forward(wiring))
    if wiring.conf.runtime.port_mappings:
        filters = (*filters, *_host_ports(wiring))
    objects = _tuned(wiring, (*mode.objects, *_queues(wiring, mode.objects)))
    return mode._replace(objects=distinct((*objects, *filters)))


def owned(objects: tuple[Obj, ...]) -> tuple[Obj, ...]:
    """Those that go with the attachment: the pair, the links it queues in, its elements, its
    network's masquerade chain (which stays while another pod's element leads into it). The rest is
    the node's, shared, or hangs on the pair and goes with it."""
    return tuple(
        obj
        for obj in objects
        if isinstance(obj, (Element, Ifb))
        or (isinstance(obj, Veth) and obj.peer_place == POD)
        or (isinstance(obj, RuleChain) and masquerade.is_network_chain(obj))
    )


def _queues(wiring: Wiring, objects: tuple[Obj, ...]) -> tuple[Obj, ...]:
    """Few pods have limits, and few have settings of their own: what they need is not loaded for
    the others."""
    conf = wiring.conf
    if not (conf.bandwidth.limits or conf.runtime.bandwidth.limits):
        return ()
    from cni_plugin.attach import shaping

    pairs = (obj for obj in objects if isinstance(obj, Veth) and obj.name == wiring.host_link)
    return tuple(obj for pair in pairs for obj in shaping.desired(wiring, pair))


def _tuned(wiring: Wiring, objects: tuple[Obj, ...]) -> tuple[Obj, ...]:
    conf = wiring.conf
    if not conf.sysctls and {conf.queue_length, conf.allmulti, conf.pod_promisc} == {None}:
        return objects
    from cni_plugin.attach import tuning

    return tuning.overridden(objects, tuning.desired(wiring))


def _family(wiring: Wiring) -> str:
    """Ports are guarded in the bridge family, routed links in inet."""
    return "bridge" if wiring.conf.mode == "bridge" else "inet"


def _guard(wiring: Wiring) -> tuple[Obj, ...]:
    conf = wiring.conf
    if not (conf.anti_spoof_mac or conf.anti_spoof_ip):
        return ()
    elements = guard.desired_elements(
        _family(wiring),
        wiring.host_link,
        wiring.pod_mac,
        tuple(ip.address.ip for ip in wiring.addressing.ips),
        check_mac=conf.anti_spoof_mac,
        # A layer-2 attachment has no addresses that we know of.
        check_ip=conf.anti_spoof_ip and conf.ipam is not None,
    )
    return (*guard.desired_chains(_family(wiring)), *elements)


def _presence(wiring: Wiring) -> tuple[Obj, ...]:
    addresses = tuple(ip.address.ip for ip in wiring.addressing.ips)
    if not addresses:
        return ()
    elements = presence.desired_elements(wiring.conf.name, wiring.host_link, addresses)
    # A chain brings the table; one that no hook leads to costs packets nothing.
    return (*guard.desired_chains("inet")[:1], *elements)


def _networks(wiring: Wiring) -> tuple[IPNetwork, ...]:
    return tuple(dict.fromkeys(ip.address.network for ip in wiring.addressing.ips))


def _masquerade(wiring: Wiring) -> tuple[Obj, ...]:
    if not wiring.conf.ip_masq or not wiring.addressing.ips:
        return ()
    kept = (*_networks(wiring), *wiring.conf.non_masquerade_cidrs)
    addresses = tuple(ip.address.ip for ip in wiring.addressing.ips)
    elements = masquerade.desired_elements(wiring.host_link, addresses, kept)
    return (*masquerade.desired_chains(kept), *elements)


def _host_ports(wiring: Wiring) -> tuple[Obj, ...]:
    """Raises InvalidNetworkConfig for a mapping to an address of a version that the pod lacks."""
    from cni_plugin.filter import host_ports  # few pods have any

    conf, versions = wiring.conf, wiring.versions
    if not versions:  # a foreign IPAM plugin has not been asked yet
        return ()
    for index, mapping in enumerate(conf.runtime.port_mappings):
        if mapping.host_ip is not None and mapping.host_ip.version not in versions:
            raise InvalidNetworkConfig(
                f"runtimeConfig.portMappings[{index}].hostIP is {mapping.host_ip}, accepted: an"
                f" address of IPv{versions[0]}, because the pod has no other",
                OF_ONE_POD,
            )
    elements = host_ports.desired_elements(
        wiring.host_link,
        (ip.address.ip for ip in wiring.addressing.ips),
        conf.runtime.port_mappings,
        bridge=gateway_link(conf) if conf.mode == "bridge" else "",
        snat=conf.snat,
    )
    return (*host_ports.CHAINS, *elements)


def _forward(wiring: Wiring) -> tuple[ForwardAccept, ...]:
    drops = wiring.facts.forward_drops
    return tuple(ForwardAccept(net) for net in _networks(wiring) if net.version in drops)
