"""Limits and tuning as objects, whatever the mode: which queues, where, and how they lead there."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from cni_plugin.attach.wiring import Facts
from cni_plugin.cni.values import Bandwidth, RuntimeConf
from cni_plugin.commands.state import desired_state, owned
from cni_plugin.model import names
from cni_plugin.model.objects import (
    HOST,
    POD,
    Ifb,
    Obj,
    Redirect,
    Sysctl,
    Tbf,
    Tuned,
    Up,
    Veth,
    key,
)
from cni_plugin.model.plan import in_order_of_removal, removal
from tests.unit.attach.kit import HOST_LINK, V4, wiring

EGRESS, INGRESS = "pe" + HOST_LINK[2:], "pi" + HOST_LINK[2:]
BOTH = Bandwidth(8_000_000, 800_000, 4_000_000, 400_000)
IN, OUT = Tbf(HOST_LINK, 1_000_000, 100_000, 125_000), Tbf(EGRESS, 500_000, 50_000, 62_500)
FOUR = (ip_network("192.0.2.0/24"),)
MODES = pytest.mark.parametrize("mode", ["bridge", "ptp"])


def objects(mode: str = "bridge", **conf: Any) -> tuple[Obj, ...]:
    return desired_state(wiring(mode, V4, **conf)).objects


def shaped(*found: Obj) -> list[Obj]:
    """What is for limits."""
    return [
        obj
        for obj in found
        if isinstance(obj, (Tbf, Redirect, Ifb))
        or (isinstance(obj, Up) and obj.link in (EGRESS, INGRESS))
    ]


@MODES
def test_without_limits_there_is_nothing_of_them(mode: str) -> None:
    lists = Bandwidth(unshaped=FOUR)
    assert shaped(*objects(mode)) == []
    assert objects(mode, bandwidth=lists) == objects(mode)


@MODES
def test_what_the_pod_gets_queues_on_the_hosts_end(mode: str) -> None:
    assert shaped(*objects(mode, bandwidth=Bandwidth(8_000_000, 800_000))) == [IN]


@MODES
def test_what_the_pod_sends_queues_in_a_link_of_its_own(mode: str) -> None:
    limits = RuntimeConf(bandwidth=Bandwidth(egress_rate=4_000_000, egress_burst=400_000))
    found = objects(mode, runtime=limits)
    assert shaped(*found) == [
        Ifb(EGRESS, 1500, "podwire-ifb net id eth0"),
        OUT,
        Redirect(HOST_LINK, "ingress", EGRESS),
        Up(HOST, EGRESS),
    ]
    assert Sysctl(HOST, ("ipv6", "conf", EGRESS, "disable_ipv6"), "1") in found


def test_both_directions() -> None:
    assert shaped(*objects(bandwidth=BOTH))[:1] == [IN]
    assert [obj for obj in objects(bandwidth=BOTH) if isinstance(obj, Tbf)] == [IN, OUT]


@pytest.mark.parametrize("field", ["unshaped", "shaped"])
def test_with_a_list_both_directions_queue_in_links_of_their_own(field: str) -> None:
    found = objects(bandwidth=BOTH._replace(**{field: FOUR}))
    lists = {field: FOUR}
    assert [obj for obj in found if isinstance(obj, Redirect)] == [
        Redirect(HOST_LINK, "egress", INGRESS, **lists),
        Redirect(HOST_LINK, "ingress", EGRESS, **lists),
    ]
    assert [obj for obj in found if isinstance(obj, Tbf)] == [IN._replace(link=INGRESS), OUT]


def test_a_kernel_without_ipv6_has_no_setting_of_it() -> None:
    found = objects(bandwidth=BOTH, facts=Facts(ipv6=False))
    assert not [obj for obj in found if isinstance(obj, Sysctl) and "ipv6" in obj.path]


@MODES
def test_a_link_too_small_for_ipv6_has_no_setting_of_it(mode: str) -> None:
    found = objects(mode, bandwidth=BOTH, mtu=600)
    assert not [obj for obj in found if isinstance(obj, Sysctl) and EGRESS in obj.path]


@pytest.mark.parametrize(("mtu", "bytes_"), [(0, 9018), (1400, 1418)])
def test_a_bucket_holds_a_frame(mtu: int, bytes_: int) -> None:
    (queue,) = shaped(*objects(bandwidth=Bandwidth(8_000, 8), mtu=mtu))
    assert queue == Tbf(HOST_LINK, 1000, bytes_, bytes_ + 25)


def test_the_fastest_and_largest_fit_the_kernels_fields() -> None:
    (queue,) = shaped(*objects(bandwidth=Bandwidth((1 << 63) - 1, 8 * ((1 << 32) - 2))))
    assert queue == Tbf(HOST_LINK, (1 << 60) - 1, (1 << 32) - 2, (1 << 32) - 1)


def test_the_links_go_with_the_attachment_and_together_with_the_pair() -> None:
    own = owned(objects(bandwidth=BOTH._replace(unshaped=FOUR)))
    assert [obj.name for obj in own if isinstance(obj, Ifb)] == [INGRESS, EGRESS]
    steps = in_order_of_removal(removal(own, {key(obj): obj for obj in own}))
    kinds = [type(step.subject) for step in steps]
    assert kinds[:3] == [Veth, Ifb, Ifb]


def test_a_name_follows_from_the_pairs() -> None:
    assert names.ifb("egress", HOST_LINK) == EGRESS
    assert len(EGRESS) == len(HOST_LINK)


# tuning ------------------------------------------------------------------------------------------


@MODES
def test_named_settings_go_before_podwires_own(mode: str) -> None:
    path = ("ipv4", "conf", "eth0", "arp_notify")
    found = objects(mode, sysctls=(("net/ipv4/conf/IFNAME/arp_notify", "0"),))
    assert [obj for obj in found if isinstance(obj, Sysctl) and obj.path == path] == [
        Sysctl(POD, path, "0")
    ]


@MODES
def test_the_pods_interface(mode: str) -> None:
    found = objects(mode, queue_length=0, pod_promisc=True)
    assert [obj for obj in found if isinstance(obj, Tuned)] == [
        Tuned(POD, "eth0", queue_length=0, promisc=True)
    ]
    assert not [obj for obj in objects(mode) if isinstance(obj, Tuned)]
