"""The last known nodes on disk: what a start goes by as long as the source is not heard.

A versioned JSON document, written whole or not at all. Whatever else is found in its place is told
and not used: without it a start waits for the source, and takes nothing away meanwhile.
"""

from __future__ import annotations

import json
import os
from typing import Any

from cni_plugin.cluster.values import Cluster, Node
from cni_plugin.cni import parse
from cni_plugin.durable import replace_durably
from cni_plugin.folder import ABSENT, make_private

FORMAT = 1
BYTES_MAX = 64 << 20  # a node has some 200; whatever is larger is not ours


class Unusable(Exception):
    """What lies in the file's place is no account of nodes: what is wrong with it."""


def dump_nodes(nodes: tuple[Node, ...]) -> bytes:
    """The document."""
    listed = [
        {
            "name": node.name,
            "podCIDRs": list(map(str, node.pod_cidrs)),
            "addresses": list(map(str, node.addresses)),
            "vtepMACs": {str(version): mac for version, mac in node.vtep_macs},
            "backend": node.backend,
        }
        for node in nodes
    ]
    return json.dumps({"format": FORMAT, "nodes": listed}, separators=(",", ":")).encode() + b"\n"


def load_nodes(data: bytes) -> tuple[Node, ...]:
    """What `dump_nodes` made. Raises Unusable for anything else."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise Unusable(f"format {document['format']!r}, this version knows {FORMAT}")
        return tuple(map(_node, document["nodes"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unusable(f"torn or no account of nodes ({type(error).__name__})") from error


def _node(entry: dict[str, Any]) -> Node:
    return Node(
        str(entry["name"]),
        tuple(map(parse.network, entry["podCIDRs"])),
        tuple(map(parse.address, entry["addresses"])),
        tuple((int(version), parse.mac(mac)) for version, mac in entry["vtepMACs"].items()),
        str(entry["backend"]),
    )


def read_known(path: str) -> Cluster | None:
    """The cluster as it was last known, not synced; None when there is no account of it. Raises
    Unusable, OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except ABSENT:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(BYTES_MAX + 1)
    if len(data) > BYTES_MAX:
        raise Unusable(f"it has more than {BYTES_MAX} bytes")
    return Cluster(load_nodes(data), synced=False)


def write_known(path: str, cluster: Cluster) -> None:
    """Keeps the nodes for the next start; the folder is made when it is missing. Raises OSError."""
    make_private(os.path.dirname(path))
    replace_durably(path, dump_nodes(cluster.nodes))
