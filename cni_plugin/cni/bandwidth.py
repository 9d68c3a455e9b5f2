"""Limits of bandwidth: the keys of the CNI conventions, in a config and in runtimeConfig.

The same in both: so pydantic is kept out of here, which a call with a known config must not load.
Source: CNI conventions, capability `bandwidth`; reference plugin `bandwidth`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin.cni import parse
from cni_plugin.cni.problems import Problem
from cni_plugin.cni.values import Bandwidth
from ipam.lean_typing import Any
from ipam.values import IPNetwork

RATE_MIN = 8  # bits per second: the kernel counts whole bytes
RATE_MAX = (1 << 63) - 1
BURST_MAX = 8 * ((1 << 32) - 1) - 1  # bits, as the reference: TCA_TBF_BURST is 32 bits of bytes
# What runtimes send with a rate, because the plugin wants a burst and pods' annotations have none:
# containerd (toCNIBandWidth), CRI-O, and the kubelet before it left this to them ("the equivalent
# of setting no limit"). Taken as it is, the limit bites after half a gigabyte, or four.
NO_BURST = ((1 << 32) - 1, BURST_MAX, (1 << 31) - 1)
BURST_PER_S = 10  # in place of these: what the rate lets pass in 100 ms
NETWORKS_MAX = 256  # of a list: each is a filter that every packet is compared with
RATE_ACCEPTED = f"0 (no limit) or a whole number of bits per second, {RATE_MIN} to {RATE_MAX}"
BURST_ACCEPTED = f"0 or a whole number of bits, {RATE_MIN} to {BURST_MAX}"
NETWORKS_ACCEPTED = f"an array of at most {NETWORKS_MAX} networks"
KEYS = (
    "ingressRate", "ingressBurst", "egressRate", "egressBurst", "unshapedSubnets", "shapedSubnets",
)  # fmt: skip


def rate(value: object) -> int:
    """Bits per second. Raises parse.Fault."""
    return _whole(value, RATE_MAX, RATE_ACCEPTED)


def burst(value: object) -> int:
    """Bits. Raises parse.Fault."""
    return _whole(value, BURST_MAX, BURST_ACCEPTED)


def _whole(value: object, high: int, accepted: str) -> int:
    # bool is an int in Python, and true is not a number in JSON.
    if type(value) is not int or not (value == 0 or RATE_MIN <= value <= high):
        raise parse.Fault(accepted)
    return value


def review(source: Mapping[str, Any], path: str) -> tuple[Bandwidth, list[Problem]]:
    """The limits that the keys of an object ask for, and what is wrong with them. path: the
    object's."""
    problems: list[Problem] = []

    def number(key: str, parser: Callable[[object], int]) -> int:
        try:
            return parser(source.get(key, 0))
        except parse.Fault as fault:
            problems.append(Problem(f"{path}.{key}", source[key], str(fault)))
            return 0

    def networks(key: str) -> tuple[IPNetwork, ...]:
        return _networks(source.get(key), f"{path}.{key}", problems)

    found = Bandwidth(
        number("ingressRate", rate),
        number("ingressBurst", burst),
        number("egressRate", rate),
        number("egressBurst", burst),
        networks("unshapedSubnets"),
        networks("shapedSubnets"),
    )
    return found, problems or contradictions(found, f"{path}.")


def contradictions(limits: Bandwidth, prefix: str = "") -> list[Problem]:
    """Keys that are fine alone and wrong together, as the reference plugin judges them. prefix:
    what comes before a key in its path."""
    pairs = (
        ("ingress", limits.ingress_rate, limits.ingress_burst),
        ("egress", limits.egress_rate, limits.egress_burst),
    )
    found: list[Problem] = []
    for direction, bits_s, bits in pairs:
        if bits_s and not bits:
            accepted = f"bits, {RATE_MIN} to {BURST_MAX}, because {direction}Rate is given"
            found.append(Problem(f"{prefix}{direction}Burst", 0, accepted))
        if bits and not bits_s:
            accepted = f"bits per second, because {direction}Burst is given; or neither of them"
            found.append(Problem(f"{prefix}{direction}Rate", 0, accepted))
    if limits.unshaped and limits.shaped:
        listed = [str(network) for network in limits.shaped]
        accepted = "absent, or [], while unshapedSubnets is given"
        found.append(Problem(f"{prefix}shapedSubnets", listed, accepted))
    return found


def _networks(value: object, path: str, problems: list[Problem]) -> tuple[IPNetwork, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > NETWORKS_MAX:
        problems.append(Problem(path, value, NETWORKS_ACCEPTED))
        return ()
    found: list[IPNetwork] = []
    for index, entry in enumerate(value):
        try:
            found.append(parse.network(entry))
        except parse.Fault as fault:
            problems.append(Problem(f"{path}[{index}]", entry, str(fault)))
    return tuple(dict.fromkeys(found))


def _with_bursts(asked: Bandwidth) -> Bandwidth:
    """With bursts that follow from the rates where the runtime has none to tell."""
    return asked._replace(
        ingress_burst=_burst(asked.ingress_rate, asked.ingress_burst),
        egress_burst=_burst(asked.egress_rate, asked.egress_burst),
    )


def _burst(bits_s: int, bits: int) -> int:
    return min(bits_s // BURST_PER_S, BURST_MAX) if bits in NO_BURST else bits


def effective(network: Bandwidth, runtime: Bandwidth) -> Bandwidth:
    """What holds for one pod. Limits of the network's config go before what the runtime asks for,
    as with the reference plugin: what an administrator wrote is not for a pod to lift. The lists
    come from where there are any."""
    limits = network if network.limits else _with_bursts(runtime)
    lists = network if network.unshaped or network.shaped else runtime
    return limits._replace(unshaped=lists.unshaped, shaped=lists.shaped)
