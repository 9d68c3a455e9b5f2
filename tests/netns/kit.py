"""What the netns suite says often: configs, addresses of results, a talking peer, and leftovers."""

from __future__ import annotations

import contextlib
import ipaddress
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tests.support.node import Node, Pod
from tests.support.snapshot import Snapshot

Json = dict[str, Any]

POD4, POD6 = "10.244.0.0/24", "2001:db8:244::/64"
GATEWAY4, GATEWAY6 = "10.244.0.1", "2001:db8:244::1"
SUBNETS = {4: POD4, 6: POD6}
GATEWAYS = {4: GATEWAY4, 6: GATEWAY6}
ANY = {4: "0.0.0.0/0", 6: "::/0"}
MODES = ("bridge", "ptp")

# What a node keeps after a first ADD, failed or not: the chains and sets that every pod shares,
# the store's own files (addresses rotate), validated configs.
SHARED = (
    r"^nft (table|set|map) "
    r"|^nft (chain|rule) (?!.*masq-)"
    r"|^files /run/podwire/configs/"
    r"|^files .*/(lock|last_reserved_ip\.\d|\.boot_id|\.released) "
)
# What it keeps when its last pod has gone: the bridge as well.
NODE_WIDE = SHARED + r"|^(links|addresses) cni0 "


def ipam(*subnets: str, **more: Any) -> Json:
    """podwire's IPAM: a range set for each subnet and a default route for each version."""
    versions = sorted({ipaddress.ip_network(subnet).version for subnet in subnets})
    return {
        "type": "podwire-ipam",
        "ranges": [[{"subnet": subnet}] for subnet in subnets],
        "routes": [{"dst": ANY[version]} for version in versions],
        **more,
    }


def conf(mode: str = "bridge", versions: Sequence[int] = (4,), **changes: Any) -> Json:
    """A plugin object; a change to None leaves the key out."""
    base = {
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "podwire",
        "mode": mode,
        "ipam": ipam(*(SUBNETS[version] for version in versions)),
    }
    if mode == "bridge":
        base |= {"bridge": "cni0", "isGateway": True}
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def address(result: Json, version: int = 4) -> str:
    """The pod's first address of a version, without its prefix."""
    found = (ipaddress.ip_interface(ip["address"]) for ip in result["ips"])
    return next(str(one.ip) for one in found if one.version == version)


def host_end(result: Json) -> str:
    """The name of the attachment's link on the node."""
    outside = [link["name"] for link in result["interfaces"] if not link.get("sandbox")]
    return str(outside[-1])


def env(verb: str, pod: Pod, ifname: str = "eth0", **changes: str) -> dict[str, str]:
    """A runtime's environment of one call."""
    return {
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": pod.container_id,
        "CNI_NETNS": pod.netns,
        "CNI_IFNAME": ifname,
        **changes,
    }


def left(before: Snapshot, after: Snapshot, *, kept: str = NODE_WIDE) -> list[str]:
    """What came and stayed, less what belongs to the node."""
    return before.without(kept).diff(after.without(kept))


# A server that tells each caller which address it came from.
_SERVER = """
import socket, sys
listener = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6,
                                dualstack_ipv6=True, backlog=16)
print("ready", flush=True)
while True:
    caller, peer = listener.accept()
    caller.sendall(peer[0].removeprefix("::ffff:").encode())
    caller.close()
"""
_CALLER = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])) as call:
    print(call.recv(64).decode())
"""
PORT = 8080


@contextlib.contextmanager
def running_python(
    place: Node | Pod, program: str, *arguments: str
) -> Iterator[subprocess.Popen[str]]:
    """A program in the namespace that has said `ready`, with pipes; it is killed at the end."""
    process = place.spawn(
        sys.executable, "-I", "-S", "-c", program, *arguments,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def listening(place: Node | Pod, port: int = PORT) -> Iterator[None]:
    """A server in the namespace that answers with its caller's address."""
    with running_python(place, _SERVER, str(port)):
        yield


def seen_as(place: Node | Pod, target: str, port: int = PORT, *, limit_s: float = 3.0) -> str:
    """As which address the server at target sees this namespace; "" when there is no way."""
    call = (sys.executable, "-I", "-S", "-c", _CALLER, target, str(port), str(limit_s))
    return place.run(*call, check=False).stdout.strip()
