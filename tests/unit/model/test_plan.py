"""The difference between two states, its order, its inverse, and how it reads."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from cni_plugin.model.objects import (
    HOST,
    POD,
    Addr,
    Bridge,
    Element,
    Fdb,
    FilterTable,
    ForwardAccept,
    ForwardChain,
    Ifb,
    Neigh,
    Obj,
    Port,
    PortVlan,
    Redirect,
    RouteTo,
    RuleChain,
    Sysctl,
    Tbf,
    Tuned,
    TxChecksum,
    Up,
    Veth,
    Vxlan,
    key,
    satisfied,
)
from cni_plugin.model.plan import (
    Step,
    ceded,
    describe,
    diff,
    differences,
    inverse,
    removal,
)
from cni_plugin.model.rules import Hook, Part, Rule, Verdict

MAC, PEER_MAC = "02:00:5e:00:00:01", "02:00:5e:00:00:02"
DROP = Rule("guard", (Part("drop", (Verdict("drop"),)),))


def _route(link: str = "eth0", place: str = POD, gw: str = "10.244.0.1") -> RouteTo:
    return RouteTo(place, ip_network("0.0.0.0/0"), 254, 0, link, gw=ip_address(gw), scope=0)


# One of each kind, in the order in which they are to be made.
ALL: tuple[Obj, ...] = (
    FilterTable("inet"),
    RuleChain("bridge", "guard", Hook("filter", 0, -300), (DROP,)),
    Element("bridge", "macs", ("pwabc", MAC), owner="pwabc"),
    Bridge("cni0", mtu=1450, mac=MAC, alias="podwire net"),
    Veth("pwabc", "eth0", MAC, PEER_MAC, 1450, "cni0", "podwire net id eth0", up=True),
    Vxlan("podwire4-x", 112, 8472, ip_address("192.0.2.1"), MAC, 1450, "podwire cluster"),
    Ifb("peabc", 1450, "podwire-ifb net id eth0"),
    Port("pwabc", hairpin=True, isolated=False),
    PortVlan("pwabc", 100, default=True),
    TxChecksum("podwire4-x", on=False),
    Tbf("peabc", 500_000, 50_000, 62_500),
    Redirect("pwabc", "ingress", "peabc", unshaped=(ip_network("192.0.2.0/24"),)),
    Fdb("podwire4-x", PEER_MAC, ip_address("192.0.2.2")),
    ForwardAccept(ip_network("10.244.0.0/24")),
    ForwardChain("iptables-nft"),
    Sysctl(POD, ("ipv6", "conf", "eth0", "accept_ra"), "0"),
    Tuned(POD, "eth0", queue_length=500, allmulti=True, promisc=False),
    Addr(POD, "eth0", ip_interface("10.244.0.2/24")),
    Up(POD, "eth0"),
    Neigh(POD, "eth0", ip_address("10.244.0.1"), MAC),
    _route(),
)


def state(*objects: Obj) -> dict[tuple[object, ...], Obj]:
    return {key(obj): obj for obj in objects}


def test_nothing_is_to_be_done_when_all_is_there() -> None:
    assert diff(ALL, state(*ALL)) == ()
    assert differences(ALL, state(*ALL)) == ()


def test_all_is_to_be_made_in_order_when_nothing_is_there() -> None:
    assert diff(reversed(ALL), {}) == tuple(Step(obj, None) for obj in ALL)


def test_what_is_found_but_not_wanted_is_left_alone() -> None:
    assert diff((), state(*ALL)) == ()


def test_none_in_what_is_wanted_accepts_anything() -> None:
    found = Bridge("cni0", 1450, vlan_filtering=True, promisc=False, alias="x", mac=MAC)
    assert diff((Bridge("cni0"),), state(found)) == ()


def test_none_in_what_is_found_satisfies_nothing() -> None:
    assert not satisfied(Bridge("cni0", mtu=1450), Bridge("cni0"))


def test_a_change_keeps_what_was_found() -> None:
    wanted, found = Bridge("cni0", mtu=1450), Bridge("cni0", mtu=1500)
    assert diff((wanted,), state(found)) == (Step(wanted, found),)


@pytest.mark.parametrize("wanted", ALL, ids=lambda obj: type(obj).__name__)
def test_the_inverse_of_making_is_taking_away(wanted: Obj) -> None:
    assert inverse((Step(wanted, None),)) == (Step(None, wanted),)


def test_the_inverse_goes_backwards_and_restores() -> None:
    old, new = Bridge("cni0", mtu=1500), Bridge("cni0", mtu=1450)
    up = Up(HOST, "cni0")
    assert inverse((Step(new, old), Step(up, None))) == (Step(None, up), Step(old, new))


def test_removal_takes_the_pair_first_and_the_rest_backwards() -> None:
    gone = [step.found for step in removal(ALL, state(*ALL))]
    veth = next(obj for obj in ALL if isinstance(obj, Veth))
    assert gone[0] == veth
    elements = [type(obj).__name__ for obj in gone]
    assert elements.index("Element") < elements.index("RuleChain")


def test_removal_takes_only_what_is_there() -> None:
    assert removal(ALL, {}) == ()


def test_a_new_ports_switches_are_off_unasked() -> None:
    veth, port = Veth("pwabc", "eth0"), Port("pwabc", hairpin=False, isolated=False)
    assert diff((port, veth), {}) == (Step(veth, None),)
    found = Port("pwabc", hairpin=True, isolated=False)
    assert diff((port, veth), state(veth, found)) == (Step(port, found),)


def test_the_guard_is_there_before_the_link_is() -> None:
    made = [type(step.subject) for step in diff(ALL, {})]
    assert made.index(Element) < made.index(Veth) < made.index(Up)
    assert made.index(Addr) < made.index(Up) < made.index(RouteTo)


def test_a_route_that_another_interface_of_the_pod_has_is_left_to_it() -> None:
    wanted, found = _route("net1"), _route("eth0")
    assert diff((wanted,), state(found)) == ()
    assert ceded((wanted,), state(found)) == (wanted,)


def test_a_hosts_route_is_never_left_to_another_link() -> None:
    wanted, found = _route("pwabc", HOST), _route("pwxyz", HOST)
    assert ceded((wanted,), state(found)) == ()
    assert diff((wanted,), state(found)) == (Step(wanted, found),)


def test_a_route_of_ones_own_that_differs_is_not_ceded() -> None:
    wanted, found = _route(gw="10.244.0.1"), _route(gw="10.244.0.9")
    assert ceded((wanted,), state(found)) == ()
    assert diff((wanted,), state(found)) == (Step(wanted, found),)


# words -------------------------------------------------------------------------------------------

ADDED = (
    "nft add table inet podwire",
    "nft add chain bridge podwire guard (1 rules)",
    f"nft add element bridge podwire macs {{ pwabc . {MAC} }}",
    "ip link add cni0 mtu 1450 up type bridge",
    (
        f"ip link add pwabc address {MAC} mtu 1450 master cni0 up"
        f" type veth peer name eth0 netns POD address {PEER_MAC}"
    ),
    (
        f"ip link add podwire4-x address {MAC} mtu 1450 type vxlan id 112 dstport 8472"
        " local 192.0.2.1 nolearning"
    ),
    "ip link add peabc mtu 1450 type ifb",
    "bridge link set dev pwabc hairpin on isolated off",
    "bridge vlan add dev pwabc vid 100 pvid untagged",
    "ethtool -K podwire4-x tx off",
    "tc qdisc add dev peabc root tbf rate 4000000bit burst 50000b limit 62500b",
    (
        "tc filter add dev pwabc ingress match all but 192.0.2.0/24"
        " action mirred egress redirect dev peabc"
    ),
    f"bridge fdb add {PEER_MAC} dev podwire4-x dst 192.0.2.2 self permanent",
    "iptables -A PODWIRE-FORWARD -s 10.244.0.0/24 -j ACCEPT (and -d 10.244.0.0/24)",
    "iptables-nft -N PODWIRE-FORWARD",
    "ip netns exec POD sysctl -w net/ipv6/conf/eth0/accept_ra=0",
    "ip -n POD link set eth0 txqueuelen 500 allmulticast on promisc off",
    "ip -n POD address add 10.244.0.2/24 dev eth0",
    "ip -n POD link set eth0 up",
    f"ip -n POD neighbour add 10.244.0.1 lladdr {MAC} dev eth0 nud permanent",
    "ip -n POD route add 0.0.0.0/0 via 10.244.0.1 dev eth0",
)


@pytest.mark.parametrize(
    ("obj", "line"), list(zip(ALL, ADDED, strict=True)), ids=lambda item: type(item).__name__
)
def test_a_step_reads_as_the_command_that_a_person_would_type(obj: Obj, line: str) -> None:
    assert describe(Step(obj, None)) == line


@pytest.mark.parametrize(
    ("obj", "line"),
    [
        (Bridge("cni0", 1450), "ip link delete cni0"),
        (Veth("pwabc", "eth0"), "ip link delete pwabc"),
        (Vxlan("podwire4-x", 112, 8472, ip_address("192.0.2.1")), "ip link delete podwire4-x"),
        (Ifb("peabc"), "ip link delete peabc"),
        (Tbf("peabc", 1, 1, 1), "tc qdisc delete dev peabc root"),
        (Redirect("pwabc", "ingress", "peabc"), "tc filter delete dev pwabc ingress"),
        (Up(POD, "eth0"), "ip -n POD link set eth0 down"),
        (
            Addr(HOST, "cni0", ip_interface("10.244.0.1/24")),
            "ip address delete 10.244.0.1/24 dev cni0",
        ),
        (
            Element("inet", "masq4", ("10.244.0.2",), goto="masq-x"),
            "nft delete element inet podwire masq4 { 10.244.0.2 : goto masq-x }",
        ),
        (
            ForwardAccept(ip_network("2001:db8::/64")),
            "ip6tables -D PODWIRE-FORWARD -s 2001:db8::/64 -j ACCEPT (and -d 2001:db8::/64)",
        ),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_removal_reads_so(obj: Obj, line: str) -> None:
    assert describe(Step(None, obj)) == line


@pytest.mark.parametrize(
    ("obj", "line"),
    [
        (
            Addr(POD, "eth0", ip_interface("2001:db8::2/64"), dad=False, connected=False),
            "ip -n POD address add 2001:db8::2/64 dev eth0 nodad noprefixroute",
        ),
        (
            RouteTo(
                POD, ip_network("2001:db8:9::/64"), 100, 50, "eth0",
                gw=ip_address("fe80::1"), mtu=1400, advmss=1300, onlink=True,
            ),
            (
                "ip -n POD route add 2001:db8:9::/64 via fe80::1 dev eth0 table 100 metric 50"
                " onlink mtu 1400 advmss 1300"
            ),
        ),
        (
            RouteTo(HOST, ip_network("10.244.0.2/32"), 254, 0, "pwabc", scope=253),
            "ip route add 10.244.0.2/32 dev pwabc scope link",
        ),
        (
            RouteTo(HOST, ip_network("2001:db8::2/128"), 254, 1024, "pwabc"),
            "ip route add 2001:db8::2/128 dev pwabc",
        ),
        (
            Bridge("cni0", vlan_filtering=True, promisc=True),
            "ip link add cni0 up type bridge vlan_filtering 1 promisc on",
        ),
    ],
    ids=str,
)  # fmt: skip
def test_every_choice_is_in_the_line(obj: Obj, line: str) -> None:
    assert describe(Step(obj, None)) == line


def test_a_difference_names_wanted_and_found() -> None:
    wanted = Veth("pwabc", "eth0", MAC, PEER_MAC, master="cni0")
    found = wanted._replace(master="", mac=PEER_MAC, mtu=1500)
    assert differences((wanted,), state(found)) == (
        f"Veth pwabc: mac wanted {MAC}, found {PEER_MAC}, master wanted cni0, found ",
    )


def test_something_missing_is_named_by_its_line() -> None:
    assert differences((Up(POD, "eth0"),), {}) == ("missing: ip -n POD link set eth0 up",)


def test_changed_rules_are_not_spelled_out() -> None:
    chain = RuleChain("inet", "postrouting", None, (DROP,))
    (line,) = differences((chain,), state(chain._replace(rules=())))
    assert line == "RuleChain inet postrouting: the rules are not the ones podwire writes"
