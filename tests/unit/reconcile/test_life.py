"""Who lives, and why it is thought so."""

from __future__ import annotations

import pytest

from cni_plugin.cni.values import Attachment
from cni_plugin.reconcile.evidence import NETNS_UNKNOWN, Cached, Evidence, KernelFacts, Subject
from cni_plugin.reconcile.life import DEAD, LIVE, RESERVED, UNKNOWN, judge

from .kit import ADDRESS, ID, KEY, LINK, NETNS, NETWORK, SOMEBODY, evidence, record, subject

INODE = record().netns_inode
OTHER_INODE = INODE + 1
PRESENT = (NETWORK, ADDRESS)


def test_the_dead_are_in_none_of_the_evidence() -> None:
    life = judge(subject(), evidence())
    assert life.state == DEAD
    assert life.reason == (f"no host link, namespace {NETNS} is gone, not in the runtime's cache")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (evidence(KernelFacts({LINK: ""})), f"its host link {LINK} is there"),
        (
            evidence(KernelFacts({"eth9": ""}, {PRESENT: "eth9"})),
            f"the kernel says that eth9 has {ADDRESS}",
        ),
        (
            evidence(KernelFacts({}, {PRESENT: None})),
            f"the kernel's set of present addresses has {ADDRESS}, of an unnamed link",
        ),
        (evidence(netns={NETNS: INODE}), f"its network namespace {NETNS} is alive"),
        (
            evidence(cached={KEY: Cached("/run/netns/b")}, netns={NETNS: 0, "/run/netns/b": 7}),
            "the runtime's cache has it, with a living namespace (/run/netns/b)",
        ),
    ],
)
def test_one_sign_of_life_is_enough(seen: Evidence, reason: str) -> None:
    assert judge(subject(), seen) == (LIVE, reason)


@pytest.mark.parametrize(
    "seen",
    [
        evidence(KernelFacts({}, {PRESENT: LINK})),  # a leftover: its link is gone
        evidence(KernelFacts({}, {("elsewhere", ADDRESS): None})),  # another network's
        evidence(KernelFacts(routes=frozenset({ADDRESS}))),  # podwire wired it: its link tells
        evidence(netns={NETNS: OTHER_INODE}),  # another pod's by now
        evidence(cached={KEY: Cached(NETNS)}),
        evidence(cached={KEY: Cached(NETNS)}, netns={NETNS: OTHER_INODE}),
        evidence(cached={KEY: Cached("")}),  # judged by the record's namespace
    ],
)
def test_what_proves_nothing(seen: Evidence) -> None:
    assert judge(subject(), seen).state == DEAD


@pytest.mark.parametrize(
    ("seen", "who", "reason"),
    [
        (evidence(failure="absent"), subject(), "evidence is incomplete: absent"),
        (evidence(KernelFacts(failure="EPERM")), subject(), "could not be asked: EPERM"),
        (evidence(netns={NETNS: NETNS_UNKNOWN}), subject(), "cannot be told"),
        (evidence(netns={}), subject(), "cannot be told"),
        (evidence(), subject(record=record(ipam_type="dhcp")), "those of dhcp"),
        (evidence(cached={}), subject(record=None), "names nobody of network net"),
        (evidence(cached={KEY: Cached("")}), subject(record=None), "without a namespace"),
        (
            evidence(cached={KEY: Cached("/proc/7/ns/net")}),
            subject(record=None),
            "/proc/7/ns/net is alive",
        ),
    ],
)
def test_what_cannot_be_told_keeps(seen: Evidence, who: Subject, reason: str) -> None:
    life = judge(who, seen)
    assert life.state == UNKNOWN
    assert reason in life.reason


def test_without_a_record_the_cache_is_the_witness() -> None:
    assert judge(subject(record=None), evidence()).state == DEAD
    routed = evidence(KernelFacts(routes=frozenset({ADDRESS})))
    assert judge(subject(record=None), routed) == (LIVE, f"the host has a route to {ADDRESS}")


def test_an_owner_without_an_ifname_lives_by_any_interface_of_its_container() -> None:
    old = subject(attachment=Attachment(ID, ""), record=None)
    alias = f"podwire {NETWORK} {ID} net1"
    assert judge(old, evidence(KernelFacts({"pwx": alias}))).state == LIVE
    cached = {**SOMEBODY, (NETWORK, ID, "net1"): Cached("/run/netns/other")}
    assert judge(old, evidence(cached=cached)).state == LIVE
    assert judge(old, evidence()).state == DEAD


def test_reserved_by_hand_whatever_the_evidence() -> None:
    held = subject(attachment=Attachment("reserved-printer", "reserved"), record=None)
    assert judge(held, evidence()).state == RESERVED


def test_another_boots_reservation_is_dead() -> None:
    assert judge(subject(past=True, record=None), evidence(failure="absent")).state == DEAD
