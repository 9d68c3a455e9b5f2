"""CHECK: nothing to say right after ADD, and every kind of damage by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.netns.kit import GATEWAY4, MODES, Json, address, conf, env, host_end, ipam
from tests.support.node import Node, Pod
from tests.support.runtime import Failed, Runtime

STRANGE_MAC = "02:00:5e:66:66:66"


class Made(NamedTuple):
    """One attachment that was added well."""

    node: Node
    pod: Pod
    network: Runtime
    result: Json

    @property
    def host(self) -> str:
        return host_end(self.result)


def _made(node: Node, document: Json) -> Made:
    network, pod = Runtime(node, document), node.pod()
    return Made(node, pod, network, network.add(pod))


def _complaint(made: Made) -> str:
    """What CHECK says, all of it; the code is that of damage."""
    with pytest.raises(Failed) as failure:
        made.network.check(made.pod)
    answer = failure.value.reply.json
    assert answer["code"] == 104
    return f"{answer['msg']}; {answer['details']}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("versions", [(4,), (6,), (4, 6)], ids=["v4", "v6", "dual"])
def test_after_add_nothing_is_wrong(node: Node, mode: str, versions: tuple[int, ...]) -> None:
    made = _made(node, conf(mode, versions, ipMasq=True))
    made.network.check(made.pod)


def test_the_second_pod_does_not_disturb_the_first(node: Node) -> None:
    made = _made(node, conf(ipMasq=True))
    made.network.add(node.pod())
    made.network.check(made.pod)


def _nft(made: Made, line: str) -> None:
    made.node.run("nft", *line.split())


# (what happens, a command on it, what CHECK must name)
DAMAGE: dict[str, tuple[Callable[[Made], object], Callable[[Made], list[str]]]] = {
    "address removed": (
        lambda made: made.pod.configure("addr flush dev eth0 scope global"),
        lambda made: [f"missing: ip -n POD address add {address(made.result)}/24 dev eth0"],
    ),
    "route removed": (
        lambda made: made.pod.configure("route del default"),
        lambda made: ["missing: ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0"],
    ),
    "pod's link down": (
        lambda made: made.pod.configure("link set eth0 down"),
        lambda made: ["missing: ip -n POD link set eth0 up"],
    ),
    "host's link down": (
        lambda made: made.node.configure(f"link set {made.host} down"),
        lambda made: [f"{made.host}: up wanted True, found False"],
    ),
    "pod's MAC changed": (
        lambda made: made.pod.configure(f"link set eth0 address {STRANGE_MAC}"),
        lambda made: ["peer_mac wanted", f"found {STRANGE_MAC}"],
    ),
    "host's MAC changed": (
        lambda made: made.node.configure(f"link set {made.host} address {STRANGE_MAC}"),
        lambda made: [f"Veth {made.host}: mac wanted", f"found {STRANGE_MAC}"],
    ),
    "pod's interface renamed": (
        lambda made: made.pod.run(
            "sh", "-c", "ip link set eth0 down; ip link set eth0 name eth9"
        ),
        lambda made: ["peer wanted eth0, found None"],
    ),
    "pair gone": (
        lambda made: made.node.configure(f"link del {made.host}"),
        lambda made: [f"missing: ip link add {made.host}"],
    ),
    "router advertisements let in": (
        lambda made: made.pod.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_ra=1"),
        lambda made: ["ipv6/conf/eth0/accept_ra: value wanted 0, found 1"],
    ),
    "forwarding off": (
        lambda made: made.node.run("sysctl", "-qw", "net.ipv4.ip_forward=0"),
        lambda made: ["ipv4/ip_forward: value wanted 1, found 0"],
    ),
    "masquerade element removed": (
        lambda made: _nft(
            made, f"delete element inet podwire masq4 {{ {address(made.result)} }}"
        ),
        lambda made: [f"missing: nft add element inet podwire masq4 {{ {address(made.result)}"],
    ),
    "masquerade chain flushed": (
        lambda made: _nft(made, "flush chain inet podwire postrouting"),
        lambda made: ["inet postrouting: the rules are not the ones podwire writes"],
    ),
    "ruleset flushed": (
        lambda made: _nft(made, "flush ruleset"),
        lambda made: ["missing: nft add chain inet podwire postrouting", "masq4", "own4"],
    ),
    "reservation removed": (
        lambda made: made.node.path(
            f"/var/lib/cni/networks/net/{address(made.result)}"
        ).unlink(),
        lambda made: [f"missing: the reservation of {address(made.result)}"],
    ),
}  # fmt: skip


# What does not depend on the mode is tried in one.
IN_EACH_MODE = ("address removed", "route removed", "pod's MAC changed", "ruleset flushed")
CASES = [("bridge", damage) for damage in DAMAGE] + [("ptp", damage) for damage in IN_EACH_MODE]


@pytest.mark.parametrize(("mode", "damage"), CASES)
def test_check_names_the_damage(node: Node, mode: str, damage: str) -> None:
    made = _made(node, conf(mode, ipMasq=True))
    happen, named = DAMAGE[damage]
    happen(made)
    complaint = _complaint(made)
    for expected in named(made):
        assert expected in complaint


BRIDGE_DAMAGE: dict[str, tuple[Callable[[Made], object], Callable[[Made], list[str]]]] = {
    "out of the bridge": (
        lambda made: made.node.configure(f"link set {made.host} nomaster"),
        lambda made: [f"Veth {made.host}: master wanted cni0, found"],
    ),
    "gateway address removed": (
        lambda made: made.node.configure(f"addr del {GATEWAY4}/24 dev cni0"),
        lambda made: [f"missing: ip address add {GATEWAY4}/24 dev cni0"],
    ),
    "bridge down": (
        lambda made: made.node.configure("link set cni0 down"),
        lambda made: ["Bridge cni0: up wanted True, found False"],
    ),
    "bridge gone": (
        lambda made: made.node.configure("link del cni0"),
        lambda made: ["missing: ip link add cni0"],
    ),
    "hairpin off": (
        lambda made: made.node.run("bridge", "link", "set", "dev", made.host, "hairpin", "off"),
        lambda made: [f"Port {made.host}: hairpin wanted True, found False"],
    ),
    "guard's rules flushed": (
        lambda made: _nft(made, "flush chain bridge podwire guard"),
        lambda made: ["bridge guard: the rules are not the ones podwire writes"],
    ),
    "a guard's element removed": (
        lambda made: _nft(made, f"delete element bridge podwire ports {{ {made.host} }}"),
        lambda made: [f"missing: nft add element bridge podwire ports {{ {made.host}"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", BRIDGE_DAMAGE)
def test_check_names_the_damage_to_a_bridge(node: Node, damage: str) -> None:
    made = _made(node, conf())
    happen, named = BRIDGE_DAMAGE[damage]
    happen(made)
    complaint = _complaint(made)
    for expected in named(made):
        assert expected in complaint


PTP_DAMAGE: dict[str, tuple[Callable[[Made], object], Callable[[Made], list[str]]]] = {
    "host's route removed": (
        lambda made: made.node.configure(f"route del {address(made.result)}"),
        lambda made: [f"missing: ip route add {address(made.result)}/32 dev {made.host}"],
    ),
    "host's gateway address removed": (
        lambda made: made.node.configure(f"addr del {GATEWAY4}/32 dev {made.host}"),
        lambda made: [f"missing: ip address add {GATEWAY4}/32 dev {made.host}"],
    ),
    "pod's neighbour entry removed": (
        lambda made: made.pod.configure(f"neigh del {GATEWAY4} dev eth0"),
        lambda made: [f"missing: ip -n POD neighbour add {GATEWAY4}"],
    ),
    "host's neighbour entry learned anew": (
        lambda made: made.node.configure(
            f"neigh change {address(made.result)} lladdr {STRANGE_MAC} dev {made.host} nud stale"
        ),
        lambda made: [address(made.result), "mac wanted"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", PTP_DAMAGE)
def test_check_names_the_damage_to_a_routed_link(node: Node, damage: str) -> None:
    made = _made(node, conf("ptp"))
    happen, named = PTP_DAMAGE[damage]
    happen(made)
    complaint = _complaint(made)
    for expected in named(made):
        assert expected in complaint


def test_all_damage_is_told_at_once(node: Node) -> None:
    made = _made(node, conf())
    made.pod.configure("link set eth0 down")
    made.node.configure(f"addr del {GATEWAY4}/24 dev cni0")
    complaint = _complaint(made)
    assert "link set eth0 up" in complaint
    assert f"address add {GATEWAY4}/24" in complaint


def test_check_changes_nothing(node: Node, snapshot: Callable[[], object]) -> None:
    made = _made(node, conf(ipMasq=True))
    made.node.run("nft", "flush", "ruleset")
    before = snapshot()
    _complaint(made)
    assert snapshot() == before


def _tuned(made: Made) -> None:
    """As `tuning` later in the chain: another MAC and MTU, told of in the final result."""
    made.pod.configure(f"link set eth0 address {STRANGE_MAC} mtu 1400")
    made.node.configure(f"link set {made.host} mtu 1400")
    made.result["interfaces"][-1] |= {"mac": STRANGE_MAC, "mtu": 1400}


def test_what_tuning_changes_later_in_a_chain_is_tolerated(node: Node) -> None:
    made = _made(node, conf(antiSpoofing=False))
    _tuned(made)
    made.network.check(made.pod)


def test_a_later_mac_that_the_guard_would_stop_is_named(node: Node) -> None:
    made = _made(node, conf())
    _tuned(made)
    assert f"missing: nft add element bridge podwire macs {{ {made.host} . {STRANGE_MAC} }}" in (
        _complaint(made)
    )


def test_an_extra_address_and_route_are_not_ours_to_judge(node: Node) -> None:
    made = _made(node, conf())
    made.pod.configure("addr add 192.0.2.77/24 dev eth0")
    made.pod.configure("route add 203.0.113.0/24 via 192.0.2.1")
    made.network.check(made.pod)


def test_a_route_of_another_next_hop_is_named_with_both(node: Node) -> None:
    made = _made(node, conf(ipam=ipam("10.244.0.0/24")))
    made.pod.configure("route change default via 10.244.0.9")
    assert "gw wanted 10.244.0.1, found 10.244.0.9" in _complaint(made)


@pytest.mark.parametrize("kept", [(), ("interfaces",), ("interfaces", "routes")])
def test_a_result_that_says_nothing_is_refused(node: Node, kept: tuple[str, ...]) -> None:
    made = _made(node, conf())
    result = {key: made.result[key] for key in ("cniVersion", *kept)}
    reply = node.plugin(
        node.cni_bin / "podwire", env("CHECK", made.pod), {**conf(), "prevResult": result}
    )
    assert reply.json["code"] == 7
    assert "prevResult has no address of eth0" in reply.json["msg"]
