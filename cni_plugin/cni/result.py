"""Result <-> JSON in every SPEC version.

1.1.0 has everything; 1.0.0 lacks the interface's mtu, socketPath and pciID and the route's mtu,
advmss, priority, table and scope; 0.3.0 to 0.4.0 add `ips[].version`; 0.1.0 and 0.2.0 hold one
`ip4` and one `ip6` with their own routes, and know no interfaces.
Source: SPEC 1.1.0 section 5 and the same section of each older version.
"""

from __future__ import annotations

import json

from cni_plugin.cni.values import Dns, Interface, IPConfig, Result
from cni_plugin.cni.versions import at_least
from ipam.values import Route

_EXTENDED_SINCE = "1.1.0"
_UNNAMED_FAMILY_SINCE = "1.0.0"  # before: ips[].version
_LISTS_SINCE = "0.3.0"  # before: ip4 and ip6

JsonObject = dict[str, object]


def encode_result(result: Result, version: str) -> bytes:
    """The result as one line of JSON in a SPEC version, for stdout."""
    text = json.dumps(result_document(result, version), ensure_ascii=False)
    return text.encode() + b"\n"


def result_document(result: Result, version: str) -> JsonObject:
    """The result as a JSON object in a SPEC version. Empty lists and objects are left out.

    What the version cannot express is dropped; 0.2.0 and older carry the first address of each
    family only, and the routes of the families that have one (as libcni's converter does).
    """
    document: JsonObject = {"cniVersion": version}
    if at_least(version, _LISTS_SINCE):
        document |= _lists(result, version)
    else:
        document |= _families(result)
    if dns := dns_document(result.dns):
        document["dns"] = dns
    return document


def _lists(result: Result, version: str) -> JsonObject:
    extended = at_least(version, _EXTENDED_SINCE)
    lists = {
        "interfaces": [_interface(interface, extended) for interface in result.interfaces],
        "ips": [_ip(ip, version) for ip in result.ips],
        "routes": [route_document(route, extended) for route in result.routes],
    }
    return {key: entries for key, entries in lists.items() if entries}


def _families(result: Result) -> JsonObject:
    document: JsonObject = {}
    for family in (4, 6):
        first = next((ip for ip in result.ips if ip.address.version == family), None)
        if first is None:
            continue
        entry: JsonObject = {"ip": str(first.address)}
        if first.gateway is not None:
            entry["gateway"] = str(first.gateway)
        routes = [route for route in result.routes if route.dst.version == family]
        if routes:
            entry["routes"] = [route_document(route, extended=False) for route in routes]
        document[f"ip{family}"] = entry
    return document


def _interface(interface: Interface, extended: bool) -> JsonObject:
    document: JsonObject = {"name": interface.name}
    if interface.mac:
        document["mac"] = interface.mac
    if extended and interface.mtu is not None:
        document["mtu"] = interface.mtu
    if interface.sandbox:
        document["sandbox"] = interface.sandbox
    if extended and interface.socket_path:
        document["socketPath"] = interface.socket_path
    if extended and interface.pci_id:
        document["pciID"] = interface.pci_id
    return document


def _ip(ip: IPConfig, version: str) -> JsonObject:
    document: JsonObject = {}
    if not at_least(version, _UNNAMED_FAMILY_SINCE):
        document["version"] = str(ip.address.version)
    document["address"] = str(ip.address)
    if ip.gateway is not None:
        document["gateway"] = str(ip.gateway)
    if ip.interface is not None:
        document["interface"] = ip.interface
    return document


def route_document(route: Route, extended: bool = True) -> JsonObject:
    """A route as JSON. table 0 and scope 0 are values, so only None is left out."""
    document: JsonObject = {"dst": str(route.dst)}
    if route.gw is not None:
        document["gw"] = str(route.gw)
    if extended:
        numbers = {
            "mtu": route.mtu,
            "advmss": route.advmss,
            "priority": route.priority,
            "table": route.table,
            "scope": route.scope,
        }
        document |= {key: number for key, number in numbers.items() if number is not None}
    return document


def dns_document(dns: Dns) -> JsonObject:
    """Resolver settings as JSON, without what is empty."""
    fields: JsonObject = {
        "nameservers": list(dns.nameservers),
        "domain": dns.domain,
        "search": list(dns.search),
        "options": list(dns.options),
    }
    return {key: value for key, value in fields.items() if value}
