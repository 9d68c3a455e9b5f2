"""JSON of a result, in any SPEC version, -> Result: prevResult and what an IPAM plugin printed.

Strict about what podwire acts on (addresses, indexes, routes), silent about keys it does not
know: a result carries what other plugins put there. null is absent, as in Go's encoding.
"""

from __future__ import annotations

from collections.abc import Callable

from cni_plugin.cni import parse
from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import (
    SUPPORTED_VERSIONS,
    CNIError,
    DecodeFailure,
    InvalidNetworkConfig,
)
from cni_plugin.cni.names import shown
from cni_plugin.cni.values import Dns, Interface, IPConfig, Result
from cni_plugin.cni.versions import at_least
from ipam.lean_typing import TypeVar
from ipam.values import IPAddress, IPNetwork, Route

T = TypeVar("T")
JsonObject = dict[str, object]
_U32_MAX = (1 << 32) - 1  # RTA_PRIORITY, RTA_TABLE and RTAX_* are 32 bits, linux/rtnetlink.h
_SCOPE_MAX = 255  # rtm_scope is one byte, linux/rtnetlink.h
_HEX = frozenset("0123456789abcdefABCDEF:")


class _Reader:
    """Reads one document; every refusal is one kind of error and names the path."""

    def __init__(self, error: type[CNIError], *, ipam: bool) -> None:
        self._error = error
        self.ipam = ipam

    def fail(self, path: str, value: object, accepted: str) -> CNIError:
        return self._error(f"{path} is {shown(value)}, accepted: {accepted}")

    def mapping(self, value: object, path: str) -> JsonObject:
        if isinstance(value, dict):
            return value
        raise self.fail(path, value, "an object")

    def entries(self, value: object, path: str) -> list[tuple[str, object]]:
        """The entries with their paths."""
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.fail(path, value, "an array")
        return [(f"{path}[{index}]", entry) for index, entry in enumerate(value)]

    def string(self, value: object, path: str) -> str:
        if isinstance(value, str) and not any(c < " " or c == "\x7f" for c in value):
            return value
        raise self.fail(path, value, "a string without control characters")

    def text(self, document: JsonObject, key: str, path: str) -> str:
        value = document.get(key)
        return "" if value is None else self.string(value, f"{path}.{key}")

    def texts(self, document: JsonObject, key: str, path: str) -> tuple[str, ...]:
        entries = self.entries(document.get(key), f"{path}.{key}")
        return tuple(self.string(entry, where) for where, entry in entries)

    def number(self, document: JsonObject, key: str, path: str, most: int) -> int | None:
        value = document.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        raise self.fail(f"{path}.{key}", value, f"a whole number, 0 to {most}")

    def parsed(self, path: str, value: object, parser: Callable[[object], T]) -> T:
        try:
            return parser(value)
        except parse.Fault as fault:
            raise self.fail(path, value, str(fault)) from None


def parse_prev_result(value: object, version: str) -> Result:
    """A config's `prevResult`; version is the config's, used when the result names none.

    Raises InvalidNetworkConfig with path, value and what is accepted.
    """
    return _result(value, version, "prevResult", _Reader(InvalidNetworkConfig, ipam=False))


def parse_ipam_result(data: bytes, version: str, plugin: str) -> Result:
    """What a delegated IPAM plugin printed for ADD: no interfaces, and no index into them.

    Raises DecodeFailure with path, value and what is accepted; plugin names it in messages.
    Source: SPEC 1.1.0 section 5, "Delegated plugins (IPAM)".
    """
    document = decode_object(data, f"the result of {plugin}")
    return _result(document, version, f"{plugin}'s result", _Reader(DecodeFailure, ipam=True))


def _result(value: object, version: str, path: str, reader: _Reader) -> Result:
    document = reader.mapping(value, path)
    own = document.get("cniVersion")
    if own is not None and own != "":
        if not isinstance(own, str) or own not in SUPPORTED_VERSIONS:
            known = ", ".join(SUPPORTED_VERSIONS)
            raise reader.fail(f"{path}.cniVersion", own, f"one of {known}")
        version = own
    if at_least(version, "0.3.0"):
        return _lists(document, version, path, reader)
    return _families(document, path, reader)


