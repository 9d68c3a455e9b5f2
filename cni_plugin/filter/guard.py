"""Anti-spoofing: a pod sends only from its own MAC and addresses, ARP and ND included.

One set of chains for all pods; a pod's link name in `mac_ports` or `ip_ports` turns it on and
elements say what it may use. Also no router advertisements or redirects from a pod, and no
VLAN tags of its own (CVE-2020-10749: a pod must not become the router of its neighbours).
"""

from __future__ import annotations

from cni_plugin.filter.expressions import (
    ARP_ETHER_SOURCE,
    ARP_IP_SOURCE,
    DROP,
    ETHER_SOURCE,
    ETHER_TYPE,
    FRAME_ARP,
    FRAME_V4,
    FRAME_V6,
    ICMP_TYPE,
    ICMPV6,
    IIFNAME,
    INET_V4,
    INET_V6,
    IP6_SOURCE,
    IP_SOURCE,
    ND_TARGET,
    RETURN,
    UDP,
    UDP_DESTINATION,
    equals,
    in_set,
    verdict,
)
from cni_plugin.model.addresses import link_local
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Hook, Part, Rule
from ipam.values import IPAddress

ND_ROUTER_ADVERT, ND_NEIGHBOUR_ADVERT, ND_REDIRECT = 134, 136, 137  # RFC 4861 section 4
UNSPECIFIED = "0.0.0.0"  # noqa: S104  a source address, nothing is bound to it
# Before connection tracking (-200 and later): a forged packet makes no entry. In the bridge
# family -300 is the first of NF_BR_PRI_*. NF_INET_PRE_ROUTING and NF_BR_PRE_ROUTING are 0.
PREROUTING = Hook("filter", 0, -300)


def desired_chains(family: str) -> tuple[RuleChain, ...]:
    """The chains of one family. inet guards routed pods, whose packets come in by the host's end
    of the veth; bridge guards ports, whose frames are seen before the bridge learns from them."""
    if family not in _CHAINS:
        _CHAINS[family] = _chains(family)
    return _CHAINS[family]


_CHAINS: dict[str, tuple[RuleChain, ...]] = {}


def _chains(family: str) -> tuple[RuleChain, ...]:
    if family == "bridge":
        mac, address = (*_TAGGED, _OWN_MAC, _OWN_ARP_MAC), (*_ARP, *_ip_rules(FRAME_V4, FRAME_V6))
    else:
        mac, address = (_OWN_MAC,), _ip_rules(INET_V4, INET_V6)
    return (
        RuleChain(family, "mac-guard", None, mac),
        RuleChain(family, "ip-guard", None, address),
        RuleChain(family, "prerouting", PREROUTING, _ENTER),
    )


_ENTER = (
    Rule("prerouting", (in_set("mac_ports", IIFNAME), verdict("jump", "mac-guard"))),
    Rule("prerouting", (in_set("ip_ports", IIFNAME), verdict("jump", "ip-guard"))),
)
_OWN_MAC = Rule("mac-guard", (in_set("macs", IIFNAME, ETHER_SOURCE, negate=True), DROP))
_OWN_ARP_MAC = Rule(
    "mac-guard", (FRAME_ARP, in_set("macs", IIFNAME, ARP_ETHER_SOURCE, negate=True), DROP)
)
_TAGGED = tuple(
    Rule("mac-guard", (equals(ETHER_TYPE, data, name), DROP))
    for data, name in ((b"\x81\x00", "8021q"), (b"\x88\xa8", "8021ad"))
)
_ARP = (
    Rule("ip-guard", (FRAME_ARP, equals(ARP_IP_SOURCE, bytes(4), UNSPECIFIED), RETURN)),  # RFC 5227
    Rule("ip-guard", (FRAME_ARP, in_set("source4", IIFNAME, ARP_IP_SOURCE), RETURN)),
)


def _ip_rules(v4: Part, v6: Part) -> tuple[Rule, ...]:
    """Source addresses, in either family's spelling of "is IPv4" and "is IPv6"."""
    unspecified4 = equals(IP_SOURCE, bytes(4), UNSPECIFIED)
    unspecified6 = equals(IP6_SOURCE, bytes(16), "::")
    dhcp = equals(UDP_DESTINATION, (67).to_bytes(2, "big"), "67")
    bodies = (
        (v4, in_set("source4", IIFNAME, IP_SOURCE), RETURN),
        (v4, unspecified4, UDP, dhcp, RETURN),  # DHCPDISCOVER, RFC 2131
        (v6, *_icmp(ND_ROUTER_ADVERT), DROP),
        (v6, *_icmp(ND_REDIRECT), DROP),
        (v6, *_icmp(ND_NEIGHBOUR_ADVERT), in_set("source6", IIFNAME, ND_TARGET, negate=True), DROP),
        (v6, in_set("source6", IIFNAME, IP6_SOURCE), RETURN),
        (v6, unspecified6, ICMPV6, RETURN),  # DAD and MLD, RFC 4862 and 3590
        (DROP,),
    )
    return tuple(Rule("ip-guard", body) for body in bodies)


def _icmp(kind: int) -> tuple[Part, ...]:
    return ICMPV6, equals(ICMP_TYPE, bytes([kind]), str(kind))


def desired_elements(
    family: str,
    link: str,
    mac: str,
    addresses: tuple[IPAddress, ...],
    *,
    check_mac: bool,
    check_ip: bool,
) -> tuple[Element, ...]:
    """What one pod may use. family: bridge for a port, inet for a routed link.

    link: the host's end. addresses: the pod's, without its link-local one, which follows from
    the MAC (RFC 4291 appendix A)."""
    elements = []
    if check_mac:
        elements += [
            Element(family, "mac_ports", (link,), owner=link),
            Element(family, "macs", (link, mac), owner=link),
        ]
    if check_ip:
        elements.append(Element(family, "ip_ports", (link,), owner=link))
        elements += [
            Element(family, f"source{address.version}", (link, str(address)), owner=link)
            for address in (*addresses, link_local(mac))
        ]
    return tuple(elements)
