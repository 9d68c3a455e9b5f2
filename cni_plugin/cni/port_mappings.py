"""The capability `portMappings`: ports of the node that lead to the pod. Pure.

Source: CNI conventions, capability `portMappings`; reference plugin `portmap`.
"""

from __future__ import annotations

from collections.abc import Mapping

from cni_plugin.cni import parse
from cni_plugin.cni.errors import UnsupportedField
from cni_plugin.cni.problems import Problem
from cni_plugin.cni.values import PortMapping
from ipam.lean_typing import Any
from ipam.values import IPAddress

PROTOCOLS = ("tcp", "udp", "sctp")
PORT_MAX = (1 << 16) - 1
MAPPINGS_MAX = 256  # of one attachment: all go in one transaction, which is one datagram
PORT_ACCEPTED = f"a port, 1 to {PORT_MAX}"
PROTOCOL_ACCEPTED = "tcp, udp or sctp"
MAPPINGS_ACCEPTED = f"an array of at most {MAPPINGS_MAX} mappings"
MAPPING_ACCEPTED = "an object with hostPort and containerPort"
HOST_IP_ACCEPTED = "empty, 0.0.0.0, :: or an IP address, which should be the node's"
NO_LOOPBACK = (
    "127.0.0.0/8 and ::1 lead to no pod, because routing them (route_localnet) would open what"
    " listens there to all pods; use another address of the node"
)


def review(asked: object, path: str) -> tuple[tuple[PortMapping, ...], list[Problem]]:
    """The mappings, and what is wrong with them; with a problem there are none. path: the
    array's."""
    if not isinstance(asked, list) or len(asked) > MAPPINGS_MAX:
        return (), [Problem(path, asked, MAPPINGS_ACCEPTED)]
    problems: list[Problem] = []
    found: dict[int, PortMapping] = {}
    for index, entry in enumerate(asked):
        mapping = _mapping(entry, f"{path}[{index}]", problems)
        if mapping is not None:
            found[index] = mapping
    problems += _repeated(found, path)
    return () if problems else tuple(found.values()), problems


def _mapping(entry: object, path: str, problems: list[Problem]) -> PortMapping | None:
    if not isinstance(entry, dict):
        problems.append(Problem(path, entry, MAPPING_ACCEPTED))
        return None
    before = len(problems)
    made = PortMapping(
        _port(entry, "hostPort", path, problems),
        _port(entry, "containerPort", path, problems),
        _protocol(entry.get("protocol"), path, problems),
        _host_ip(entry.get("hostIP"), path, problems),
    )
    return made if len(problems) == before else None


def _port(entry: Mapping[str, Any], key: str, path: str, problems: list[Problem]) -> int:
    value = entry.get(key)
    # bool is an int in Python, and true is not a number in JSON.
    if type(value) is int and 0 < value <= PORT_MAX:
        return value
    problems.append(Problem(f"{path}.{key}", value, PORT_ACCEPTED, missing=key not in entry))
    return 0


def _protocol(value: object, path: str, problems: list[Problem]) -> str:
    """tcp when absent, in either case of letters, as with the reference plugin."""
    text = value.lower() if isinstance(value, str) else value
    if text is None or text == "":
        return "tcp"
    if isinstance(text, str) and text in PROTOCOLS:
        return text
    problems.append(Problem(f"{path}.protocol", value, PROTOCOL_ACCEPTED))
    return ""


def _host_ip(value: object, path: str, problems: list[Problem]) -> IPAddress | None:
    if value is None or value == "":
        return None
    try:
        address = parse.address(value, HOST_IP_ACCEPTED)
    except parse.Fault as fault:
        problems.append(Problem(f"{path}.hostIP", value, str(fault)))
        return None
    if address.is_loopback:
        problems.append(Problem(f"{path}.hostIP", value, NO_LOOPBACK, code=UnsupportedField.code))
    elif address.is_multicast:
        problems.append(Problem(f"{path}.hostIP", value, HOST_IP_ACCEPTED))
    return address


def _repeated(found: Mapping[int, PortMapping], path: str) -> list[Problem]:
    """Ports that an earlier mapping of the same request has: one of the two would do nothing."""
    problems: list[Problem] = []
    by_port: dict[tuple[str, int], list[int]] = {}
    for index, mapping in found.items():
        earlier = by_port.setdefault((mapping.protocol, mapping.host_port), [])
        for other in earlier:
            if overlap(found[other].host_ip, mapping.host_ip):
                accepted = f"a {mapping.protocol} port that {path}[{other}] does not have"
                problems.append(Problem(f"{path}[{index}].hostPort", mapping.host_port, accepted))
                break
        earlier.append(index)
    return problems


def overlap(one: IPAddress | None, other: IPAddress | None) -> bool:
    """Whether an address of the node can be both."""
    if one is None or other is None or one == other:
        return True
    return one.version == other.version and (one.is_unspecified or other.is_unspecified)


_PORT: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": PORT_MAX}
JSON_SCHEMA: dict[str, Any] = {
    "type": ["array", "null"],
    "maxItems": MAPPINGS_MAX,
    "description": "Ports of the node that lead to the pod.",
    "items": {
        "type": "object",
        "required": ["hostPort", "containerPort"],
        "properties": {
            "hostPort": _PORT | {"description": "The node's port."},
            "containerPort": _PORT | {"description": "The pod's port."},
            "protocol": {
                "type": ["string", "null"],
                "pattern": "^([tT][cC][pP]|[uU][dD][pP]|[sS][cC][tT][pP])?$",
                "description": "tcp (when absent), udp or sctp.",
            },
            "hostIP": {
                "type": ["string", "null"],
                "description": "The node's address; absent: every one; 0.0.0.0, ::: every one of"
                " that IP version.",
            },
        },
    },
}
