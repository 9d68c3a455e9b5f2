"""Backend local: pods reach those of their own node, and what the node reaches. No routes."""

from __future__ import annotations

from cni_plugin.backend.view import View
from cni_plugin.cluster.values import Node
from cni_plugin.model.objects import Obj


def overhead(_version: int) -> int:
    """Nothing is added."""
    return 0


def common(_view: View) -> tuple[Obj, ...]:
    """Nothing."""
    return ()


def of_peer(_view: View, _peer: Node) -> tuple[Obj, ...]:
    """Nothing."""
    return ()
