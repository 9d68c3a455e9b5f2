"""What is measured: each case is podwire's config beside the reference's, doing the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Json = dict[str, Any]
POD_RANGE = {4: "10.244.0.0/16", 6: "2001:db8:244::/64"}
DEFAULT_ROUTE = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True)
class Case:
    """families: addresses that each ADD must answer with. peer: the reference's config, which
    becomes podwire's by a new type and what `ours` adds. alone: the IPAM executables by themselves,
    as a plugin would execute them; held: reservations that are there before."""

    name: str
    families: tuple[int, ...]
    peer: Json
    ours: Json
    alone: bool = False
    held: int = 0
    direct: bool = True  # by default also measured without the agent

    @property
    def reference(self) -> str:
        """The reference's executable."""
        return str(self.peer["ipam"]["type"] if self.alone else self.peer["type"])

    @property
    def executable(self) -> str:
        """Ours."""
        return "podwire-ipam" if self.alone else "podwire"

    def config(self, *, of_peer: bool) -> Json:
        """A runtime's stdin for ADD."""
        head = {"cniVersion": "1.0.0", "name": f"bench-{self.name}"}
        return {**head, **self.peer} if of_peer else {**head, **self.peer, **self.ours}


def _host_local(families: tuple[int, ...]) -> Json:
    return {
        "type": "host-local",
        "ranges": [[{"subnet": POD_RANGE[family]}] for family in families],
        "routes": [{"dst": DEFAULT_ROUTE[family]} for family in families],
    }


def _bridge(name: str, *families: int) -> Case:
    peer = {"type": "bridge", "bridge": "bench0", "isGateway": True, "ipam": _host_local(families)}
    return Case(name, families, peer, {"type": "podwire", "mode": "bridge"})


def _ptp(name: str, *families: int) -> Case:
    peer = {"type": "ptp", "ipam": _host_local(families)}
    return Case(name, families, peer, {"type": "podwire", "mode": "ptp"})


def _masquerade(name: str, *families: int) -> Case:
    made = _bridge(name, *families)
    return replace(made, peer={**made.peer, "ipMasq": True}, direct=False)


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
        _ipam("ipam-empty", 0),
        _ipam("ipam-4000", 4000),
    )
}
# The executables of IPAM alone are asked for by name.
DEFAULT_CASES = ["bridge", "ptp", "bridge-dual", "masquerade"]
