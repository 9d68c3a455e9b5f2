"""An ADD by a stencil is byte for byte what the way of every ADD would have sent, kept and said."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cni_plugin.agent.stencil import Base, Stencil, cut, filled, render, shared_objects
from cni_plugin.agent.subject import Kind, Numbers, Subject, shape, subject
from cni_plugin.attach.wiring import BridgeFacts, Facts
from cni_plugin.cni.values import (
    Attachment,
    Bandwidth,
    Dns,
    NetConf,
    Pod,
    PortMapping,
    RuntimeConf,
)
from cni_plugin.model.objects import Addr, Bridge, key
from ipam.ranges import canonical
from ipam.values import IpamConf, Route

SUBNETS = {
    4: ("10.244.0.0/16", "192.0.2.0/24", "198.51.100.128/25"),
    6: ("2001:db8:1::/64", "2001:db8:2::/112"),
}
DEFAULT = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
letters = st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789")
ifnames = st.text(letters, min_size=1, max_size=15)
ids = st.text(st.sampled_from("abcdef0123456789"), min_size=12, max_size=64)
indexes = st.integers(1, (1 << 31) - 1)
ports = st.integers(1, (1 << 16) - 1)
LIMITS = (
    Bandwidth(),
    Bandwidth(10**6, 10**5, 10**7, 10**6),
    Bandwidth(egress_rate=10**10, egress_burst=10**6),
    Bandwidth(10**6, 10**5, unshaped=(ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))),
)
HOST_IPS = {4: ("0.0.0.0", "198.51.100.7"), 6: ("::", "2001:db8:9::7")}


@st.composite
def confs(draw: Any) -> NetConf:
    """What an ADD may be quick for: see swift._is_plain."""
    flag = st.booleans()
    mode = draw(st.sampled_from(["bridge", "ptp"]))
    versions = draw(st.sampled_from([(4,), (6,), (4, 6)]))
    sets = tuple(
        (canonical(ip_network(draw(st.sampled_from(SUBNETS[version])))),) for version in versions
    )
    routes = tuple(
        Route(DEFAULT[version], mtu=draw(st.sampled_from([None, 1400]))) for version in versions
    )
    return NetConf(
        draw(st.sampled_from(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])),
        draw(st.sampled_from(["net", "a.network-with_a.longer-name"])),
        "podwire",
        mode=mode,
        is_gateway=mode == "bridge" and draw(flag),
        ip_masq=draw(flag),
        mtu=draw(st.sampled_from([0, 1400])),
        hairpin=draw(flag),
        anti_spoof_mac=draw(flag),
        anti_spoof_ip=draw(flag),
        port_isolation=draw(flag),
        sysctls=draw(st.sampled_from([(), (("net/ipv4/conf/IFNAME/arp_filter", "1"),)])),
        queue_length=draw(st.sampled_from([None, 500])),
        dns=draw(st.sampled_from([Dns(), Dns(("192.0.2.53",), search=("example.org",))])),
        ipam=IpamConf("podwire-ipam", sets, draw(st.sampled_from([(), routes]))),
    )


@st.composite
def askings(draw: Any, conf: NetConf) -> RuntimeConf:
    """What a runtime may ask for one pod: ports, limits."""
    assert conf.ipam is not None
    versions = {only.subnet.version for (only,) in conf.ipam.range_sets}
    host_ips = [None, *(ip_address(text) for v in versions for text in HOST_IPS[v])]
    mapping = st.builds(
        PortMapping,
        ports,
        ports,
        st.sampled_from(["tcp", "udp", "sctp"]),
        st.sampled_from(host_ips),
    )
    mappings = draw(st.lists(mapping, max_size=3, unique_by=lambda one: one.host_port))
    return RuntimeConf(bandwidth=draw(st.sampled_from(LIMITS)), port_mappings=tuple(mappings))


def base_of(conf: NetConf, kind: Kind, index: int) -> Base:
    """A node on which all that pods share is there."""
    bridge = BridgeFacts(1450, True, True, (), True, "02:00:5e:00:53:01")
    facts = Facts(bridge if conf.mode == "bridge" else None, uplink_mtu=1500)
    shared = shared_objects(conf, kind, facts)
    gateways = tuple(obj.address for obj in shared if isinstance(obj, Addr))
    if facts.bridge:
        facts = facts._replace(bridge=facts.bridge._replace(addresses=gateways))
    found = {key(obj): _as_found(obj) for obj in shared}
    return Base(conf, facts, found, {conf.bridge: index} if facts.bridge else {})


def _as_found(obj: Any) -> Any:
    return obj._replace(promisc=False, alias="podwire net") if isinstance(obj, Bridge) else obj


@st.composite
def subjects(draw: Any, conf: NetConf, kind: Kind) -> Subject:
    """Of the kind, with ports of its own."""
    assert conf.ipam is not None
    addresses = tuple(
        ip_address(int(only.start) + draw(st.integers(1, int(only.end) - int(only.start))))
        for (only,) in conf.ipam.range_sets
    )
    id_ = draw(
        st.text(st.sampled_from("abcdef0123456789"), min_size=kind.id_size, max_size=kind.id_size)
    )
    pod = draw(st.sampled_from([Pod(), Pod("default", "web-0")]))
    netns = f"/run/netns/{draw(ifnames)}", draw(st.integers(3, 4000)), draw(st.integers(1, 1 << 40))
    name = draw(st.sampled_from(["", "0123456789abcdef" * 2]))
    mappings = (
        one._replace(host_port=draw(ports), container_port=draw(ports))
        for one in kind.asked.port_mappings
    )
    asked = kind.asked._replace(port_mappings=tuple(mappings))
    return subject(conf, Attachment(id_, kind.ifname), pod, netns, name, addresses, asked)


def made(base: Base, kind: Kind) -> Stencil:
    found = cut(base, kind)
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), conf=confs(), id_=ids, ifname=ifnames, index=indexes)
def test_a_stencil_gives_what_every_add_gives(
    data: Any, conf: NetConf, id_: str, ifname: str, index: int
) -> None:
    kind = Kind(len(id_), ifname, shape(data.draw(askings(conf))))
    base = base_of(conf, kind, index)
    stencil = made(base, kind)
    for _ in range(3):
        who = data.draw(subjects(conf, kind))
        numbers = Numbers(*(data.draw(indexes) for _ in Numbers._fields))
        assert filled(stencil, who, numbers) == render(base, who, numbers)


def test_what_has_to_be_made_first_has_no_stencil() -> None:
    conf = NetConf("1.0.0", "net", "podwire", ipam=IpamConf("podwire-ipam"), vlan=7)
    kind = Kind(12, "eth0")
    facts = Facts(BridgeFacts(1500, True, True, (), True, "02:00:5e:00:53:01"))
    assert cut(Base(conf, facts, {}, {}), kind) is None
