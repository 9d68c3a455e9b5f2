"""What is measured: each case is podwire's config beside the reference's, doing the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]
POD_RANGE = {4: "10.244.0.0/16", 6: "2001:db8:244::/64"}
DEFAULT_ROUTE = {4: "0.0.0.0/0", 6: "::/0"}
GATEWAY = "10.244.0.1"  # of the IPv4 range, on the bridge
FIRST_PORT, POD_PORT = 20000, 8080


@dataclass(frozen=True)
class Case:
    """families: addresses that each ADD must answer with. peer: the reference's config, which
    becomes podwire's by a new type and what `ours` adds. chained: the reference's plugins after
    it, of which podwire does the work itself. limits: of bandwidth, for every pod. alone: the IPAM
    executables by themselves, as a plugin would execute them; held: reservations that are there
    before. goals: by (verb, calls at a time): of one at a time the ratio of the medians, at most;
    of more how many times as many a second, at least."""

    name: str
    families: tuple[int, ...]
    peer: Json
    ours: Json
    chained: tuple[Json, ...] = ()
    limits: Json = field(default_factory=dict)
    alone: bool = False
    held: int = 0
    direct: bool = True  # by default also measured without the agent
    goals: Mapping[tuple[str, int], float] = field(default_factory=dict)

    @property
    def references(self) -> tuple[str, ...]:
        """The reference's executables."""
        first = self.peer["ipam"]["type"] if self.alone else self.peer["type"]
        return (first, *(plugin["type"] for plugin in self.chained))

    @property
    def executable(self) -> str:
        """Ours."""
        return "podwire-ipam" if self.alone else "podwire"

    def plugins(self, *, of_peer: bool) -> tuple[Json, ...]:
        """A runtime's stdin for ADD, one for each plugin of the chain, but for what differs from
        pod to pod."""
        head = {"cniVersion": "1.0.0", "name": f"bench-{self.name}"}
        if not of_peer:
            return ({**head, **self.peer, **self.ours},)
        return tuple({**head, **plugin} for plugin in (self.peer, *self.chained))

    def config(self, *, of_peer: bool) -> Json:
        """The first plugin's."""
        return self.plugins(of_peer=of_peer)[0]

    def asked(self, plugin: Json, number: int) -> Json:
        """What the runtime asks one plugin for, for the pod of this number; a port is one pod's."""
        port = {"hostPort": FIRST_PORT + number, "containerPort": POD_PORT, "protocol": "tcp"}
        every = {"portMappings": [port], "bandwidth": self.limits}
        return {key: every[key] for key in plugin.get("capabilities", {})}


# Of a plain attachment: medians of one at a time, at most; throughput of 64 at a time, at least.
GOALS: Mapping[tuple[str, int], float] = {
    ("ADD", 1): 0.25, ("DEL", 1): 0.6, ("ADD", 64): 4, ("DEL", 64): 8,
}  # fmt: skip


def _host_local(families: tuple[int, ...]) -> Json:
    return {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE[family]}] for family in families],
        "routes": [{"dst": DEFAULT_ROUTE[family]} for family in families],
    }


def _bridge(name: str, *families: int) -> Case:
    peer = {"type": "bridge", "bridge": "bench0", "isGateway": True, "ipam": _host_local(families)}
    return Case(name, families, peer, {"type": "podwire", "mode": "bridge"}, goals=GOALS)


def _ptp(name: str, *families: int) -> Case:
    peer = {"type": "ptp", "ipam": _host_local(families)}
    return Case(name, families, peer, {"type": "podwire", "mode": "ptp"}, goals=GOALS)


def _masquerade(name: str, *families: int) -> Case:
    made = _bridge(name, *families)
    goals = {**GOALS, ("ADD", 1): 0.10}
    return replace(made, peer={**made.peer, "ipMasq": True}, direct=False, goals=goals)


def _full_chain(name: str, *families: int) -> Case:
    made = _masquerade(name, *families)
    ports, limits = {"portMappings": True}, {"bandwidth": True}
    return replace(
        made,
        ours={**made.ours, "capabilities": ports | limits},
        chained=(
            {"type": "portmap", "snat": True, "capabilities": ports},
            {"type": "bandwidth", "capabilities": limits},
        ),
        limits={
            "ingressRate": 10**9, "ingressBurst": 10**8, "egressRate": 10**9, "egressBurst": 10**8,
        },
        goals={("ADD", 1): 0.10, ("DEL", 1): 0.15, ("ADD", 64): 15, ("DEL", 64): 15},
    )  # fmt: skip


def _ipam(name: str, held: int) -> Case:
    peer = {"type": "bridge", "ipam": _host_local((4,))}
    return Case(name, (4,), peer, {}, alone=True, held=held)


CASES = {
    case.name: case
    for case in (
        _bridge("bridge", 4),
        _ptp("ptp", 4),
        _bridge("bridge-dual", 4, 6),
        _masquerade("masquerade", 4),
        _full_chain("full-chain", 4),
        _ipam("ipam-empty", 0),
        _ipam("ipam-4000", 4000),
    )
}
# The executables of IPAM alone are asked for by name.
DEFAULT_CASES = ["bridge", "ptp", "bridge-dual", "masquerade", "full-chain"]
