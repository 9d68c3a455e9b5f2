"""What a hostile pod sends from a raw socket: with the guard nothing of it arrives, and without
the guard all of it does, which proves that the frames are good and the ears open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.frames import (
    ALL_NODES_MAC,
    ALL_ROUTERS_MAC,
    ARP,
    IPV4,
    IPV6,
    LAST,
    Host,
    arp,
    duplicate_probe,
    ethernet,
    hearing,
    neighbour_advert,
    redirect,
    router_advert,
    router_solicit,
    send,
    udp4,
    udp6,
)
from tests.netns.kit import GATEWAY4, GATEWAY6, Json, address, conf, host_end
from tests.support.node import Node, Pod, open_node
from tests.support.runtime import Runtime

STRANGE_MAC = "02:00:5e:66:66:66"
STRANGE4, STRANGE6 = "10.244.0.200", "2001:db8:244::200"
OUTSIDE4, OUTSIDE6 = "203.0.113.7", "2001:db8:ffff::7"

# Frames by what is false in them.
FORGED = (
    "IPv4 source", "IPv4 source from elsewhere", "IPv6 source", "IPv6 source from elsewhere",
    "MAC with the own IPv4 source", "MAC with the own IPv6 source", "unspecified IPv4 source",
    "ARP answer for the gateway", "ARP request as the gateway", "ARP sender MAC",
    "neighbour advertisement for the gateway", "router advertisement", "redirect",
    "duplicate probe for the neighbour", "duplicate probe for its link-local address",
    "VLAN tag", "foreign protocol",
)  # fmt: skip
HONEST = (
    "IPv4", "IPv6", "ARP answer", "ARP probe", "neighbour advertisement", "DHCP discover",
    "duplicate probe", "link-local duplicate probe", "router solicitation",
)  # fmt: skip


def _link_local(place: Node | Pod, link: str) -> str:
    (found,) = [a for a in place.addresses(link, link_local=True) if a.startswith("fe80:")]
    return found.split("/")[0]


def _probe(me: Host, target: str) -> bytes:
    to, packet = duplicate_probe(target)
    return ethernet(to, me.mac, IPV6, packet)


def _frames(
    me: Host, own_link_local: str, other: Host, others_link_local: str, via: str
) -> dict[str, bytes]:
    """Everything the pod `me` tries on `other`. via: the MAC of the next hop."""

    def v4(source: str, text: str, mac: str = me.mac, port: int = 9) -> bytes:
        return ethernet(via, mac, IPV4, udp4(source, other.ip4, text, port))

    def v6(source: str, text: str, mac: str = me.mac) -> bytes:
        return ethernet(via, mac, IPV6, udp6(source, other.ip6, text))

    tag = b"\x81\x00\x00\x64"
    tagged = v4(me.ip4, "tagged")
    return {
        "IPv4 source": v4(STRANGE4, "strange 4"),
        "IPv4 source from elsewhere": v4(OUTSIDE4, "outside 4"),
        "IPv6 source": v6(STRANGE6, "strange 6"),
        "IPv6 source from elsewhere": v6(OUTSIDE6, "outside 6"),
        "MAC with the own IPv4 source": v4(me.ip4, "strange mac 4", STRANGE_MAC),
        "MAC with the own IPv6 source": v6(me.ip6, "strange mac 6", STRANGE_MAC),
        "unspecified IPv4 source": v4("0.0.0.0", "nobody"),
        "ARP answer for the gateway": ethernet(
            other.mac, me.mac, ARP, arp(2, me.mac, GATEWAY4, other.mac, other.ip4)
        ),
        "ARP request as the gateway": ethernet(
            "ff:ff:ff:ff:ff:ff", me.mac, ARP, arp(1, me.mac, GATEWAY4, STRANGE_MAC, other.ip4)
        ),
        "ARP sender MAC": ethernet(
            other.mac, me.mac, ARP, arp(2, STRANGE_MAC, me.ip4, other.mac, other.ip4)
        ),
        "neighbour advertisement for the gateway": ethernet(
            other.mac, me.mac, IPV6, neighbour_advert(me.ip6, other.ip6, GATEWAY6, me.mac)
        ),
        "router advertisement": ethernet(
            ALL_NODES_MAC, me.mac, IPV6, router_advert(own_link_local, me.mac)
        ),
        "redirect": ethernet(
            other.mac, me.mac, IPV6, redirect(own_link_local, other.ip6, me.ip6, OUTSIDE6)
        ),
        "duplicate probe for the neighbour": _probe(me, other.ip6),
        "duplicate probe for its link-local address": _probe(me, others_link_local),
        "VLAN tag": tagged[:12] + tag + tagged[12:],
        "foreign protocol": ethernet(other.mac, me.mac, 0x88B5, b"local experiment"),
        "IPv4": v4(me.ip4, "honest 4"),
        "IPv6": v6(me.ip6, "honest 6"),
        "ARP answer": ethernet(
            other.mac, me.mac, ARP, arp(2, me.mac, me.ip4, other.mac, other.ip4)
        ),
        "ARP probe": ethernet(
            "ff:ff:ff:ff:ff:ff", me.mac, ARP, arp(1, me.mac, "0.0.0.0", "00:" * 5 + "00", me.ip4)
        ),
        "neighbour advertisement": ethernet(
            other.mac, me.mac, IPV6, neighbour_advert(me.ip6, other.ip6, me.ip6, me.mac)
        ),
        "duplicate probe": _probe(me, me.ip6),
        "link-local duplicate probe": _probe(me, own_link_local),
        "router solicitation": ethernet(ALL_ROUTERS_MAC, me.mac, IPV6, router_solicit()),
        "DHCP discover": v4("0.0.0.0", "discover", port=67),
        LAST: v4(me.ip4, LAST),
    }  # fmt: skip


class Scene:
    """Two pods; what one sends and what of it the other hears."""

    def __init__(self, node: Node, document: Json) -> None:
        self.node = node
        self.network = Runtime(node, document)
        self.pods = (node.pod(), node.pod())
        self.results = [self.network.add(pod) for pod in self.pods]
        self.hosts = [
            Host(result["interfaces"][-1]["mac"], address(result, 4), address(result, 6))
            for result in self.results
        ]
        for name in ("all", "default", *node.links()):
            node.run("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0")
        via = self.hosts[1].mac
        if document["mode"] == "ptp":
            via = self.results[0]["interfaces"][0]["mac"]
        self.link_local = _link_local(self.pods[0], "eth0")
        others = _link_local(self.pods[1], "eth0")
        self.sent = _frames(self.hosts[0], self.link_local, self.hosts[1], others, via)

    def arrived(self, frames: dict[str, bytes] | None = None) -> set[str]:
        """The names of the frames that the second pod hears. LAST must be the last of them."""
        sent = frames or self.sent
        with hearing(self.pods[1], "eth0") as ear:
            send(self.pods[0], "eth0", sent.values())
            heard = ear.heard()
        return {name for name, frame in sent.items() if any(_same(frame, x) for x in heard)}


def _same(sent: bytes, heard: bytes) -> bool:
    """By what is in the packet: a router changes its head, a bridge cuts the padding off."""
    if sent[12:14] == b"\x81\x00":
        sent = sent[:12] + sent[16:]
    head = {IPV4: 34, IPV6: 54}.get(int.from_bytes(sent[12:14]), 14)
    return sent[head:].rstrip(b"\0") in heard


def _scene(cni_bin: Path, mode: str, **changes: bool) -> Iterator[Scene]:
    with open_node("node", cni_bin) as node:
        yield Scene(node, conf(mode, (4, 6), **changes))


@pytest.fixture(scope="module")
def guarded_port(cni_bin: Path, sandbox_unchanged: None) -> Iterator[set[str]]:
    for scene in _scene(cni_bin, "bridge"):
        yield scene.arrived()


@pytest.fixture(scope="module")
def open_port(cni_bin: Path, sandbox_unchanged: None) -> Iterator[set[str]]:
    for scene in _scene(cni_bin, "bridge", antiSpoofing=False):
        yield scene.arrived()


@pytest.mark.parametrize("name", FORGED)
def test_a_guarded_port_passes_nothing_forged(guarded_port: set[str], name: str) -> None:
    assert name not in guarded_port


@pytest.mark.parametrize("name", HONEST)
def test_a_guarded_port_passes_what_is_the_pods_own(guarded_port: set[str], name: str) -> None:
    assert name in guarded_port


@pytest.mark.parametrize("name", FORGED)
def test_without_anti_spoofing_the_same_frames_arrive(open_port: set[str], name: str) -> None:
    assert name in open_port


def test_macspoofchk_alone_guards_only_macs(node: Node) -> None:
    arrived = Scene(node, conf(versions=(4, 6), antiSpoofing=False, macspoofchk=True)).arrived()
    assert {"IPv4 source", "ARP answer for the gateway", "router advertisement"} <= arrived
    assert not arrived & {
        "MAC with the own IPv4 source",
        "MAC with the own IPv6 source",
        "ARP sender MAC",
    }


def test_without_macspoofchk_only_addresses_are_guarded(node: Node) -> None:
    arrived = Scene(node, conf(versions=(4, 6), macspoofchk=False)).arrived()
    assert {"MAC with the own IPv4 source", "MAC with the own IPv6 source"} <= arrived
    assert not arrived & {"IPv4 source", "IPv6 source", "ARP answer for the gateway"}


# routed links ------------------------------------------------------------------------------------

ROUTED_FORGED = (
    "IPv4 source", "IPv4 source from elsewhere", "IPv6 source", "IPv6 source from elsewhere",
    "MAC with the own IPv4 source", "MAC with the own IPv6 source",
)  # fmt: skip


@pytest.fixture(scope="module")
def guarded_link(cni_bin: Path, sandbox_unchanged: None) -> Iterator[set[str]]:
    for scene in _scene(cni_bin, "ptp"):
        yield scene.arrived()


@pytest.fixture(scope="module")
def open_link(cni_bin: Path, sandbox_unchanged: None) -> Iterator[set[str]]:
    for scene in _scene(cni_bin, "ptp", antiSpoofing=False):
        yield scene.arrived()


@pytest.mark.parametrize("name", ROUTED_FORGED)
def test_a_guarded_link_routes_nothing_forged(guarded_link: set[str], name: str) -> None:
    assert name not in guarded_link


@pytest.mark.parametrize("name", ["IPv4", "IPv6"])
def test_a_guarded_link_routes_what_is_the_pods_own(guarded_link: set[str], name: str) -> None:
    assert name in guarded_link


@pytest.mark.parametrize("name", ROUTED_FORGED)
def test_without_anti_spoofing_the_same_packets_are_routed(open_link: set[str], name: str) -> None:
    assert name in open_link


_PROBE = """
table inet probe {
    chain prerouting {
        type filter hook prerouting priority 0;
        icmpv6 type nd-router-advert counter comment "router advertisement"
        icmpv6 type nd-redirect counter comment "redirect"
        icmpv6 type nd-neighbor-advert
            @th,64,128 0x20010db8024400000000000000000001 counter comment "advertisement"
        ip6 saddr :: icmpv6 type nd-neighbor-solicit
            @th,64,128 0x20010db8024400000000000000000001 counter comment "duplicate probe"
    }
}"""


def _passed_to_the_node(node: Node, document: Json) -> set[str]:
    """Which forged ND messages of a routed pod get past our chain, by a counter behind it."""
    node.run("nft", "-f", "-", stdin=_PROBE)
    scene = Scene(node, document)
    mine, link_local = scene.hosts[0], _link_local(scene.pods[0], "eth0")
    mac = scene.results[0]["interfaces"][0]["mac"]
    with hearing(scene.pods[1], "eth0") as ear:
        send(
            scene.pods[0],
            "eth0",
            (
                ethernet(ALL_NODES_MAC, mine.mac, IPV6, router_advert(link_local, mine.mac)),
                ethernet(mac, mine.mac, IPV6, redirect(link_local, GATEWAY6, link_local, OUTSIDE6)),
                ethernet(
                    mac,
                    mine.mac,
                    IPV6,
                    neighbour_advert(mine.ip6, GATEWAY6, GATEWAY6, mine.mac),
                ),
                _probe(mine, GATEWAY6),
                scene.sent[LAST],
            ),
        )
        ear.heard()
    rules = node.json("nft", "-j", "list", "table", "inet", "probe")["nftables"]
    return {
        item["rule"]["comment"]
        for item in rules
        if "rule" in item
        for part in item["rule"]["expr"]
        if part.get("counter", {}).get("packets")
    }


def test_a_guarded_link_passes_no_false_neighbour_discovery(node: Node) -> None:
    assert _passed_to_the_node(node, conf("ptp", (4, 6))) == set()


def test_without_anti_spoofing_the_node_hears_false_neighbour_discovery(node: Node) -> None:
    passed = _passed_to_the_node(node, conf("ptp", (4, 6), antiSpoofing=False))
    assert passed == {"router advertisement", "redirect", "advertisement", "duplicate probe"}


def test_a_false_arp_answer_on_a_routed_link_changes_nothing(node: Node) -> None:
    """ARP passes no inet hook; the node's entry is permanent and so cannot be talked over."""
    scene = Scene(node, conf("ptp", (4, 6)))
    mine, other = scene.hosts
    mac = scene.results[0]["interfaces"][0]["mac"]
    with hearing(scene.pods[1], "eth0") as ear:
        claims = (mine.ip4, other.ip4, GATEWAY4)
        forged = [
            ethernet(mac, mine.mac, ARP, arp(2, STRANGE_MAC, claim, mac, GATEWAY4))
            for claim in claims
        ]
        send(scene.pods[0], "eth0", [*forged, scene.sent[LAST]])
        ear.heard()
    entries = {entry["dst"]: entry["lladdr"] for entry in node.ip("-4", "neigh")}
    assert entries == {mine.ip4: mine.mac, other.ip4: other.mac}
    assert node.ping(mine.ip4)
    assert node.ping(other.ip4)


