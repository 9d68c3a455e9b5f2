"""The config of a call that has been seen, and what this call's runtime asks for on top of it."""

from __future__ import annotations

from typing import NamedTuple

from cni_plugin.agent.ports import Shared
from cni_plugin.cni.conf_cache import fingerprint
from cni_plugin.cni.conf_runtime import finish, review_runtime
from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import NetConf, RuntimeConf


class Known(NamedTuple):
    """conf: the very same object for all calls of a config, without what was asked."""

    conf: NetConf
    asked: RuntimeConf


def known(shared: Shared, stdin: bytes, *, chained: bool = False) -> Known | None:
    """None: there is something to be validated, or to be told. chained: a previous result, which
    stdin may have, is not for who asks."""
    conf = shared.calls.get(stdin)
    if conf is not None:
        return Known(conf, conf.runtime)
    try:
        document = decode_object(stdin)
        if "prevResult" in document and not chained:
            return None
        review = review_runtime(document)
        cached = shared.confs.get(fingerprint(document))
        if cached is None or cached.warnings or review.dns:
            return None
        said: list[str] = []
        finish(cached.conf, (), review, lenient=False, warn=said.append)
    except CNIError:
        return None
    return None if said else Known(cached.conf, review.runtime)
