"""DEL: whatever happened since ADD, nothing of the attachment is left and nothing else is hurt."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.netns.kit import GATEWAY4, MODES, Json, address, conf, env, host_end, ipam, left
from tests.support.node import Node, Pod
from tests.support.runtime import Runtime
from tests.support.snapshot import Snapshot, take

Snap = Callable[[], Snapshot]


def _conf(mode: str) -> Json:
    return conf(mode, (4, 6), ipMasq=True)


@pytest.mark.parametrize("mode", MODES)
def test_delete_leaves_nothing_and_may_be_repeated(node: Node, snapshot: Snap, mode: str) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    network.delete(pod)
    assert left(before, snapshot()) == []
    assert pod.links() == set()
    network.delete(pod)
    network.delete(pod, forget=True)
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("mode", MODES)
def test_delete_of_what_never_was_succeeds_and_makes_nothing(
    node: Node, snapshot: Snap, mode: str
) -> None:
    pod, before = node.pod(), snapshot()
    Runtime(node, _conf(mode)).delete(pod)
    assert (
        before.only("links", "nft", "routes").diff(snapshot().only("links", "nft", "routes")) == []
    )


@pytest.mark.parametrize("mode", MODES)
def test_delete_needs_no_netns_in_the_call(node: Node, snapshot: Snap, mode: str) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    network.delete(pod, netns="")
    assert left(before, snapshot()) == []
    assert pod.links() == set()


@pytest.mark.parametrize("mode", MODES)
def test_delete_needs_no_netns_in_the_kernel(node: Node, snapshot: Snap, mode: str) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    pod.remove()
    network.delete(pod)
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("mode", MODES)
def test_delete_needs_no_previous_result(node: Node, snapshot: Snap, mode: str) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    network.delete(pod, forget=True)
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("netns_lives", [True, False], ids=["live", "dead"])
def test_delete_needs_no_record(node: Node, snapshot: Snap, mode: str, netns_lives: bool) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    shutil.rmtree(node.path("/run/podwire"))
    if not netns_lives:
        pod.remove()
    network.delete(pod, forget=True)
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b'{"network":"net"}\n'])
def test_delete_goes_on_without_a_record_that_cannot_be_read(
    node: Node, snapshot: Snap, garbage: bytes
) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    network.add(pod)
    (record,) = node.path("/run/podwire/attachments/net").iterdir()
    record.write_bytes(garbage)
    network.delete(pod)
    assert left(before, snapshot()) == []


@pytest.mark.parametrize("boot", ["same", "another"])
def test_delete_after_a_reboot_frees_the_address(
    node: Node, make_node: Callable[[str], Node], boot: str
) -> None:
    """A reboot takes /run and the kernel's objects; the disk stays."""
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    network.add(pod)
    rebooted = make_node("rebooted")
    store = rebooted.path("/var/lib/cni/networks")
    shutil.copytree(node.path("/var/lib/cni/networks"), store)
    if boot == "another":
        (store / "net/.boot_id").write_text("boot_id 00000000-0000-4000-8000-000000000000\n")
    clean = take(rebooted).without(r"/10\.244\.|/2001|/\.owners/")
    rebooted.plugin("podwire", env("DEL", pod), _conf("bridge")).ok()
    assert left(clean, take(rebooted)) == []


CHANGED: dict[str, Json] = {
    "another bridge": {"bridge": "br9"},
    "other ranges": {"ipam": ipam("192.0.2.0/24")},
    "another data folder": {"ipam": ipam("10.244.0.0/24", dataDir="/var/lib/cni/elsewhere")},
    "no masquerade": {"ipMasq": False},
    "no guard": {"antiSpoofing": False},
    "other kept destinations": {"nonMasqueradeCIDRs": ["198.51.100.0/24"]},
    "no ipam": {"ipam": None},
    "a foreign ipam": {"ipam": {"type": "no-such-plugin"}},
    "an impossible mtu": {"mtu": -1},
    "an unknown mode": {"mode": "token-ring"},
    "an ipam section that is no object": {"ipam": "podwire-ipam"},
    "ranges that are none": {"ipam": {"type": "podwire-ipam", "ranges": [[{"subnet": "x"}]]}},
    "an unsupported key": {"vlanTrunk": [{"id": 7}]},
    "a prevResult that is none": {"prevResult": {"ips": "none"}},
}


@pytest.mark.parametrize("change", CHANGED)
def test_delete_works_by_what_add_did_not_by_what_the_config_became(
    node: Node, snapshot: Snap, change: str
) -> None:
    before = snapshot()
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    network.add(pod)
    Runtime(node, {**_conf("bridge"), **CHANGED[change]}).delete(pod)
    assert left(before, snapshot()) == []


