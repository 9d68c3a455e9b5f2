"""Anti-spoofing: a pod sends only from its own MAC and addresses, ARP and ND included.

One set of chains for all pods; a pod's link name in `mac_ports` or `ip_ports` turns it on and
elements say what it may use. Also no router advertisements or redirects from a pod, and no
VLAN tags of its own (CVE-2020-10749: a pod must not become the router of its neighbours).
"""

from __future__ import annotations

from ipaddress import IPv6Address

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
    Part,
    Rule,
    equals,
    in_set,
    verdict,
)
from cni_plugin.filter.tables import Chain, Hook
from cni_plugin.model.objects import Element
from ipam.values import IPAddress

ND_ROUTER_ADVERT, ND_NEIGHBOUR_ADVERT, ND_REDIRECT = 134, 136, 137  # RFC 4861 section 4
CHAINS = (
    Chain("mac-guard"),
    Chain("ip-guard"),
    # Before connection tracking (-200 and later): a forged packet makes no entry. In the bridge
    # family -300 is the first of NF_BR_PRI_*. Both numbers are NF_*_PRE_ROUTING = 0.
    Chain("prerouting", Hook("filter", 0, -300)),
)


def _enter() -> tuple[Rule, ...]:
    return (
        Rule("prerouting", (in_set("mac_ports", IIFNAME), verdict("jump", "mac-guard"))),
        Rule("prerouting", (in_set("ip_ports", IIFNAME), verdict("jump", "ip-guard"))),
    )


def _own_mac() -> Rule:
    return Rule("mac-guard", (in_set("macs", IIFNAME, ETHER_SOURCE, negate=True), DROP))


def _icmp(v6: Part, kind: int, *rest: Part) -> Rule:
    return Rule("ip-guard", (v6, ICMPV6, equals(ICMP_TYPE, bytes([kind]), str(kind)), *rest))


def _ip_rules(v4: Part, v6: Part) -> tuple[Rule, ...]:
    """Source addresses, in either family's spelling of "is IPv4" and "is IPv6"."""
    unspecified4 = equals(IP_SOURCE, bytes(4), "0.0.0.0")  # noqa: S104  a source, not a bind
    unspecified6 = equals(IP6_SOURCE, bytes(16), "::")
    dhcp = equals(UDP_DESTINATION, (67).to_bytes(2, "big"), "67")
    return (
        Rule("ip-guard", (v4, in_set("source4", IIFNAME, IP_SOURCE), RETURN)),
        Rule("ip-guard", (v4, unspecified4, UDP, dhcp, RETURN)),  # DHCPDISCOVER, RFC 2131
        _icmp(v6, ND_ROUTER_ADVERT, DROP),
        _icmp(v6, ND_REDIRECT, DROP),
        _icmp(v6, ND_NEIGHBOUR_ADVERT, in_set("source6", IIFNAME, ND_TARGET, negate=True), DROP),
        Rule("ip-guard", (v6, in_set("source6", IIFNAME, IP6_SOURCE), RETURN)),
        Rule("ip-guard", (v6, unspecified6, ICMPV6, RETURN)),  # DAD and MLD, RFC 4862, 3590
        Rule("ip-guard", (DROP,)),
    )


def rules_inet() -> tuple[Rule, ...]:
    """For routed pods: the host's end of the veth is where their packets come in."""
    return (*_enter(), _own_mac(), *_ip_rules(INET_V4, INET_V6))


def rules_bridge() -> tuple[Rule, ...]:
    """For bridge ports: frames, before the bridge learns from them."""
    tagged = tuple(
        Rule("mac-guard", (equals(ETHER_TYPE, data, name), DROP))
        for data, name in ((b"\x81\x00", "8021q"), (b"\x88\xa8", "8021ad"))
    )
    arp = (
        Rule(
            "mac-guard",
            (FRAME_ARP, in_set("macs", IIFNAME, ARP_ETHER_SOURCE, negate=True), DROP),
        ),
        Rule("ip-guard", (FRAME_ARP, equals(ARP_IP_SOURCE, bytes(4), "0.0.0.0"), RETURN)),  # noqa: S104  RFC 5227 probe
        Rule("ip-guard", (FRAME_ARP, in_set("source4", IIFNAME, ARP_IP_SOURCE), RETURN)),
    )
    return (*_enter(), _own_mac(), *tagged, *arp, *_ip_rules(FRAME_V4, FRAME_V6))


def desired_elements(
    family: str, link: str, mac: str, addresses: tuple[IPAddress, ...], *, check_mac: bool, check_ip: bool
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


def link_local(mac: str) -> IPv6Address:
    """The EUI-64 link-local address of a MAC. Source: RFC 4291 appendix A."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + identifier)
