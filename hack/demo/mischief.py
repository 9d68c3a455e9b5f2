"""A throw-away pod a mode: it sends what it may not, is damaged, and is forgotten."""

from __future__ import annotations

from functools import partial

import snapshot
from cast import Demo, Member, median
from nftables import Filter, Named
from probe import echo
from pyroute2.netlink.exceptions import NetlinkError
from runtime import Refused
from world import NODE, SERVER, in_pod, new_pod, remove_namespace

FORGED = {4: "10.244.{}.200", 6: "2001:db8:244:{}::200"}
FORGED_LIMIT_S = 0.3  # honest echoes take less than a hundredth of it
DAMAGED_CODE = 104  # podwire's own code of CHECK's findings, docs/errors.md


def damage(demo: Demo) -> None:
    """A throw-away pod a mode: forge, damage, CHECK, and GC when the runtime has forgotten it."""
    demo.show.title("A throw-away pod a mode: it lies, is damaged, is forgotten")
    for number, (mode, runtime) in enumerate(demo.runtimes.items(), start=1):
        member = Member(new_pod(f"{mode}-x"), mode, runtime)
        if demo.attempt(f"ADD {member.pod.name}", partial(runtime.add, member.pod)) is None:
            continue
        _forge(demo, member, number)
        _break(demo, member)
        _forget(demo, member)


def _forge(demo: Demo, member: Member, number: int) -> None:
    """The pod sends from addresses it was not given; the host drops that."""
    with in_pod(member.pod) as kernel:
        index = kernel.link_lookup(ifname="eth0")[0]
        for version, pattern in FORGED.items():
            address = pattern.format(number)
            length, flags = (32, {}) if version == 4 else (128, {"flags": 2})
            kernel.addr("add", index=index, address=address, prefixlen=length, **flags)
            honest, forged = (
                echo(member.pod.netns, NODE[version], source=one, count=1, limit_s=FORGED_LIMIT_S)
                for one in (member.addresses[version], address)
            )
            kernel.addr("del", index=index, address=address, prefixlen=length)
            good = median(honest) is not None and median(forged) is None
            text = f"{member.pod.name} sends from {address}, not its own: "
            text += "dropped" if good else f"answered {forged}, from its own {honest}"
            if demo.expect(good, text):
                demo.show.outcome(good, text)


def _break(demo: Demo, member: Member) -> None:
    """Somebody's hand takes one thing away; CHECK must name it."""
    break_one = _delete_route if member.mode == "bridge" else _delete_masquerade
    try:
        what = break_one(member)
    except (LookupError, NetlinkError) as error:
        demo.expect(False, f"{member.pod.name}: what was to be damaged is not there: {error!r}")
        return
    try:
        member.runtime.check(member.pod)
    except Refused as error:
        good = error.code == DAMAGED_CODE
        if demo.expect(good, f"CHECK {member.pod.name}: code {error.code}: {error}"):
            demo.show.outcome(good, f"{member.pod.name}: {what}; CHECK answers code {error.code}:")
            demo.show.quote(error.message)
        demo.facts.setdefault("damage", []).append({"what": what, "error": str(error)})
    else:
        demo.expect(False, f"CHECK {member.pod.name} did not see: {what}")


def _delete_route(member: Member) -> str:
    with in_pod(member.pod) as kernel:
        kernel.route("del", dst="default", family=2)
    return "its IPv4 default route is deleted"


def _delete_masquerade(member: Member) -> str:
    with Filter() as ruleset:
        ruleset.delete_element(Named("inet", "podwire", "masq4"), member.addresses[4])
    return "its masquerade element is deleted"


def _forget(demo: Demo, member: Member) -> None:
    """The namespace goes without a DEL, and the runtime lists only the others."""
    remove_namespace(member.pod)
    living = [one.pod for one in demo.members if one.mode == member.mode]
    took = demo.attempt(f"GC {member.mode}", lambda: member.runtime.collect(living))
    if took is None:
        return
    traces = [line.text for line in _traces(demo, member)]
    cleared = demo.expect(not traces, f"{member.pod.name} left after GC: {', '.join(traces)}")
    for pod in living:
        answered = median(echo(pod.netns, SERVER[4], count=1)) is not None
        demo.expect(answered, f"{pod.name} still reaches the outside after GC")
    if cleared:
        text = "gone without a DEL; GC clears it and nothing else"
        demo.show.outcome(cleared, f"{member.pod.name}: {text} ({took:.0f} ms)")


def _traces(demo: Demo, member: Member) -> list[snapshot.Line]:
    """The lines that name one pod's link, addresses or id."""
    names = (
        member.interface(in_pod=False).get("name", "-"),
        member.pod.container_id,
        *member.addresses.values(),
    )
    found = snapshot.take(demo.world.node)
    return [line for line in found if any(_names(line.text, name) for name in names)]


def _names(text: str, name: str) -> bool:
    """As a whole word: 10.244.1.2 is not in 10.244.1.20."""
    return any(name in {word, word.split("/")[-1], word.split("/")[0]} for word in text.split())
