"""Where the ports meet their implementations: the only module that knows both."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin.cni.conf_load import read_conf
from cni_plugin.cni.values import Dns, NetConf, Reply, Request, Result
from cni_plugin.config_cache import ConfigCache
from cni_plugin.disk import DiskRecords
from cni_plugin.handle import handle
from cni_plugin.kernel.port import node_kernel, pod_netns
from cni_plugin.ports import Ports
from ipam.disk import DiskLeases
from ipam.lean_typing import Any
from ipam.values import IPAddress

Warn = Callable[[str], None]


def serve(environ: Mapping[str, str], stdin: bytes) -> Reply:
    """One call on the real node. Warnings go to the reply's stderr, a line each."""
    lines: list[str] = []
    reply = handle(environ, stdin, node_ports(lines.append), read_cached_conf)
    log = "".join(f"podwire: {line}\n" for line in lines)
    return reply._replace(stderr=log.encode(errors="replace") + reply.stderr)


def node_ports(warn: Warn) -> Ports:
    """The real ports of this node."""
    return Ports(
        leases=node_leases(warn),
        delegate=_delegate,
        records=DiskRecords(),
        netns=pod_netns,
        kernel=node_kernel,
        resolv_conf=_resolv_conf,
        warn=warn,
    )


def node_leases(warn: Warn) -> DiskLeases:
    """The address store of this node."""
    return DiskLeases(_address_in_use, warn=warn)


def read_cached_conf(document: dict[str, Any], warn: Warn, *, lenient: bool) -> NetConf:
    """The plugin's config, from the cache when this one has been validated before."""
    cache = ConfigCache()
    return read_conf(document, warn, lenient=lenient, read=cache.read, write=cache.write)


def _address_in_use(network: str, address: IPAddress) -> bool:
    """The store asks about an address without a reservation: does a live pod have it?"""
    with node_kernel(None) as kernel:
        return kernel.holds(network, address)


def _delegate(request: Request, plugin: str, command: str) -> Result | None:
    from cni_plugin.delegate import run_delegate

    return run_delegate(request, plugin, command)


def _resolv_conf(path: str) -> Dns:
    from ipam.plugin import read_resolv_conf

    return read_resolv_conf(path)
