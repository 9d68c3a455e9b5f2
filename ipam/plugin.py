"""podwire-ipam: the store as a CNI IPAM executable, a drop-in for host-local under any plugin.

With plugin_conf the only module of ipam that knows CNI, through `cni_plugin.cni`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from cni_plugin.cni.conf_cache import cache_name, dump_conf, fingerprint
from cni_plugin.cni.conf_cache import load_conf as load_cached
from cni_plugin.cni.conf_runtime import apply_args, review_runtime
from cni_plugin.cni.errors import Damaged, InvalidNetworkConfig, IoFailure, NotAvailable
from cni_plugin.cni.skel import serve
from cni_plugin.cni.values import Dns, IPConfig, NetConf, Reply, Request, Result
from cni_plugin.config_cache import ConfigCache
from ipam.disk import DiskLeases
from ipam.evidence import has_host_route
from ipam.lean_typing import Protocol
from ipam.ranges import find_range
from ipam.store import Store
from ipam.values import IpamConf, Owner

ABOUT = "podwire-ipam: CNI IPAM plugin with durable file-backed reservations"
Warn = Callable[[str], None]


def main() -> int:
    """The console script: one call of the plugin on environment, stdin and stdout."""
    from cni_plugin.process import run as run_process

    return run_process(lambda environ, stdin: run(environ, stdin, cache=ConfigCache()), os.environ)


class Cache(Protocol):
    """Keeps validated configs between calls; `cni_plugin.config_cache` does."""

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, data: bytes) -> None: ...


def run(
    environ: Mapping[str, str],
    stdin: bytes,
    warn: Warn | None = None,
    cache: Cache | None = None,
) -> Reply:
    """The reply to one call, with the store of this node. warn: log lines; default stderr."""
    log = warn or _stderr
    store: Store = DiskLeases(lambda _network, address: has_host_route(address), warn=log)
    verbs: dict[str, Callable[[Request], Result | None]] = {
        "ADD": lambda request: add(store, request),
        "DEL": lambda request: delete(store, request),
        "CHECK": lambda request: check(store, request),
        "STATUS": lambda request: status(store, request),
        "GC": lambda request: collect(store, request, log),
    }

    def load(document: dict[str, object], warn: Warn, *, lenient: bool) -> NetConf:
        return load_conf(document, warn, lenient=lenient, cache=cache)

    return serve(environ, stdin, load, verbs, about=ABOUT, warn=log)


def load_conf(
    document: dict[str, object], warn: Warn, *, lenient: bool, cache: Cache | None = None
) -> NetConf:
    """The part of the calling plugin's config that concerns IPAM; the rest is the caller's.

    One that has been validated before comes from the cache: pydantic costs a cold start ten
    times what the store does. lenient (DEL, GC): problems become warnings; dataDir is what
    matters.
    """
    asked = review_runtime(document)
    problems = [problem for problem in asked.problems if ".ips" in problem.path]
    key = b"podwire-ipam " + fingerprint(document)
    kept = cache.read(cache_name(key)) if cache and not problems else None
    cached = load_cached(kept, key) if kept is not None else None
    if cached is not None:
        conf, warnings = cached
    else:
        from ipam.plugin_conf import review

        conf, warnings, complete = review(document, problems, warn, lenient=lenient)
        if cache and complete:
            cache.write(cache_name(key), dump_conf(conf, warnings, key))
    for line in warnings:
        warn(line)
    return conf._replace(runtime=asked.runtime)


def add(store: Store, request: Request) -> Result:
    """Reserve one address a range set. SPEC 1.1.0: an IPAM result has no interfaces."""
    conf = apply_args(request.conf, request.args)
    ipam = _ipam(conf)
    dns = read_resolv_conf(ipam.resolv_conf) if ipam.resolv_conf else Dns()
    leases = store.reserve(ipam, conf.name, _owner(request), conf.runtime.ips)
    ips = tuple(IPConfig(lease.address, lease.gateway) for lease in leases)
    return Result(ips=ips, routes=ipam.routes, dns=dns)


def delete(store: Store, request: Request) -> None:
    """Release all that the attachment holds."""
    previous = request.prev_result.ips if request.prev_result else ()
    hint = tuple(ip.address.ip for ip in previous)
    store.release(_ipam(request.conf), request.conf.name, _owner(request), hint)


def check(store: Store, request: Request) -> None:
    """Raises Damaged when the attachment holds nothing, or not what prevResult says of our ranges.

    Addresses outside the ranges of today are another plugin's, or of ranges before a change.
    """
    ipam, owner = _ipam(request.conf), _owner(request)
    held = store.held(ipam, request.conf.name, owner)
    previous = tuple(ip.address.ip for ip in request.prev_result.ips) if request.prev_result else ()
    ours = [a for a in previous if any(find_range(ranges, a) for ranges in ipam.range_sets)]
    missing = [str(address) for address in ours if address not in held]
    who = f"{owner.container_id} {owner.ifname}"
    if not held:
        raise Damaged(f"no address is reserved for {who}", f"wanted {', '.join(missing) or 'one'}")
    if missing:
        found = ", ".join(map(str, held))
        raise Damaged(f"{', '.join(missing)} not reserved for {who}", f"reserved are {found}")


def status(store: Store, request: Request) -> None:
    """Raises NotAvailable when a range set has no address left (SPEC 1.1.0, STATUS)."""
    ipam = _ipam(request.conf)
    for index, usage in enumerate(store.usage(ipam, request.conf.name)):
        if usage.used >= usage.total:
            raise NotAvailable(
                f"range set {index} of network {request.conf.name} is full",
                f"used {usage.used} of {usage.total}; add a range or remove pods",
            )


def collect(store: Store, request: Request, warn: Warn) -> None:
    """Free what no valid attachment holds. An absent list frees nothing (SPEC 1.1.0, GC)."""
    if request.valid_attachments is None:
        warn("GC without a list of valid attachments: nothing is freed")
        return
    valid = {(a.container_id, a.ifname) for a in request.valid_attachments}
    freed = store.retain(_ipam(request.conf), request.conf.name, valid)
    if freed:
        warn(f"GC freed {', '.join(map(str, freed))}")


def read_resolv_conf(path: str) -> Dns:
    """dns from a resolv.conf, as host-local reads it: of `domain` the last one counts."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return parse_resolv_conf(file.read())
    except OSError as error:
        raise IoFailure(
            f"resolvConf {path} cannot be read: {error.strerror}", "correct the path in ipam"
        ) from error


def parse_resolv_conf(text: str) -> Dns:
    """Source: resolv.conf(5); comments start a line with # or ;."""
    found: dict[str, list[str]] = {"nameserver": [], "domain": [], "search": [], "options": []}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in found:
            single = words[0] in {"nameserver", "domain"}
            found[words[0]] += words[1:2] if single else words[1:]
    return Dns(
        nameservers=tuple(found["nameserver"]),
        domain=found["domain"][-1] if found["domain"] else "",
        search=tuple(found["search"]),
        options=tuple(found["options"]),
    )


def _ipam(conf: NetConf) -> IpamConf:
    if conf.ipam is None:
        raise InvalidNetworkConfig("ipam is missing, accepted: an object with subnet or ranges")
    return conf.ipam


def _owner(request: Request) -> Owner:
    return Owner(*request.attachment, pod=str(request.pod))


def _stderr(line: str) -> None:
    sys.stderr.write(f"podwire-ipam: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
