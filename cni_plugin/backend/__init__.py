"""One file a backend: the state wanted of this node, so that pods on different nodes talk. Pure.

A backend is found by name (`host-gw` is backend.host_gw) and imported only when it is configured;
see view.Backend for what each has.
"""

from __future__ import annotations

from importlib import import_module

from cni_plugin.backend.view import Backend, View
from cni_plugin.cluster.values import AUTO, HOST_GW, LOCAL, VXLAN, Underlay
from cni_plugin.model.objects import Obj
from ipam.lean_typing import Any

BACKENDS = (LOCAL, HOST_GW, VXLAN, AUTO)


def backend(name: str) -> Backend:
    """A backend by its name."""
    module: Any = import_module(f"{__name__}.{name.replace('-', '_')}")
    found: Backend = module
    return found


def desired(name: str, view: View) -> tuple[Obj, ...]:
    """The wanted state of this node under a backend."""
    chosen = backend(name)
    of_peers = (obj for peer in view.peers for obj in chosen.of_peer(view, peer))
    return (*chosen.common(view), *of_peers)


def pod_mtu(name: str, underlays: tuple[Underlay, ...], limit: int | None = None) -> int | None:
    """The largest packet (bytes) that gets from a pod to any other; None: nothing limits it."""
    chosen = backend(name)
    sizes = [one.mtu - chosen.overhead(one.address.version) for one in underlays]
    sizes += [limit] if limit else []
    return min(sizes, default=None)
