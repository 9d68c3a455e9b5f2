from __future__ import annotations

from ipaddress import ip_address

from ipam.evidence import has_host_route, in_fib_trie, in_ipv6_route

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.0
        /24 link UNICAST
     +-- 192.0.2.0/30 2 0 2
        |-- 192.0.2.1
           /32 host LOCAL
        |-- 192.0.2.5
           /32 link UNICAST
     |-- 192.0.2.64
        /26 link UNICAST
"""
IPV6_ROUTE = (
    "20010db8000000000000000000000005 80 00000000000000000000000000000000 00"
    " 00000000000000000000000000000000 00000400 00000001 00000000 00000001     veth0\n"
    "20010db8000000000000000000000006 40 00000000000000000000000000000000 00"
    " 00000000000000000000000000000000 00000400 00000001 00000000 00000001     veth0\n"
)


def test_host_routes_and_own_addresses_are_evidence_prefixes_are_not() -> None:
    texts = ("192.0.2.1", "192.0.2.5", "192.0.2.0", "192.0.2.64", "192.0.2.50")
    got = [in_fib_trie(FIB_TRIE, ip_address(text)) for text in texts]
    assert got == [True, True, False, False, False]


def test_ipv6_likewise() -> None:
    got = [in_ipv6_route(IPV6_ROUTE, ip_address(f"2001:db8::{n}")) for n in (5, 6, 7)]
    assert got == [True, False, False]


def test_the_real_tables_are_understood() -> None:
    assert has_host_route(ip_address("127.0.0.1"))
    assert not has_host_route(ip_address("203.0.113.77"))
