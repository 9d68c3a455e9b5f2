"""What pods expect of a cluster's network, tried on every node with real requests.

Two pods a node, a server and a client (a DaemonSet each), a service of all servers, and a container
beside the cluster that tells from which address it is asked. Every request says who has to answer,
or from where it has to come; it is repeated for some seconds, because kube-proxy takes a moment.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tools import Tools, say
from world import (
    HOST_PORT,
    IMAGE,
    NAMESPACE,
    NODE_PORT,
    OUTSIDE,
    PORT,
    Peer,
    World,
    look,
    objects,
    versions,
)

PAUSE_S = 1.0
NEED_PROXY = ("ClusterIP", "NodePort", "DNS")

Accept = Callable[[str], bool]


class Patience(NamedTuple):
    """How long pods may take to start, and how often a request is tried, a second apart."""

    limit_s: int
    tries: int


class Request(NamedTuple):
    """From a client to a URL; the answer must be accepted. wanted: in words."""

    client: str
    url: str
    wanted: str
    accept: Accept


class Outcome(NamedTuple):
    """Of one check by one IP version (0: of both or none). skipped: why it was not tried."""

    check: str
    version: int
    done: int = 0
    total: int = 0
    failures: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.skipped) or (self.done == self.total > 0)


def run(tools: Tools, patience: Patience, *, proxy: bool) -> list[Outcome]:
    """Every check; what it has made is gone afterwards. Raises Failed."""
    say("starting a server and a client on every node")
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects()})
    try:
        tools.kubectl("apply", "-f", "-", stdin=listed, shown=True)
        start = ("run", "--detach", "--rm", "--name", OUTSIDE, "--network", "kind", IMAGE)
        tools.run("docker", *start, "netexec", f"--http-port={PORT}")
        for name in ("server", "client"):
            wait = ("rollout", "status", f"daemonset/{name}", f"--timeout={patience.limit_s}s")
            tools.kubectl("-n", NAMESPACE, *wait, shown=True)
        world = look(tools)
        outcomes = [pods(world)]
        if not outcomes[0].passed:
            return outcomes
        for version in versions(world):
            for check, requests in checks(world, version, proxy=proxy):
                outcomes.append(_try(tools, check, version, requests, patience.tries))
                say(f"{check}, IPv{version}: {outcomes[-1].done} of {outcomes[-1].total}")
        return outcomes + ([] if proxy else [_skipped(name) for name in NEED_PROXY])
    finally:
        tools.run("docker", "rm", "--force", OUTSIDE, check=False)
        tools.kubectl("delete", "namespace", NAMESPACE, "--wait=false", check=False)


def _skipped(check: str) -> Outcome:
    return Outcome(check, 0, skipped="there is no kube-proxy")


def pods(world: World) -> Outcome:
    """Two on every node, with as many addresses as the others."""
    names = [node.name for node in world.nodes]
    most = max((len(pod.addresses) for pod in world.servers), default=0)
    good = [p for p in (*world.servers, *world.clients) if len(p.addresses) == most > 0]
    lacking = [
        f"{name} has {count} of 2 pods with addresses"
        for name in names
        if (count := sum(pod.node == name for pod in good)) != 2
    ]
    return Outcome("pods on every node", 0, len(good), 2 * len(names), tuple(lacking))


def checks(world: World, version: int, *, proxy: bool) -> Iterator[tuple[str, list[Request]]]:
    """Each check's name with its requests."""
    pairs = [(client, server) for client in world.clients for server in world.servers]
    near = [(c, s) for c, s in pairs if c.node == s.node]
    far = [(c, s) for c, s in pairs if c.node != s.node]
    for check, some in (("same node", near), ("other node", far)):
        yield check, [_to(c, s.address(version), PORT, s.name, s.name.__eq__) for c, s in some]
    names = {server.name for server in world.servers}
    any_server: Accept = names.__contains__
    on_node = {server.node: server.name for server in world.servers}
    at_nodes = [(client, node) for client in world.clients for node in world.nodes]
    yield (
        "hostPort",
        [
            _to(c, n.address(version), HOST_PORT, on_node[n.name], on_node[n.name].__eq__)
            for c, n in at_nodes
        ],
    )
    addresses = {node.name: node.address(version) for node in world.nodes}
    yield (
        "egress",
        [
            Request(
                c.name,
                _url(world.outside.address(version), PORT, "clientip"),
                f"asked from {addresses[c.node]}, its node's address",
                _from(addresses[c.node]),
            )
            for c in world.clients
        ],
    )
    if not proxy:
        return
    service = world.service.address(version)
    yield "ClusterIP", [_to(c, service, PORT, "a server", any_server) for c in world.clients]
    yield (
        "NodePort",
        [_to(c, n.address(version), NODE_PORT, "a server", any_server) for c, n in at_nodes],
    )
    name = f"server.{NAMESPACE}.svc.cluster.local"
    yield "DNS", [_to(c, name, PORT, "a server", any_server) for c in world.clients]


def _to(client: Peer, host: str, port: int, wanted: str, accept: Accept) -> Request:
    return Request(client.name, _url(host, port, "hostname"), f"{wanted} answers", accept)


def _url(host: str, port: int, page: str) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/{page}"


def _from(address: str) -> Accept:
    """Of `/clientip`: ADDRESS:PORT."""

    def same(answer: str) -> bool:
        host = answer.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host) == ipaddress.ip_address(address)
        except ValueError:
            return False

    return same


def _try(
    tools: Tools, check: str, version: int, requests: Sequence[Request], tries: int
) -> Outcome:
    answers = [(one, _ask(tools, one, version, tries)) for one in requests]
    failures = tuple(
        f"{one.client} to {one.url}: wanted: {one.wanted}; found: {said}"
        for one, said in answers
        if said is not None
    )
    return Outcome(check, version, len(requests) - len(failures), len(requests), failures)


def _ask(tools: Tools, request: Request, version: int, tries: int) -> str | None:
    """None: as wanted. Otherwise what was found at last."""
    curl = ("curl", f"-{version}", "-sS", "--max-time", "3", request.url)
    said = ""
    for attempt in range(tries):
        if attempt:
            time.sleep(PAUSE_S)
        execute = ("-n", NAMESPACE, "exec", request.client, "--", *curl)
        done = tools.kubectl(*execute, check=False)
        said = done.stdout.strip() if done.returncode == 0 else done.stderr.strip()
        if done.returncode == 0 and request.accept(said):
            return None
    return said or "no answer"
