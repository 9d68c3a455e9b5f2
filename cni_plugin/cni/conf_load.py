"""document -> NetConf, through the cache when there is one. Imports pydantic only on a miss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin.cni.conf_cache import Cached, cache_name, dump_conf, fingerprint, load_conf
from cni_plugin.cni.conf_runtime import finish, review_runtime
from cni_plugin.cni.values import NetConf

Read = Callable[[str], bytes | None]
Write = Callable[[str, bytes], None]
KNOWN_BYTES = 1 << 16  # a config that is larger is validated again: memory is for all of them
KNOWN_MAX = 64  # configs; a node has a handful, runtimeConfig could make endless ones


def read_conf(
    document: Mapping[str, object],
    warn: Callable[[str], None],
    *,
    lenient: bool = False,
    read: Read | None = None,
    write: Write | None = None,
    known: dict[bytes, Cached] | None = None,
) -> NetConf:
    """The NetConf of a plugin object, CNI_ARGS not yet applied (`conf_runtime.apply_args`).

    read(name) gives a cache file's content or None, write(name, data) keeps one; both do the
    I/O and must not raise. Without them nothing is cached; known is a cache in memory, in front
    of theirs. The answer and the warnings are the same either way. lenient (DEL, GC): problems
    become warnings, defaults take their place.
    Raises InvalidNetworkConfig or UnsupportedField.
    """
    review = review_runtime(document)
    key = fingerprint(document) if read or write or known is not None else b""
    cached = known.get(key) if known else None
    cached = cached or _cached(key, read)
    if cached is not None:
        _remember(known, key, cached)
        for line in cached.warnings:
            warn(line)
        return finish(cached.conf, (), review, lenient=lenient, warn=warn)
    from cni_plugin.cni.conf import lenient_base, review_base

    base = review_base(document)
    for line in base.warnings:
        warn(line)
    conf = base.conf
    if conf is not None:
        _remember(known, key, Cached(conf, base.warnings))
    if conf is not None and write is not None and len(key) <= KNOWN_BYTES:
        write(cache_name(key), dump_conf(conf, base.warnings, key))
    if conf is None and lenient:
        conf = lenient_base(document)
    return finish(conf, base.problems, review, lenient=lenient, warn=warn)


def _remember(known: dict[bytes, Cached] | None, key: bytes, cached: Cached) -> None:
    if known is None or key in known or len(key) > KNOWN_BYTES:
        return
    while len(known) >= KNOWN_MAX:
        known.pop(next(iter(known)), None)
    known[key] = cached


def _cached(key: bytes, read: Read | None) -> Cached | None:
    data = read(cache_name(key)) if read is not None else None
    return None if data is None else load_conf(data, key)
