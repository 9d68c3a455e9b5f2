"""The kernel's nftables through pyroute2: tables, chains, sets, and the elements in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, Self

from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELSETELEM,
    NFT_MSG_GETSETELEM,
    nft_set_elem_list_msg,
)
from pyroute2.nftables.main import NFTables

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}  # NFPROTO_*
IFNAME_BYTES = 16  # IFNAMSIZ


class Named(NamedTuple):
    """A table, chain or set."""

    family: str
    table: str
    name: str


class Filter:
    """A with block around one socket."""

    def __enter__(self) -> Self:
        self._nft = NFTables(nfgen_family=0)  # all families
        return self

    def __exit__(self, _type: object, _error: object, _trace: object) -> None:
        self._nft.close()

    def tables(self) -> Iterator[Named]:
        for found in self._nft.get_tables():
            name = str(found.get("name"))
            yield Named(FAMILIES[found["nfgen_family"]], name, name)

    def chains(self) -> Iterator[Named]:
        return map(_named, self._nft.get_chains())

    def sets(self) -> Iterator[Named]:
        return map(_named, self._nft.get_sets())

    def elements(self, of: Named) -> Iterator[str]:
        """The keys of a set's elements, as text."""
        for received in self._ask(of):
            for element in received.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or ():
                yield _text(_key(element))

    def delete_element(self, of: Named, key: str) -> None:
        """Take one element away, as a stranger's hand would. key: as `elements` writes it.

        Raises LookupError when it is not there."""
        found = {
            _text(_key(element)): _key(element)
            for received in self._ask(of)
            for element in received.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or ()
        }
        raw = found[key]
        number = _number(of.family)
        doomed = [{"attrs": [["NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", raw)]}]]}]
        core = self._nft.asyncore
        core._nfgen_family = number  # noqa: SLF001 - pyroute2 has no other way to say it
        arguments = {"table": of.table, "set": of.name, "elements": doomed}
        commands = {"del": NFT_MSG_DELSETELEM}
        self._nft._run_with_cleanup(  # noqa: SLF001 - its set_elems reads the set back wrongly
            partial(core._command, nft_set_elem_list_msg, commands, "del", arguments)  # noqa: SLF001
        )

    def _ask(self, of: Named) -> list[Any]:
        core = self._nft.asyncore
        core._nfgen_family = _number(of.family)  # noqa: SLF001 - as above
        request = nft_set_elem_list_msg()
        request["attrs"] = [
            ["NFTA_SET_ELEM_LIST_TABLE", of.table],
            ["NFTA_SET_ELEM_LIST_SET", of.name],
        ]

        async def dump() -> list[Any]:
            return [one async for one in await core.request_get(request, NFT_MSG_GETSETELEM)]

        found: list[Any] = self._nft._run_with_cleanup(dump)  # noqa: SLF001 - as above
        return found


def _number(family: str) -> int:
    return next(number for number, name in FAMILIES.items() if name == family)


def _named(found: Any) -> Named:
    family = FAMILIES[found["nfgen_family"]]
    return Named(family, str(found.get("table")), str(found.get("name")))


def _key(element: Any) -> bytes:
    key: bytes = element.get_attr("NFTA_SET_ELEM_KEY").get_attr("NFTA_DATA_VALUE")
    return key


def _text(key: bytes) -> str:
    """An address; or a link's name, and an address or MAC after it. Otherwise the bytes."""
    if len(key) in {4, 16} and not key[:2].isalpha():
        return str(ipaddress.ip_address(key))
    name, rest = key[:IFNAME_BYTES].rstrip(b"\0"), key[IFNAME_BYTES:]
    if not name.isalnum():
        return key.hex()
    if len(rest) in {4, 16}:
        return f"{name.decode()} . {ipaddress.ip_address(rest)}"
    return f"{name.decode()} . {rest[:6].hex(':')}" if rest else name.decode()
