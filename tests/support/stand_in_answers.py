"""What the stand-ins for docker, kind, kubectl and make answer; see stand_in. Starts for each call,
so it imports little."""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Json = dict[str, Any]

NODES = ("podwire-control-plane", "podwire-worker", "podwire-worker2")
POD = {4: "10.244.{}.{}", 6: "2001:db8:244:{}::{}"}
NODE = {4: "192.0.2.{}", 6: "2001:db8:1::{}"}
SERVICE = {4: "10.96.0.10", 6: "2001:db8:96::10"}
OUTSIDE = {4: "192.0.2.99", 6: "2001:db8:1::99"}
FAMILIES = {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}


def answer(folder: str) -> int:
    """One call of a stand-in; its exit status. Faults: `daemon` (docker has none), `rollout` (the
    agents never get ready), `cross` (no way between nodes), `masquerade` (pods keep their
    addresses), `pod` (one never gets an address)."""
    with open(f"{folder}/settings") as file:
        settings = json.load(file)
    argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    entry: Json = {"argv": argv, "stdin": "" if "exec" in argv else sys.stdin.read()}
    if "-k" in argv:
        entry["files"] = _files(argv[argv.index("-k") + 1])
    with open(f"{folder}/calls", "a") as log:
        log.write(json.dumps(entry) + "\n")
    status, stdout, stderr = _reply(argv, settings)
    sys.stdout.write(stdout)
    sys.stderr.write(stderr)
    return status


def _files(folder: str) -> dict[str, str]:
    found = {}
    for name in os.listdir(folder):
        with open(f"{folder}/{name}") as file:
            found[name] = file.read()
    return found


def _reply(argv: list[str], settings: Json) -> tuple[int, str, str]:
    faults, versions = settings["faults"], FAMILIES[settings["family"]]
    if "exec" in argv:
        return _respond(argv, faults)
    words = set(argv)
    if {"docker", "info"} <= words and "daemon" in faults:
        return 1, "", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.\n"
    if {"kind", "get", "clusters"} <= words:
        listed = "".join(f"{one}\n" for one in settings["clusters"])
        return 0, listed, "" if listed else "No kind clusters found.\n"
    if {"rollout", "daemonset/podwire"} <= words and "rollout" in faults:
        return 1, "", "error: timed out waiting for the condition\n"
    document = _document(words, versions, faults)
    return 0, json.dumps(document) if document else "", ""


def _document(words: set[str], versions: Sequence[int], faults: Sequence[str]) -> object:
    """What -o json and inspect say; None for every other command."""
    if {"docker", "inspect"} <= words:
        found = {"IPAddress": OUTSIDE[4], "GlobalIPv6Address": OUTSIDE[6]}
        return [{"NetworkSettings": {"Networks": {"kind": found}}}]
    if {"get", "nodes"} <= words:
        return {"items": [_node(at, versions) for at in range(3)]}
    if {"get", "pods", "json"} <= words:
        made = [_pod(app, at, versions) for app in ("server", "client") for at in range(3)]
        if "pod" in faults:
            made[0]["status"] = {}
        return {"items": made}
    if {"get", "service"} <= words:
        return {"spec": {"clusterIPs": [SERVICE[v] for v in versions]}}
    return None


def _node(at: int, versions: Sequence[int]) -> Json:
    addresses = [{"type": "InternalIP", "address": NODE[v].format(at + 1)} for v in versions]
    hostname = {"type": "Hostname", "address": NODES[at]}
    return {"metadata": {"name": NODES[at]}, "status": {"addresses": [*addresses, hostname]}}


def _pod(app: str, at: int, versions: Sequence[int]) -> Json:
    host = {"server": 2, "client": 3}[app]
    return {
        "metadata": {"name": f"{app}-{at}", "labels": {"app": app}},
        "spec": {"nodeName": NODES[at]},
        "status": {"podIPs": [{"ip": POD[v].format(at, host)} for v in versions]},
    }


def _respond(argv: list[str], faults: Sequence[str]) -> tuple[int, str, str]:
    """A request's answer: who answers follows from the address, as in a cluster."""
    client = argv[argv.index("exec") + 1]
    at, url = int(client[-1]), argv[-1]
    version = 6 if "-6" in argv else 4
    host, _, rest = url.removeprefix("http://").rpartition(":")
    host, page = host.strip("[]"), rest.partition("/")[2]
    if page == "clientip":
        asks = (
            POD[version].format(at, 3) if "masquerade" in faults else NODE[version].format(at + 1)
        )
        return 0, f"[{asks}]:40000" if version == 6 else f"{asks}:40000", ""
    for other in range(3):
        if host == NODE[version].format(other + 1):
            return 0, f"server-{other}", ""
        if host == POD[version].format(other, 2):
            if other != at and "cross" in faults:
                return 28, "", "curl: (28) Connection timed out after 3001 milliseconds\n"
            return 0, f"server-{other}", ""
    return 0, "server-1", ""  # by the service
