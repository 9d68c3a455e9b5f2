"""Anti-spoofing: a pod sends only from its own MAC and addresses, ARP and ND included.

One set of chains for all pods; a pod's link name in `ports` turns it on and elements say what it
may use. Also no router advertisements or redirects from a pod, and no VLAN tags of its own
(CVE-2020-10749: a pod must not become the router of its neighbours).

Nearly all packets are data from an own address, and for them one look-up of link, MAC and address
together is enough: each look-up takes about 100 ns. What it does not find is looked at closely.

A pod may have its MAC or its addresses checked alone (`mac_ports`, `ip_ports`). Older podwires
put each pod into both, so with these chains theirs are guarded as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    NOT_ICMPV6,
    RETURN,
    UDP,
    UDP_DESTINATION,
    UNTAGGED,
    VLAN_TYPES,
    Field,
    begins,
    equals,
    in_set,
    verdict,
)
from cni_plugin.model.addresses import link_local
from cni_plugin.model.names import HOST_LINK_PREFIX
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import Hook, Part, Rule
from ipam.lean_typing import NamedTuple
from ipam.values import IPAddress

# RFC 4861 section 4
ND_ROUTER_ADVERT, ND_NEIGHBOUR_SOLICIT, ND_NEIGHBOUR_ADVERT, ND_REDIRECT = 134, 135, 136, 137
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
        mac, versions, arp = (*_TAGGED, _OWN_MAC, _OWN_ARP_MAC), (FRAME_V4, FRAME_V6), True
    else:  # neither ARP nor VLAN tags come here
        mac, versions, arp = (_OWN_MAC,), (INET_V4, INET_V6), False
    also = (UNTAGGED,) if family == "bridge" else ()
    address = _Addresses("source", (IIFNAME,)).rules(*versions, arp=arp)
    both = _Addresses("own", _OWN).rules(*versions, arp=arp)
    return (
        _chain(family, "mac-guard", mac),
        _chain(family, "ip-guard", address),
        _chain(family, "guard", ((verdict("jump", "mac-guard"),), *both)),
        _chain(family, "prerouting", (*_usual(*versions, *also), *_ENTER), PREROUTING),
    )


def _chain(
    family: str, name: str, bodies: Iterable[tuple[Part, ...]], hook: Hook | None = None
) -> RuleChain:
    return RuleChain(family, name, hook, tuple(Rule(name, body) for body in bodies))


_OWN = (IIFNAME, ETHER_SOURCE)  # what a key of `own4` and `own6` begins with


def _usual(v4: Part, v6: Part, *also: Part) -> tuple[tuple[Part, ...], ...]:
    """Data from an own address: nothing else is asked of it. ICMPv6 may be neighbour discovery."""
    return (
        (v4, *also, in_set("own4", *_OWN, IP_SOURCE, prefix=HOST_LINK_PREFIX), RETURN),
        (
            *(v6, NOT_ICMPV6, *also),
            in_set("own6", *_OWN, IP6_SOURCE, prefix=HOST_LINK_PREFIX),
            RETURN,
        ),
    )


_ENTER = (
    (begins(IIFNAME, HOST_LINK_PREFIX, negate=True), RETURN),
    (in_set("ports", IIFNAME), verdict("goto", "guard")),
    (in_set("mac_ports", IIFNAME), verdict("jump", "mac-guard")),
    (in_set("ip_ports", IIFNAME), verdict("jump", "ip-guard")),
)
_OWN_MAC = (in_set("macs", IIFNAME, ETHER_SOURCE, negate=True), DROP)
_OWN_ARP_MAC = (FRAME_ARP, in_set("macs", IIFNAME, ARP_ETHER_SOURCE, negate=True), DROP)
_TAGGED = tuple((equals(ETHER_TYPE, data, name), DROP) for name, data in VLAN_TYPES.items())


class _Addresses(NamedTuple):
    """The sets whose names begin so, and what their keys have before the address."""

    sets: str
    who: tuple[Field, ...]

    def _own(self, address: Field, *, negate: bool = False) -> Part:
        version = 4 if address.size == IP_SOURCE.size else 6
        return in_set(f"{self.sets}{version}", *self.who, address, negate=negate)

    def rules(self, v4: Part, v6: Part, *, arp: bool) -> Iterator[tuple[Part, ...]]:
        """What may be sent, in either family's spelling of "is IPv4" and "is IPv6"; the rest is
        dropped."""
        if arp:
            yield FRAME_ARP, equals(ARP_IP_SOURCE, bytes(4), UNSPECIFIED), RETURN  # RFC 5227
            yield FRAME_ARP, self._own(ARP_IP_SOURCE), RETURN
        dhcp = equals(UDP_DESTINATION, (67).to_bytes(2, "big"), "67")
        yield v4, self._own(IP_SOURCE), RETURN
        yield v4, equals(IP_SOURCE, bytes(4), UNSPECIFIED), UDP, dhcp, RETURN  # RFC 2131
        yield v6, *_icmp(ND_ROUTER_ADVERT), DROP
        yield v6, *_icmp(ND_REDIRECT), DROP
        yield v6, *_icmp(ND_NEIGHBOUR_ADVERT), self._own(ND_TARGET, negate=True), DROP
        yield v6, self._own(IP6_SOURCE), RETURN
        # DAD and MLD, RFC 4862 and 3590. Who asks for another's address keeps it from having it.
        nobody = equals(IP6_SOURCE, bytes(16), "::")
        asks = _icmp(ND_NEIGHBOUR_SOLICIT)
        yield v6, nobody, *asks, self._own(ND_TARGET, negate=True), DROP
        yield v6, nobody, ICMPV6, RETURN
        yield (DROP,)


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
    sources = (*addresses, link_local(mac))

    def made(name: str, *key: str) -> Element:
        return Element(family, name, (link, *key), owner=link)

    if check_mac and check_ip:
        own = (made(f"own{source.version}", mac, str(source)) for source in sources)
        return made("ports"), made("macs", mac), *own
    if check_mac:
        return made("mac_ports"), made("macs", mac)
    if check_ip:
        found = (made(f"source{source.version}", str(source)) for source in sources)
        return made("ip_ports"), *found
    return ()
