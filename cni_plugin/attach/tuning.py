"""Settings of the pod's own that the config names, whatever the mode: sysctls, the interface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cni_plugin.attach.wiring import Wiring
from cni_plugin.cni.sysctls import path_of_pod
from cni_plugin.model.objects import POD, Obj, Sysctl, Tuned, key


def desired(wiring: Wiring) -> Iterator[Obj]:
    """What the keys sysctl, txqueuelen, allmulti and promisc ask for."""
    conf, ifname = wiring.conf, wiring.attachment.ifname
    asked = {path_of_pod(path, ifname): value for path, value in conf.sysctls}
    yield from (Sysctl(POD, path, value) for path, value in asked.items())
    tuned = Tuned(POD, ifname, conf.queue_length, conf.allmulti, conf.pod_promisc)
    if any(field is not None for field in tuned[2:]):
        yield tuned


def overridden(objects: Iterable[Obj], tuned: Iterable[Obj]) -> tuple[Obj, ...]:
    """The objects and those tuned, which go before podwire's own choice of the same setting."""
    tuned = tuple(tuned)
    named = {key(obj) for obj in tuned}
    return (*(obj for obj in objects if key(obj) not in named), *tuned)