def _as_the_neighbour(node: Node, document: Json) -> set[str]:
    """What arrives of frames in which MAC and address fit together, and are another pod's. By
    broadcast, because from the first one on a bridge takes the sender for that pod."""
    scene = Scene(node, document)
    me, other = scene.hosts
    via = "ff:ff:ff:ff:ff:ff"
    if document["mode"] == "ptp":
        via = scene.results[0]["interfaces"][0]["mac"]
    return scene.arrived(
        {
            "IPv4": ethernet(via, other.mac, IPV4, udp4(other.ip4, other.ip4, "neighbour 4")),
            "IPv6": ethernet(via, other.mac, IPV6, udp6(other.ip6, other.ip6, "neighbour 6")),
            LAST: ethernet(via, me.mac, IPV4, udp4(me.ip4, other.ip4, LAST)),
        }
    )


@pytest.mark.parametrize("mode", ["bridge", "ptp"])
def test_what_one_pod_may_send_another_may_not(node: Node, mode: str) -> None:
    assert _as_the_neighbour(node, conf(mode, (4, 6))) == {LAST}


@pytest.mark.parametrize("mode", ["bridge", "ptp"])
def test_without_anti_spoofing_one_pod_sends_as_another(node: Node, mode: str) -> None:
    arrived = _as_the_neighbour(node, conf(mode, (4, 6), antiSpoofing=False))
    assert arrived == {"IPv4", "IPv6", LAST}


# elements ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bridge", "ptp"])
def test_a_pods_guard_goes_with_the_pod(node: Node, mode: str) -> None:
    network, first, second = Runtime(node, conf(mode, (4, 6))), node.pod(), node.pod()
    gone, stays = host_end(network.add(first)), host_end(network.add(second))
    network.delete(first)
    ruleset = node.run("nft", "list", "ruleset").stdout
    assert gone not in ruleset
    assert stays in ruleset
