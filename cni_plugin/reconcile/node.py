"""The reconciler of the real node: what an agent runs, and `podwire ipam gc`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cni_plugin.reconcile.observe import Observer
from cni_plugin.reconcile.reconciler import Reconciler
from cni_plugin.reconcile.strikes import StrikeFile
from cni_plugin.wiring import node_leases, node_ports
from ipam.node import boot_clock_s
from ipam.values import DEFAULT_DATA_DIR


def node_reconciler(
    warn: Callable[[str], None], data_dirs: Iterable[str] = (DEFAULT_DATA_DIR,)
) -> Reconciler:
    """data_dirs: where to look for stores beside those that records name."""
    ports = node_ports(warn)
    return Reconciler(ports, node_leases(warn), Observer(data_dirs), StrikeFile(), boot_clock_s)
