"""What is there on a node, as comparable lines, so that "nothing is left" can be asserted.

One line a thing: `links br0 {...}`, `files /run/x 0600 ...`. Left out is what changes by
itself: counters, timers, operational states, learned neighbours, and what the kernel derives
from a link's address (its connected routes, its own fe80:: address).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.node import Node

FILES_BELOW = ("/run", "/var/lib/cni", "/etc/cni")
# The pods' own names are the test's; the lock is every iptables' own.
FILES_IGNORED = ("/run/netns", "/run/mount", "/run/xtables.lock", "/run/lock")
_LINK_KEYS = ("link_type", "address", "mtu", "master", "ifalias", "group", "promiscuity")
_PORT_KEYS = ("hairpin", "isolated", "guard", "learning", "flood", "neigh_suppress")
_PASSING_FLAGS = {"LOWER_UP", "NO-CARRIER", "RUNNING", "M-DOWN"}


@dataclass(frozen=True)
class Snapshot:
    """A set of lines; the first word of each is its section."""

    lines: frozenset[str]

    def only(self, *sections: str) -> Snapshot:
        """The lines of these sections: links, addresses, routes, rules, neighbours, fdb, nft,
        iptables, files."""
        return Snapshot(frozenset(x for x in self.lines if x.split()[0] in sections))

    def without(self, pattern: str) -> Snapshot:
        """The lines in which the regular expression finds nothing."""
        return Snapshot(frozenset(x for x in self.lines if not re.search(pattern, x)))

    def diff(self, later: Snapshot) -> list[str]:
        """`+ line` for what came and `- line` for what went, sorted; [] when nothing changed."""
        gone = [f"- {line}" for line in self.lines - later.lines]
        come = [f"+ {line}" for line in later.lines - self.lines]
        return sorted(gone + come, key=lambda line: line[2:])


def take(node: Node) -> Snapshot:
    """Everything that a plugin could have left on the node."""
    links = node.ip("link")
    sections = {
        "links": _links(links),
        "addresses": _addresses(node),
        "routes": _routes(node),
        "rules": _rules(node),
        "neighbours": _neighbours(node),
        "fdb": _fdb(node),
        "nft": _nft(node),
        "iptables": _iptables(node),
        "files": _files(node),
    }
    return Snapshot(
        frozenset(f"{name} {line}" for name, lines in sections.items() for line in lines)
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _links(links: list[dict[str, Any]]) -> Iterator[str]:
    for link in links:
        info = link.get("linkinfo", {})
        data = info.get("info_slave_data", {})
        kept = {key: link[key] for key in _LINK_KEYS if key in link}
        kept["flags"] = sorted(set(link["flags"]) - _PASSING_FLAGS)
        kept["kind"] = info.get("info_kind")
        kept["port"] = {key: data[key] for key in _PORT_KEYS if key in data}
        if info.get("info_kind") == "bridge":
            # A bridge without an address of its own takes the lowest of its ports'.
            del kept["address"]
            kept["vlan_filtering"] = info["info_data"].get("vlan_filtering")
        yield f"{link['ifname']} {_text(kept)}"


def _own_link_local(mac: str) -> str:
    """The fe80:: address that the kernel gives a link with this MAC. RFC 4291 appendix A."""
    octets = bytes.fromhex(mac.replace(":", ""))
    last = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:6]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + last))


def _addresses(node: Node) -> Iterator[str]:
    for link in node.ip("addr"):
        own = _own_link_local(link["address"]) if link.get("link_type") == "ether" else None
        for info in link["addr_info"]:
            # The bridge's is made anew, with some delay, as its first port comes.
            bridge = link.get("linkinfo", {}).get("info_kind") == "bridge"
            local = info["local"]
            if local == own or (bridge and ipaddress.ip_address(local).is_link_local):
                continue
            yield f"{link['ifname']} {local}/{info['prefixlen']} {info['scope']}"


def _routes(node: Node) -> Iterator[str]:
    for family in ("-4", "-6"):
        for route in node.ip(family, "route", "show", "table", "all"):
            if route.get("protocol") == "kernel" or route.get("type") in {"local", "multicast"}:
                continue
            passing = {"flags", "cache", "pref"}
            yield _text({key: route[key] for key in route.keys() - passing})


def _rules(node: Node) -> Iterator[str]:
    for family in ("-4", "-6"):
        for rule in node.ip(family, "rule"):
            yield f"{family} {_text(rule)}"


def _neighbours(node: Node) -> Iterator[str]:
    for family in ("-4", "-6"):
        for entry in node.ip(family, "neigh", "show", "nud", "permanent"):
            yield _text(entry)
        for entry in node.ip(family, "neigh", "show", "proxy"):
            yield _text(entry)


def _fdb(node: Node) -> Iterator[str]:
    for entry in node.json("bridge", "-j", "fdb"):
        # Multicast and a link's own address come and go with the link.
        own = entry.get("state") == "permanent" and "dst" not in entry
        if not own and entry.get("state") in {"permanent", "static"}:
            yield _text(entry)


def _nft(node: Node) -> Iterator[str]:
    for item in node.json("nft", "-j", "list", "ruleset")["nftables"]:
        if "metainfo" in item:
            continue
        stable = _without(item, {"handle", "packets", "bytes"})
        kind, content = next(iter(stable.items()))
        elements = content.pop("elem", []) if kind in {"set", "map"} else []
        yield f"{kind} {_text(content)}"
        for element in elements:
            yield f"element {content['table']} {content['name']} {_text(element)}"


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    if isinstance(value, list):
        return [_without(item, keys) for item in value]
    return value


def _iptables(node: Node) -> Iterator[str]:
    for command in ("iptables-save", "ip6tables-save"):
        table = ""
        for line in node.run(command, check=False).stdout.splitlines():
            if line.startswith("*"):
                table = line
            if line[:1] in {":", "-"}:
                # Chains end with their counters, [packets:bytes].
                yield f"{command[:-5]} {table} {line.partition('[')[0].strip()}"


def _files(node: Node) -> Iterator[str]:
    for below in FILES_BELOW:
        top = node.path(below)
        for path in sorted(top.rglob("*")):
            name = below + str(path)[len(str(top)) :]
            if name.startswith(FILES_IGNORED) or path.is_dir():
                continue
            with suppress(FileNotFoundError):  # an agent at work may have removed it meanwhile
                yield f"{name} {path.lstat().st_mode & 0o7777:04o} {_content(path)}"


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    if not path.is_file():
        return "(special)"
    data = path.read_bytes()
    return repr(data) if len(data) <= 200 else f"sha256 {hashlib.sha256(data).hexdigest()}"