def _lists(document: JsonObject, version: str, path: str, reader: _Reader) -> Result:
    interfaces: tuple[Interface, ...] = ()
    if not reader.ipam:
        interfaces = tuple(
            _interface(entry, where, reader)
            for where, entry in reader.entries(document.get("interfaces"), f"{path}.interfaces")
        )
    return Result(
        interfaces=interfaces,
        ips=tuple(
            _ip(entry, where, version, len(interfaces), reader)
            for where, entry in reader.entries(document.get("ips"), f"{path}.ips")
        ),
        routes=_routes(document.get("routes"), f"{path}.routes", reader),
        dns=_dns(document.get("dns"), f"{path}.dns", reader),
    )


def _families(document: JsonObject, path: str, reader: _Reader) -> Result:
    ips: list[IPConfig] = []
    routes: list[Route] = []
    for family in (4, 6):
        where = f"{path}.ip{family}"
        value = document.get(f"ip{family}")
        if value is None:
            continue
        entry = reader.mapping(value, where)
        address = reader.parsed(f"{where}.ip", entry.get("ip"), parse.interface)
        if address.version != family:
            raise reader.fail(f"{where}.ip", str(address), f"an IPv{family} address")
        gateway = _gateway(entry, "gateway", where, reader)
        ips.append(IPConfig(address, gateway))
        routes += _routes(entry.get("routes"), f"{where}.routes", reader)
    return Result(
        ips=tuple(ips),
        routes=tuple(routes),
        dns=_dns(document.get("dns"), f"{path}.dns", reader),
    )


def _interface(value: object, path: str, reader: _Reader) -> Interface:
    document = reader.mapping(value, path)
    name = reader.text(document, "name", path)
    if not name:
        raise reader.fail(f"{path}.name", document.get("name"), "the interface's name")
    mac = reader.text(document, "mac", path)
    # Not `parse.mac`: other plugins make links whose address is no Ethernet MAC.
    if not _HEX.issuperset(mac):
        raise reader.fail(f"{path}.mac", mac, "bytes in hexadecimal with colons between")
    return Interface(
        name=name,
        mac=mac.lower(),
        mtu=reader.number(document, "mtu", path, _U32_MAX),
        sandbox=reader.text(document, "sandbox", path),
        socket_path=reader.text(document, "socketPath", path),
        pci_id=reader.text(document, "pciID", path),
    )


def _ip(value: object, path: str, version: str, count: int, reader: _Reader) -> IPConfig:
    document = reader.mapping(value, path)
    address = reader.parsed(f"{path}.address", document.get("address"), parse.interface)
    family = document.get("version")
    if not at_least(version, "1.0.0") and family not in (None, str(address.version)):
        raise reader.fail(f"{path}.version", family, f'"{address.version}", as {address} has it')
    gateway = _gateway(document, "gateway", path, reader)
    if gateway is not None and gateway.version != address.version:
        raise reader.fail(f"{path}.gateway", str(gateway), f"an IPv{address.version} address")
    index = None
    if not reader.ipam:
        index = reader.number(document, "interface", path, _U32_MAX)
        if index is not None and index >= count:
            raise reader.fail(
                f"{path}.interface", index, f"an index into the {count} interfaces of the result"
            )
    return IPConfig(address, gateway, index)


def _gateway(document: JsonObject, key: str, path: str, reader: _Reader) -> IPAddress | None:
    value = document.get(key)
    if value is None or value == "":  # Go writes an unset address as an empty string
        return None
    return reader.parsed(f"{path}.{key}", value, parse.address)


def _routes(value: object, path: str, reader: _Reader) -> tuple[Route, ...]:
    return tuple(_route(entry, where, reader) for where, entry in reader.entries(value, path))


def _route(value: object, path: str, reader: _Reader) -> Route:
    document = reader.mapping(value, path)
    dst: IPNetwork = reader.parsed(f"{path}.dst", document.get("dst"), _masked_network)
    return Route(
        dst=dst,
        gw=_gateway(document, "gw", path, reader),
        mtu=reader.number(document, "mtu", path, _U32_MAX),
        advmss=reader.number(document, "advmss", path, _U32_MAX),
        priority=reader.number(document, "priority", path, _U32_MAX),
        table=reader.number(document, "table", path, _U32_MAX),
        scope=reader.number(document, "scope", path, _SCOPE_MAX),
    )


def _masked_network(value: object) -> IPNetwork:
    return parse.network(value, mask=True)


def _dns(value: object, path: str, reader: _Reader) -> Dns:
    if value is None:
        return Dns()
    document = reader.mapping(value, path)
    return Dns(
        nameservers=reader.texts(document, "nameservers", path),
        domain=reader.text(document, "domain", path),
        search=reader.texts(document, "search", path),
        options=reader.texts(document, "options", path),
    )
