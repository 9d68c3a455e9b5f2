"""What is on a node, as lines, seen by iproute2, nft and find: never through podwire.

Unlike tests.support.snapshot it is one process a look, because a campaign looks thousands of
times, and it leaves out what a store may change for ever: the round robin, its logs and marks;
and the runtime's own cache.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.support.node import Node

State = frozenset[str]

_LOOK = """
for look in "ip -j -d link" "ip -j addr" "ip -j -4 route show table all" \
    "ip -j -6 route show table all" "ip -j neigh show nud permanent" "bridge -j fdb" \
    "nft -j list ruleset"; do
    echo "@@ $look"
    $look
done
echo "@@ find"
find /run /var/lib/cni /etc/cni /opt/cni \\( -path /run/netns -o -path /run/lock \
    -o -path /run/mount -o -path /run/xtables.lock -o -path /run/faults \
    -o -path /var/lib/cni/results \\) -prune \
    -o ! -type d -printf '%y %m %p\\n'
"""
# Notes of a store (they steer the choice of addresses), locks, caches of podwire, the campaign's
# own files. Leftover temp files are harmless (invariant 5): names with a dot in front.
_NOTES = re.compile(
    r"/(last_reserved_ip\.\d+|lock|\.boot_id|\.released|\.sticky|\.tmp|lost\+found)$"
    r"|/ballast/|^/run/podwire/configs/|^/run/podwire/.*/\.[^/]*$"
)
_OWN_ROUTES = {"local", "broadcast", "multicast", "anycast"}
_CHANGING = {"handle", "packets", "bytes", "expires"}
STATE_FOLDERS = ("/run/podwire/", "/var/lib/cni/")


def look(node: Node) -> State:
    """Everything on the node that belongs to attachments."""
    return frozenset(_lines(_sections(node)))


def address_files(node: Node, folder: str) -> dict[str, bytes]:
    """Name and content of each file of a store's folder that is named after an address."""
    path = node.path(folder)
    found = path.iterdir() if path.is_dir() else ()
    return {one.name: one.read_bytes() for one in found if _is_address(one.name) and one.is_file()}


def torn_files(node: Node, folder: str) -> list[str]:
    """Reservations without an owner and round robin positions that are no address."""
    found = [name for name, data in address_files(node, folder).items() if not _is_owner(data)]
    path = node.path(folder)
    positions = path.glob("last_reserved_ip.*") if path.is_dir() else ()
    found += (one.name for one in positions if not _is_address(one.read_text(errors="replace")))
    return sorted(found)


def misplaced(node: Node, *, modes: bool) -> list[str]:
    """Files outside of the state folders, and those that others may read (modes)."""
    wrong = []
    for line in _sections(node)["find"].splitlines():
        kind, mode, path = line.split(" ", 2)
        outside = not path.startswith(STATE_FOLDERS)
        open_to_others = modes and kind == "f" and int(mode, 8) & 0o077
        if (outside or open_to_others) and "/ballast/" not in path:
            wrong.append(line)
    return wrong


def _sections(node: Node) -> dict[str, str]:
    sections: dict[str, str] = {}
    for part in node.run("sh", "-c", _LOOK).stdout.split("@@ ")[1:]:
        name, _newline, text = part.partition("\n")
        sections[name] = text
    return sections


def _lines(sections: dict[str, str]) -> Iterator[str]:
    for name, text in sections.items():
        if name == "find":
            yield from _files(text)
        else:
            yield from _LOOKS[name.split()[-1] if name.startswith("nft") else name](
                json.loads(text or "[]")
            )


def _links(links: list[dict[str, Any]]) -> Iterator[str]:
    for link in links:
        if link["ifname"] != "lo":
            yield f"link {link['ifname']} master {link.get('master', '-')}"


def _addresses(links: list[dict[str, Any]]) -> Iterator[str]:
    for link in links:
        for info in link["addr_info"]:
            if not ipaddress.ip_address(info["local"]).is_link_local:
                yield f"address {link['ifname']} {info['local']}/{info['prefixlen']}"


def _routes(routes: list[dict[str, Any]]) -> Iterator[str]:
    for route in routes:
        dst = route["dst"]
        if route.get("type") not in _OWN_ROUTES and not dst.startswith(("fe80:", "ff00:")):
            yield f"route {dst} dev {route.get('dev', '-')} table {route.get('table', 'main')}"


def _neighbours(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        yield f"neighbour {entry['dst']} dev {entry['dev']}"


def _fdb(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        # A link's own and multicast addresses come and go with the link.
        if entry.get("state") == "static":
            yield f"fdb {entry['mac']} dev {entry['ifname']}"


def _nft(ruleset: dict[str, Any]) -> Iterator[str]:
    for item in ruleset["nftables"]:
        kind, content = next(iter(_without(item, _CHANGING).items()))
        if kind == "metainfo":
            continue
        elements = content.pop("elem", []) if kind in {"set", "map"} else []
        yield f"nft {kind} {json.dumps(content, sort_keys=True)}"
        for element in elements:
            yield f"nft element {content['name']} {json.dumps(element, sort_keys=True)}"


def _files(text: str) -> Iterator[str]:
    for line in text.splitlines():
        path = line.split(" ", 2)[2]
        if not _NOTES.search(path):
            yield f"file {path}"


_LOOKS: dict[str, Any] = {
    "ip -j -d link": _links,
    "ip -j addr": _addresses,
    "ip -j -4 route show table all": _routes,
    "ip -j -6 route show table all": _routes,
    "ip -j neigh show nud permanent": _neighbours,
    "bridge -j fdb": _fdb,
    "ruleset": _nft,
}


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, keys) for key, item in value.items() if key not in keys}
    if isinstance(value, list):
        return [_without(item, keys) for item in value]
    return value


def _is_owner(data: bytes) -> bool:
    r"""`<container id>\r\n<ifname>`, both printable."""
    return bool(re.fullmatch(rb"[!-~]+\r\n[!-~]+", data))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
