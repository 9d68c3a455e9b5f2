"""Which events are a reason to look."""

from __future__ import annotations

import pytest

from cni_plugin.filter import guard
from cni_plugin.kernel import nft
from cni_plugin.kernel.monitor import (
    DELTABLE,
    DORMANT,
    EVERYTHING,
    Links,
    Suspects,
    takes_from_filter,
)
from cni_plugin.kernel.netlink import Message, encode, text
from cni_plugin.kernel.nft_exprs import be32
from cni_plugin.kernel.rtnl import IFF_UP, Link
from cni_plugin.model.objects import Element

PORT = Link(7, "pwabc", "veth", "02:00:00:00:00:01", 1500, 5, IFF_UP, "podwire net c eth0")
BRIDGE = Link(5, "cni0", "bridge", "02:00:00:00:00:02", 1500, 0, IFF_UP, "")
STRANGER = Link(9, "eth0", "", "02:00:00:00:00:03", 1500, 0, IFF_UP, "")


@pytest.mark.parametrize(
    ("before", "after", "suspect"),
    [
        (PORT, PORT, ""),
        (PORT, PORT._replace(flags=0), "pwabc"),
        (PORT, PORT._replace(master=0), "pwabc"),
        (PORT, PORT._replace(master=6), "pwabc"),
        (PORT, PORT._replace(name="other"), "pwabc"),
        (PORT, PORT._replace(mtu=1400), ""),
        (PORT._replace(flags=0, master=0), PORT, ""),  # how ADD makes it
        (BRIDGE, BRIDGE._replace(flags=0), "cni0"),
        (STRANGER, STRANGER._replace(flags=0), ""),
    ],
)
def test_a_link_is_suspect_when_it_loses_something(before: Link, after: Link, suspect: str) -> None:
    links = Links()
    assert links.learn(before) == ""
    assert links.learn(after) == suspect


def test_a_link_that_goes_is_named_once() -> None:
    links = Links()
    links.learn(PORT)
    assert links.name(7) == "pwabc"
    assert (links.forget(7), links.forget(7), links.name(7)) == ("pwabc", "", "")


def _event(message: Message, *, kind: int | None = None) -> bytes:
    changed = message if kind is None else message._replace(type=nft.SUBSYSTEM << 8 | kind)
    return encode(changed, 1)


ELEMENT = Element("inet", "masq4", ("10.0.0.2",))
TABLE = next(iter(nft.new_table("inet")))


def _body(attributes: bytes) -> Message:
    """A message of nftables with these attributes after its head (struct nfgenmsg)."""
    return TABLE._replace(body=TABLE.body[:4] + attributes)


@pytest.mark.parametrize(
    ("event", "suspect"),
    [
        (_event(nft.delete_element(ELEMENT)), True),
        (_event(nft.new_element(ELEMENT)), False),
        (_event(TABLE), False),
        (_event(_body(text(1, "podwire") + be32(2, DORMANT))), True),
        (_event(TABLE, kind=DELTABLE), True),
        (_event(_body(text(1, "other")), kind=DELTABLE), False),
        (
            # The name is in there, but the table is another.
            _event(_body(text(1, "other") + text(3, "podwire")), kind=nft.DELCHAIN),
            False,
        ),
        (b"".join(map(_event, nft.delete_chain(guard.desired_chains("inet")[0]))), True),
        (_event(nft.new_element(ELEMENT)) + _event(nft.delete_element(ELEMENT)), True),
    ],
)
def test_the_filter_is_suspect_when_our_table_loses_something(event: bytes, suspect: bool) -> None:
    assert takes_from_filter(event) is suspect


def test_reasons_add_up() -> None:
    one, other = Suspects(frozenset({"a"})), Suspects(frozenset({"b"}))
    assert one.joined(other) == Suspects(frozenset({"a", "b"}))
    assert one.joined(None) == one
    assert one.joined(EVERYTHING).everything
