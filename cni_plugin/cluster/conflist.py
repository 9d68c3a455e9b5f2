"""The config list that the agent writes for the runtime: from a template and the node's values.

Pure. A placeholder is a whole JSON value, "${ranges}", and is replaced by a JSON value: nothing
that a node's values hold can become a key or end a text. The outcome must pass what
`podwire validate` asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any, NamedTuple

from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import InvalidNetworkConfig
from cni_plugin.cni.names import shown
from cni_plugin.cni.problems import Problem, path_of, raise_problems
from ipam.values import IPNetwork

DEFAULT_PATH = "/etc/cni/net.d/10-podwire.conflist"
# What podwire serves itself, so that no other plugin of the list needs it: the one place to add to.
CAPABILITIES = ("bandwidth", "dns", "ips", "mac", "portMappings")
# Which files a runtime reads, those with a dot before their name too. Source: libcni's ConfFiles as
# containerd and CRI-O call it.
SUFFIXES = (".conf", ".conflist", ".json")
ANY = {4: "0.0.0.0/0", 6: "::/0"}
DEFAULT_TEMPLATE: Mapping[str, Any] = {
    # The runtime takes the highest that it knows. One that knows no 1.1.0 (containerd before 2.0)
    # takes such a list all the same, and then refuses each result: no pod would start.
    "cniVersion": "1.0.0",
    "cniVersions": ["1.0.0", "1.1.0"],
    "name": "podwire",
    "plugins": [
        {
            "type": "podwire",
            "bridge": "cni0",
            "isDefaultGateway": True,
            "ipMasq": True,
            "nonMasqueradeCIDRs": "${nonMasqueradeCIDRs}",
            "mtu": "${mtu}",
            "ipam": {"type": "podwire-ipam", "ranges": "${ranges}"},
            "capabilities": "${capabilities}",
        }
    ],
}


class NodeValues(NamedTuple):
    """What placeholders stand for. ranges: this node's pod ranges, one an IP version. mtu in bytes,
    0: the plugin finds it. non_masquerade: destinations whose senders keep their addresses, as the
    cluster's ranges are."""

    ranges: tuple[IPNetwork, ...]
    mtu: int = 0
    non_masquerade: tuple[IPNetwork, ...] = ()
    capabilities: tuple[str, ...] = CAPABILITIES


# With which a template is tried before the node has any of its own: RFC 5737, RFC 3849.
SAMPLE = NodeValues((ip_network("198.51.100.0/24"), ip_network("2001:db8::/64")), 1450)


def placeholders(values: NodeValues) -> dict[str, Any]:
    """The JSON value of each placeholder."""
    return {
        "${ranges}": [[{"subnet": str(network)}] for network in values.ranges],
        "${routes}": [{"dst": ANY[network.version]} for network in values.ranges],
        "${mtu}": values.mtu,
        "${capabilities}": dict.fromkeys(values.capabilities, True),
        "${nonMasqueradeCIDRs}": list(map(str, values.non_masquerade)),
    }


def render(template: Mapping[str, Any], values: NodeValues) -> bytes:
    """The config list as a file. Raises InvalidNetworkConfig or UnsupportedField with every
    problem, a text that looks like a placeholder and is none among them."""
    from cni_plugin.cni.conf_review import review_list

    found: list[Problem] = []
    document = _filled(template, placeholders(values), (), found)
    raise_problems([*found, *review_list(document).problems])
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def read_template(data: bytes, source: str) -> dict[str, Any]:
    """A user's template, tried with a sample's values. Raises DecodeFailure, InvalidNetworkConfig,
    UnsupportedField; source names the file."""
    template = decode_object(data, source)
    if "plugins" not in template:
        raise InvalidNetworkConfig(f"{source} is no config list: it has no plugins")
    render(template, SAMPLE)
    return template


def rivals(own: str, names: Iterable[str]) -> tuple[str, ...]:
    """The config files beside our own, in the order in which a runtime prefers them: by name."""
    return tuple(sorted(n for n in names if n != own and n.endswith(SUFFIXES)))


def is_second(own: str, others: Iterable[str]) -> bool:
    """Whether a runtime takes one of the others rather than our own."""
    return any(name < own for name in others)


def rivalry(folder: str, own: str, others: tuple[str, ...]) -> str:
    """What rivals mean, in a sentence; empty when there are none. Nothing is done about them: whose
    they are is not known here."""
    if not others:
        return ""
    listed = ", ".join(map(shown, others))
    if is_second(own, others):
        return (
            f"{folder} also holds {listed}: a runtime takes {shown(min(others))} rather than {own},"
            " by the order of names; move away what is not to be used"
        )
    return f"{folder} also holds {listed}: a runtime takes {own}, the first by name"


def _filled(
    value: Any, known: Mapping[str, Any], path: tuple[object, ...], found: list[Problem]
) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, known, (*path, key), found) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, known, (*path, at), found) for at, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    if value not in known:
        accepted = f"one of {', '.join(known)}, alone between the quotes"
        found.append(Problem(path_of(path), value, accepted))
    return known.get(value)
