"""Host ports: what comes to a port of the node goes to a pod.

A mapping is an element of a map, by address or for all addresses; the rules are the same for every
pod and are there from the first pod on that asks. Only what is for the node itself is translated,
and behind everybody else's translation: a Service that has the same port keeps it (CVE-2019-9946,
CVE-2025-67499). 127.0.0.0/8 and ::1 lead to no pod: the kernel would have to route them
(route_localnet), which opens what listens there to the pods (CVE-2020-8558).

An answer must come back through the node, or nobody translates it back. Where it would not, the
caller is masqueraded: a pod that calls itself, and a pod that calls a neighbour on its bridge.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network

from cni_plugin.cni.values import PortMapping
from cni_plugin.filter.expressions import (
    DESTINATION,
    IIFNAME,
    IS,
    L4PROTO,
    MASQUERADE,
    RETURN,
    SOURCE,
    TRANSPORT,
    Field,
    in_set,
    verdict,
    within,
)
from cni_plugin.model.objects import Element, RuleChain
from cni_plugin.model.rules import (
    Compare,
    ConnectionStatus,
    DestinationNat,
    DestinationType,
    Hook,
    Load,
    Lookup,
    Mask,
    Part,
    Rule,
)
from ipam.values import IPAddress

# NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING. The first translation of a
# connection counts: so behind NF_IP_PRI_NAT_DST (-100), where kube-proxy and iptables are, and
# before NF_IP_PRI_NAT_SRC (100). linux/netfilter_ipv4.h
INCOMING, OUTGOING, RETURNING = Hook("nat", 0, -90), Hook("nat", 3, -90), Hook("nat", 4, 99)
CHAIN = "host-ports"
LOOPBACK = {4: ip_network("127.0.0.0/8"), 6: ip_network("::1/128")}
PORT = Field("th dport", Load("payload", TRANSPORT, 2, 2), 4)  # the same of TCP, UDP and SCTP
RTN_LOCAL, IPS_DST_NAT = 2, 1 << 5  # linux/rtnetlink.h; linux/netfilter/nf_conntrack_common.h


def _native(number: int) -> bytes:
    return number.to_bytes(4, sys.byteorder)


LOCAL = Part("fib daddr type local", (DestinationType(), Compare(_native(RTN_LOCAL))))
TRANSLATED = Part(
    "ct status dnat",
    (ConnectionStatus(), Mask(_native(IPS_DST_NAT)), Compare(bytes(4), negate=True)),
)


def _translate(version: int, name: str, *fields: Field) -> tuple[Part, ...]:
    """Destination NAT to what the map has for the fields, if it has anything."""
    loads = in_set(name, *fields)
    family = "ip" if version == 4 else "ip6"
    text = f"dnat {family} to {loads.text.replace('@', 'map @')}"
    exprs = (*loads.exprs[:-1], Lookup(name, data=True), DestinationNat(version))
    return IS[version], Part(text, exprs)


def _leading(version: int) -> Iterator[tuple[Part, ...]]:
    yield IS[version], within(DESTINATION[version], LOOPBACK[version]), RETURN
    yield _translate(version, f"hostports{version}_at", DESTINATION[version], L4PROTO, PORT)
    yield _translate(version, f"hostports{version}", L4PROTO, PORT)


def _returning(version: int) -> Iterator[tuple[Part, ...]]:
    itself = in_set(f"hairpin{version}", SOURCE[version], DESTINATION[version])
    neighbour = in_set(f"near{version}", IIFNAME, DESTINATION[version])
    for who in (itself, neighbour):
        yield TRANSLATED, IS[version], who, MASQUERADE


def _chain(name: str, hook: Hook | None, bodies: Iterable[tuple[Part, ...]]) -> RuleChain:
    return RuleChain("inet", name, hook, tuple(Rule(name, body) for body in bodies))


_ENTER = (LOCAL, verdict("jump", CHAIN))
CHAINS = (
    _chain(CHAIN, None, (body for version in (4, 6) for body in _leading(version))),
    _chain(f"{CHAIN}-in", INCOMING, (_ENTER,)),
    _chain(f"{CHAIN}-out", OUTGOING, (_ENTER,)),
    _chain(
        f"{CHAIN}-back", RETURNING, (body for version in (4, 6) for body in _returning(version))
    ),
)


def desired_elements(
    link: str,
    addresses: Iterable[IPAddress],
    mappings: Iterable[PortMapping],
    *,
    bridge: str = "",
    snat: bool = True,
) -> tuple[Element, ...]:
    """What one pod's mappings need. link: the host's end, kept as the owner. addresses: the pod's;
    of each IP version the first one is led to. bridge: the host's link by which its neighbours come
    in, "" where they are routed. snat: callers whose answers would not come back are masqueraded.
    """
    first = _first(addresses)
    elements = tuple(_all_ports(link, first, mappings))
    return (*elements, *(_back(link, first, bridge) if elements and snat else ()))


def ports(
    link: str, addresses: Iterable[IPAddress], mappings: Iterable[PortMapping]
) -> tuple[Element, ...]:
    """Those of `desired_elements` that are a port."""
    return tuple(_all_ports(link, _first(addresses), mappings))


def _first(addresses: Iterable[IPAddress]) -> dict[int, IPAddress]:
    found: dict[int, IPAddress] = {}
    for address in addresses:
        found.setdefault(address.version, address)
    return found


def _all_ports(
    link: str, first: Mapping[int, IPAddress], mappings: Iterable[PortMapping]
) -> Iterator[Element]:
    return (element for mapping in mappings for element in _ports(link, first, mapping))


def _ports(link: str, first: Mapping[int, IPAddress], mapping: PortMapping) -> Iterator[Element]:
    asked = mapping.host_ip
    key = (mapping.protocol, str(mapping.host_port))
    for version, address in first.items():
        if asked is not None and asked.version != version:
            continue
        to = (str(address), str(mapping.container_port))
        name = f"hostports{version}"
        if asked is None or asked.is_unspecified:
            yield Element("inet", name, key, owner=link, to=to)
        else:
            yield Element("inet", f"{name}_at", (str(asked), *key), owner=link, to=to)


def _back(link: str, first: Mapping[int, IPAddress], bridge: str) -> Iterator[Element]:
    for version, address in first.items():
        own = str(address)
        yield Element("inet", f"hairpin{version}", (own, own), owner=link)
        if bridge:
            yield Element("inet", f"near{version}", (bridge, own), owner=link)
