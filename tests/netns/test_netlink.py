"""Our sockets on a real kernel: its refusals, its own words, its dumps and its transactions."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_interface, ip_network

import pytest

from cni_plugin.kernel import census, nft, rtnl
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.netlink import NETLINK_NETFILTER, KernelError, Message, Socket
from cni_plugin.model.objects import POD, Addr, Element, RouteTo
from cni_plugin.reconcile import links
from tests.support.node import Node


@pytest.fixture
def netns(node: Node) -> Iterator[int]:
    """The node's network as a descriptor: sockets are opened in it and stay there."""
    with open(node.netns, "rb") as file:
        yield file.fileno()


@pytest.fixture
def route(netns: int) -> Iterator[Socket]:
    with closing(inside(netns, Socket)) as opened:
        yield opened


@pytest.fixture
def filters(netns: int) -> Iterator[Socket]:
    with closing(inside(netns, lambda: Socket(NETLINK_NETFILTER))) as opened:
        yield opened


def _name(link: str) -> Message:
    return rtnl.change_link(link, rtnl.LinkChange(up=True), f"ip link set {link} up")


def test_a_socket_stays_in_the_namespace_that_it_was_opened_in(node: Node, route: Socket) -> None:
    node.configure("link add here type bridge")
    assert route.get(rtnl.get_link("here")) is not None


def test_one_refusal_in_a_batch_does_not_stop_the_others(node: Node, route: Socket) -> None:
    node.configure("link add one type bridge")
    outcomes = route.batch([_name("one"), _name("missing"), _name("lo")])
    assert [failure and failure.errno for failure in outcomes] == [None, errno.ENODEV, None]
    link = node.link("one")
    assert link is not None
    assert "UP" in link["flags"]


def test_the_kernels_own_words_come_with_the_refusal(route: Socket) -> None:
    lo = route.get(rtnl.get_link("lo"))
    assert lo is not None
    wanted = RouteTo(
        POD,
        ip_network("203.0.113.0/24"),
        254,
        0,
        "lo",
        gw=ip_interface("192.0.2.99/32").ip,
        scope=0,
    )
    (failure,) = route.batch([rtnl.new_route(wanted, 1, "ip route add 203.0.113.0/24")])
    assert failure is not None
    assert failure.errno == errno.ENETUNREACH
    assert failure.extended == "Nexthop has invalid gateway"


def test_what_is_not_there_is_none(route: Socket) -> None:
    assert route.get(rtnl.get_link("missing")) is None


def test_a_dump_longer_than_one_datagram_is_whole(node: Node, route: Socket) -> None:
    lines = "".join(f"link add d{number} type bridge\n" for number in range(60))
    node.run("ip", "-batch", "-", stdin=lines)
    names = [rtnl.parse_link(link).name for link in route.dump(rtnl.dump_links())]
    assert sorted(names) == sorted({"lo", *(f"d{number}" for number in range(60))})


def test_a_dump_under_changes_is_whole_all_the_same(node: Node, route: Socket) -> None:
    """An interrupted dump is taken again: what was there all the time is in every answer."""
    steady = {f"s{number}" for number in range(40)}
    node.run(
        "ip", "-batch", "-", stdin="".join(f"link add {name} type bridge\n" for name in steady)
    )
    churn = "link add x type bridge\nlink del x\n" * 40
    process = node.spawn("ip", "-batch", "-", stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(churn)
        process.stdin.close()
        rounds = 0
        while process.poll() is None or not rounds:
            try:
                found = {rtnl.parse_link(x).name for x in route.dump(rtnl.dump_links())}
            except KernelError as error:
                if error.errno != errno.EINTR:  # five times in a row: said, not hidden
                    raise
                continue
            assert steady <= found
            rounds += 1
    finally:
        process.kill()
        process.wait()


def test_a_link_and_its_address_are_read_as_they_are(node: Node, route: Socket) -> None:
    node.configure("link add one address 02:00:5e:00:00:01 mtu 1400 up type bridge")
    node.configure("addr add 192.0.2.1/24 dev one")
    received = route.get(rtnl.get_link("one"))
    assert received is not None
    link = rtnl.parse_link(received)
    assert (link.kind, link.mac, link.mtu, bool(link.flags & rtnl.IFF_UP)) == (
        "bridge",
        "02:00:5e:00:00:01",
        1400,
        True,
    )
    (found,) = map(rtnl.parse_address, route.dump(rtnl.dump_addresses(link.ifindex)))
    assert found.address == ip_interface("192.0.2.1/24")


def test_a_glance_at_the_links_sees_the_same_names_and_aliases(node: Node, netns: int) -> None:
    node.configure("link add one type veth peer name two")
    node.run("ip", "link", "set", "one", "alias", "podwire net c0ffee eth0")
    glance = inside(netns, links.read_links)
    assert glance == inside(netns, census.take).links
    assert glance["one"] == "podwire net c0ffee eth0"
    assert glance["two"] == ""


def test_an_address_that_is_there_is_eexist(node: Node, route: Socket) -> None:
    node.configure("link add one type bridge")
    received = route.get(rtnl.get_link("one"))
    assert received is not None
    index = rtnl.parse_link(received).ifindex
    message = rtnl.new_address(Addr(POD, "one", ip_interface("192.0.2.1/24")), index, "")
    first, second = route.batch([message, message])
    assert first is None
    assert second is not None
    assert second.errno == errno.EEXIST


def test_a_transaction_is_all_or_nothing(node: Node, filters: Socket) -> None:
    missing = Element("inet", "mac_ports", ("pwmissing",))
    with pytest.raises(KernelError) as failure:
        nft.transaction(filters, [*nft.new_table("inet"), nft.delete_element(missing)])
    assert failure.value.errno == errno.ENOENT
    assert "delete element inet podwire mac_ports { pwmissing }" in failure.value.msg
    assert node.run("nft", "list", "tables").stdout == ""


def test_after_a_failed_transaction_the_next_one_works(node: Node, filters: Socket) -> None:
    missing = Element("inet", "mac_ports", ("pwmissing",))
    with pytest.raises(KernelError):
        nft.transaction(filters, [*nft.new_table("inet"), nft.delete_element(missing)])
    present = missing._replace(owner="pwmissing")
    nft.transaction(filters, [*nft.new_table("inet"), nft.new_element(present)])
    assert nft.observe_elements(filters, [missing]) == [present]
    assert nft.observe_set(filters, "inet", "mac_ports") == [present]
    assert 'elements = { "pwmissing" comment "pwmissing" }' in (
        node.run("nft", "list", "set", "inet", "podwire", "mac_ports").stdout
    )


def test_a_set_of_a_table_that_is_not_there_is_empty(filters: Socket) -> None:
    assert nft.observe_set(filters, "inet", "mac_ports") == []
    assert nft.observe_elements(filters, [Element("inet", "mac_ports", ("x",))]) == []
