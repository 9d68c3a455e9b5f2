"""A pod whose guard an older podwire made: guarded as before next to new pods, made like them by
the agent, and gone without a trace.

An older podwire put a link into two sets and its addresses into two others, which the chains looked
up one after the other.
"""

from __future__ import annotations

import json

import pytest

from tests.netns.kit import MODES, conf, host_end
from tests.netns.test_spoofing import FORGED, HONEST, ROUTED_FORGED, Scene
from tests.support.agent import running
from tests.support.node import Node, wait_until

NEW = ("ports", "own4", "own6")
CHAINS = {
    "bridge": """
        chain mac-guard {
            ether type 0x8100 drop
            ether type 0x88a8 drop
            iifname . ether saddr != @macs drop
            meta protocol arp iifname . arp saddr ether != @macs drop
        }
        chain ip-guard {
            meta protocol arp arp saddr ip 0.0.0.0 return
            meta protocol arp iifname . arp saddr ip @source4 return
            meta protocol ip iifname . ip saddr @source4 return
            meta protocol ip6 iifname . ip6 saddr @source6 return
            drop
        }""",
    "inet": """
        chain mac-guard {
            iifname . ether saddr != @macs drop
        }
        chain ip-guard {
            meta nfproto ipv4 iifname . ip saddr @source4 return
            meta nfproto ipv6 iifname . ip6 saddr @source6 return
            drop
        }""",
}
PREROUTING = """
        chain prerouting {
            type filter hook prerouting priority -300;
            iifname @mac_ports jump mac-guard
            iifname @ip_ports jump ip-guard
        }"""
SETS = {
    "mac_ports": "ifname",
    "ip_ports": "ifname",
    "macs": "ifname . ether_addr",
    "source4": "ifname . ipv4_addr",
    "source6": "ifname . ipv6_addr",
}


class Older:
    """The first of two pods as an older podwire has left it."""

    def __init__(self, node: Node, mode: str) -> None:
        self.node = node
        self.scene = Scene(node, conf(mode, (4, 6)))
        self.family = "bridge" if mode == "bridge" else "inet"
        self.link = host_end(self.scene.results[0])
        self.forged = FORGED if mode == "bridge" else ROUTED_FORGED
        self.honest = HONEST if mode == "bridge" else ("IPv4", "IPv6")
        me, link_local = self.scene.hosts[0], self.scene.link_local
        self.elements = {
            "mac_ports": [self.link],
            "ip_ports": [self.link],
            "macs": [f"{self.link} . {me.mac}"],
            "source4": [f"{self.link} . {me.ip4}"],
            "source6": [f"{self.link} . {me.ip6}", f"{self.link} . {link_local}"],
        }
        self._chains()
        self._record()

    def _chains(self) -> None:
        sets = "".join(
            f"""
        set {name} {{
            type {kind}; elements = {{ {self._listed(name)} }}
        }}"""
            for name, kind in SETS.items()
        )
        table = f"table {self.family} podwire"
        body = sets + CHAINS[self.family] + PREROUTING
        self.node.run("nft", "-f", "-", stdin=f"delete {table}\n{table} {{{body}\n}}\n")

    def _listed(self, name: str) -> str:
        return ", ".join(f'{key} comment "{self.link}"' for key in self.elements[name])

    def _record(self) -> None:
        path = self.node.path(
            f"/run/podwire/attachments/net/{self.scene.pods[0].container_id}:eth0"
        )
        record = json.loads(path.read_text())
        others = [obj for obj in record["owned"] if obj[:2] != ["element", self.family]]
        present = [obj for obj in record["owned"] if obj[2:3] in (["pods4"], ["pods6"])]
        record["owned"] = [*others, *(obj for obj in present if obj not in others)] + [
            ["element", self.family, name, key.split(" . ")]
            for name, keys in self.elements.items()
            for key in keys
        ]
        path.write_text(json.dumps(record))

    def keeps(self) -> None:
        """Asserts what the guard is for."""
        arrived = self.scene.arrived()
        assert not arrived & set(self.forged)
        assert arrived >= set(self.honest)

    def rules(self) -> str:
        """All of nftables."""
        return self.node.run("nft", "list", "ruleset").stdout


@pytest.fixture(params=MODES)
def older(node: Node, request: pytest.FixtureRequest) -> Older:
    return Older(node, request.param)


def test_it_is_guarded_as_before_when_a_new_pod_brings_the_new_chains(older: Older) -> None:
    assert "@own4" not in older.rules()
    older.scene.network.add(older.node.pod())
    assert "@own4" in older.rules()
    older.keeps()
    older.scene.network.delete(older.scene.pods[0])
    assert older.link not in older.rules()


def test_the_agent_makes_it_as_the_new_ones_are_and_it_goes_whole(older: Older) -> None:
    def is_new() -> bool:
        listed = older.node.run("nft", "list", "set", older.family, "podwire", "own4", check=False)
        return older.link in listed.stdout

    with running(older.node) as agent:
        wait_until(is_new, "the guard is as new pods have it")
        for name in NEW:
            listed = older.node.run("nft", "list", "set", older.family, "podwire", name)
            assert older.link in listed.stdout
        older.scene.network.check(older.scene.pods[0])
        older.keeps()
        older.scene.network.delete(older.scene.pods[0])
        wait_until(lambda: older.link not in older.rules(), "nothing of it is left")
        agent.stop()
