"""Bandwidth limits of one attachment, whatever its mode: queues with a token bucket.

To the pod (ingress) the packets queue on the host's end. From the pod (egress) they enter the host
there, where nothing queues: so they are redirected through an ifb of the attachment and queue in
that. Where only some networks are limited, what comes to the pod goes through an ifb as well: a
queue cannot let others pass by.
"""

from __future__ import annotations

from collections.abc import Iterator

from cni_plugin.attach.wiring import Wiring, without_small_ipv6
from cni_plugin.cni.bandwidth import effective
from cni_plugin.cni.values import Bandwidth
from cni_plugin.model import names
from cni_plugin.model.objects import HOST, Ifb, Obj, Redirect, Sysctl, Tbf, Up, Veth

LATENCY_MS = 25  # how long a packet may wait in a queue that is full; the reference plugin's
LIMIT_MAX = (1 << 32) - 1  # bytes, tc_tbf_qopt
# The bucket must hold one frame, or none of that size ever passes (tc-tbf(8)).
JUMBO_MTU = 9000  # bytes, for a network that does not name its MTU
FRAME_EXTRA = 18  # bytes, Ethernet header and VLAN tag


def desired(wiring: Wiring, pair: Veth) -> Iterator[Obj]:
    """Queues and what leads to them, for the pair of the attachment."""
    limits = effective(wiring.conf.bandwidth, wiring.conf.runtime.bandwidth)
    some = bool(limits.unshaped or limits.shaped)
    mtu = wiring.conf.mtu
    if limits.ingress_rate and not some:
        yield _queue(pair.name, limits.ingress_rate, limits.ingress_burst, mtu)
    elif limits.ingress_rate:
        queue = _queue(
            names.ifb("ingress", pair.name), limits.ingress_rate, limits.ingress_burst, mtu
        )
        yield from _through(wiring, pair, "egress", queue, limits)
    if limits.egress_rate:
        queue = _queue(names.ifb("egress", pair.name), limits.egress_rate, limits.egress_burst, mtu)
        yield from _through(wiring, pair, "ingress", queue, limits)


def _queue(link: str, rate_bits: int, burst_bits: int, mtu: int) -> Tbf:
    rate = rate_bits // 8
    burst = max(burst_bits // 8, (mtu or JUMBO_MTU) + FRAME_EXTRA)
    return Tbf(link, rate, burst, min(burst + rate * LATENCY_MS // 1000, LIMIT_MAX))


def _through(wiring: Wiring, pair: Veth, hook: str, queue: Tbf, limits: Bandwidth) -> Iterator[Obj]:
    """The ifb with its queue, and the way into it. hook: of the host's end, whose ingress is the
    pod's egress."""
    facts = without_small_ipv6(wiring, pair.mtu).facts if pair.mtu else wiring.facts
    yield Ifb(queue.link, pair.mtu, names.ifb_alias(wiring.conf.name, *wiring.attachment))
    if facts.ipv6:  # it speaks no IP of its own, and has no IPv4 without an address
        yield Sysctl(HOST, ("ipv6", "conf", queue.link, "disable_ipv6"), "1")
    yield queue
    yield Redirect(pair.name, hook, queue.link, limits.unshaped, limits.shaped)
    yield Up(HOST, queue.link)