def test_delete_in_the_other_mode_leaves_nothing(node: Node, snapshot: Snap) -> None:
    before = snapshot()
    pod = node.pod()
    Runtime(node, _conf("bridge")).add(pod)
    Runtime(node, _conf("ptp")).delete(pod)
    assert left(before, snapshot()) == []


HALF_DONE: dict[str, Callable[[Node, Pod, str], object]] = {
    "the pair": lambda node, pod, host: node.configure(f"link del {host}"),
    "the bridge": lambda node, pod, host: node.configure("link del cni0"),
    "the rules": lambda node, pod, host: node.run("nft", "flush", "ruleset"),
    "our tables": lambda node, pod, host: node.run(
        "sh", "-c", "nft delete table inet podwire; nft delete table bridge podwire"
    ),
    "the pod's end": lambda node, pod, host: pod.configure("link del eth0"),
    "the lease": lambda node, pod, host: shutil.rmtree(node.path("/var/lib/cni/networks/net")),
    "the pod's end is renamed": lambda node, pod, host: pod.run(
        "sh", "-c", "ip link set eth0 down; ip link set eth0 name x"
    ),
}


@pytest.mark.parametrize("gone", HALF_DONE)
def test_delete_goes_on_when_something_is_gone_already(
    node: Node, snapshot: Snap, gone: str
) -> None:
    network, pod = Runtime(node, _conf("bridge")), node.pod()
    before = snapshot()
    host = host_end(network.add(pod))
    HALF_DONE[gone](node, pod, host)
    network.delete(pod)
    assert left(before, snapshot()) == []
    assert pod.links() == set()


FOREIGN = """
set -e
ip link add foreign0 up type bridge
ip link add pwforeign0 type veth peer name foreign1
ip link set foreign1 master foreign0 up
ip link set pwforeign0 up
ip addr add 192.0.2.1/24 dev foreign0
ip route add 203.0.113.0/24 via 192.0.2.9
ip route add 198.51.100.0/24 via 192.0.2.9 proto 112
ip rule add from 198.51.100.0/24 table 77
ip neigh add 192.0.2.8 lladdr 02:00:5e:00:00:08 dev foreign0 nud permanent
nft -f - <<EOF
table ip foreign {
    map m { type ipv4_addr : verdict; }
    chain postrouting { type nat hook postrouting priority 100; oifname "foreign0" masquerade; }
}
table bridge foreign {
    set macs { type ether_addr; elements = { 02:00:5e:00:00:01 }; }
}
EOF
iptables-nft -A FORWARD -s 198.51.100.0/24 -j ACCEPT
mkdir -p /var/lib/cni/networks/foreign /run/foreign
echo other > /var/lib/cni/networks/foreign/192.0.2.9
"""


@pytest.mark.parametrize("mode", MODES)
def test_add_and_delete_touch_nothing_foreign(node: Node, snapshot: Snap, mode: str) -> None:
    node.run("sh", "-c", FOREIGN)
    before = snapshot()
    network, pod = Runtime(node, _conf(mode)), node.pod()
    network.add(pod)
    assert [line for line in left(before, snapshot()) if line.startswith("- ")] == []
    network.delete(pod)
    assert left(before, snapshot()) == []


def test_delete_without_an_add_spares_a_foreign_interface_of_that_name(node: Node) -> None:
    pod = node.pod()
    pod.configure("link add eth0 type veth peer name other")
    Runtime(node, _conf("bridge")).delete(pod)
    assert pod.links() == {"eth0", "other"}


@pytest.mark.parametrize("mode", MODES)
def test_delete_leaves_the_other_pods_alone(node: Node, mode: str) -> None:
    network, going, staying = Runtime(node, _conf(mode)), node.pod(), node.pod()
    network.add(going)
    target = address(network.add(staying))
    network.delete(going)
    network.check(staying)
    assert node.ping(target)
    assert staying.ping(GATEWAY4)


def test_the_last_pod_takes_its_networks_masquerade_chain_along(node: Node) -> None:
    network, first, second = Runtime(node, _conf("bridge")), node.pod(), node.pod()
    network.add(first)
    network.add(second)
    network.delete(first)
    assert "chain masq-" in node.run("nft", "list", "table", "inet", "podwire").stdout
    network.delete(second)
    assert "chain masq-" not in node.run("nft", "list", "table", "inet", "podwire").stdout
