"""A result survives every version as far as that version can express it."""

from __future__ import annotations

import json
from ipaddress import ip_interface

from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import SUPPORTED_VERSIONS
from cni_plugin.cni.result import encode_result
from cni_plugin.cni.result_parse import parse_prev_result
from cni_plugin.cni.values import Dns, Interface, IPConfig, Result
from ipam.values import IPInterface, Route

V4 = st.ip_addresses(v=4)
# ipv4_mapped addresses are refused: they are another spelling of an IPv4 address.
V6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None)
NUMBERS = st.none() | st.integers(0, (1 << 32) - 1)
TEXT = st.text(
    st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"])
)
MACS = st.just("") | st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


@st.composite
def interfaces_of_ip(draw: st.DrawFn) -> IPInterface:
    address = draw(V4 | V6)
    length = draw(st.integers(0, address.max_prefixlen))
    return ip_interface((address, length))


@st.composite
def ips(draw: st.DrawFn, count: int) -> IPConfig:
    address = draw(interfaces_of_ip())
    gateway = draw(st.none() | (V4 if address.version == 4 else V6))
    index = draw(st.none() | st.integers(0, count - 1)) if count else None
    return IPConfig(address, gateway, index)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    dst = draw(interfaces_of_ip()).network
    scope = draw(st.none() | st.integers(0, 255))
    numbers = [draw(NUMBERS) for _ in range(4)]
    return Route(dst, draw(st.none() | V4 | V6), *numbers, scope)


LINKS = st.builds(
    Interface,
    name=TEXT.filter(bool),
    mac=MACS,
    mtu=NUMBERS,
    sandbox=TEXT,
    socket_path=TEXT,
    pci_id=TEXT,
)
DNS = st.builds(
    Dns,
    nameservers=st.lists(TEXT, max_size=2).map(tuple),
    domain=TEXT,
    search=st.lists(TEXT, max_size=2).map(tuple),
    options=st.lists(TEXT, max_size=2).map(tuple),
)


@st.composite
def results(draw: st.DrawFn) -> Result:
    links = tuple(draw(st.lists(LINKS, max_size=3)))
    return Result(
        links,
        tuple(draw(st.lists(ips(len(links)), max_size=4))),
        tuple(draw(st.lists(routes(), max_size=3))),
        draw(DNS),
    )


def expressible(result: Result, version: str) -> Result:
    """What is left of a result in a version, said independently of the encoder."""
    if version == "1.1.0":
        return result
    plain = tuple(Route(route.dst, route.gw) for route in result.routes)
    if version not in ("0.1.0", "0.2.0"):
        links = tuple(Interface(i.name, i.mac, None, i.sandbox) for i in result.interfaces)
        return result._replace(interfaces=links, routes=plain)
    kept_ips: list[IPConfig] = []
    kept_routes: list[Route] = []
    for family in (4, 6):
        same = [ip for ip in result.ips if ip.address.version == family]
        if same:
            kept_ips.append(same[0]._replace(interface=None))
            kept_routes += [route for route in plain if route.dst.version == family]
    return Result((), tuple(kept_ips), tuple(kept_routes), result.dns)


@given(results(), st.sampled_from(SUPPORTED_VERSIONS))
def test_round_trip(result: Result, version: str) -> None:
    encoded = encode_result(result, version)
    document = decode_object(encoded)
    assert document["cniVersion"] == version
    assert parse_prev_result(document, "1.1.0") == expressible(result, version)


@given(results(), st.sampled_from(SUPPORTED_VERSIONS))
def test_a_result_is_one_line_of_json(result: Result, version: str) -> None:
    encoded = encode_result(result, version)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    json.loads(encoded)
