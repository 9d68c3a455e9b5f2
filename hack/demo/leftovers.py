"""What is left after the last DEL: counted, and each object with the reason why it stays."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cast import Demo
from snapshot import SECTIONS, Line, Snapshot

# Section, pattern of the object's text, reason. The reference plugins leave their bridge with its
# addresses, forwarding, their own nft table and host-local's notes as well.
STAYS = (
    ("links", r"cni0", "the bridge is shared: the next pod is wired at once"),
    ("addresses", r"\S+ on cni0", "the bridge's gateway addresses"),
    # Not masq-...: such a chain goes with its network's last pod.
    ("nft chains", r"(inet|bridge) podwire (?!masq-)\S+", "the table podwire, without an element"),
    ("nft sets", r"(inet|bridge) podwire \S+", "the table podwire, without an element"),
    (
        "nft elements",
        r"inet podwire (underlays|(local|cluster|kept|nodes)[46]) .*",
        "the nodes and ranges of the peers file and the config, in the cluster's sets",
    ),
    ("other files", r"/run/podwire/configs/\S+", "the cache of validated configs, on tmpfs"),
    ("other files", r"/var/lib/cni/networks/\S+", "the store's notes: rotation, boot id, lock"),
    ("switches", r"\S+ = 1", "forwarding stays on: others may rely on it by now"),
)


def reason_to_stay(line: Line) -> str:
    """Why an object that no pod needs is left; "" when it must not be."""
    for section, pattern, reason in STAYS:
        if line.section == section and re.fullmatch(pattern, line.text):
            return reason
    return ""


def compare(demo: Demo, before: Snapshot, during: Snapshot, after: Snapshot) -> None:
    """What is there, counted by kind; what is left, each with the reason."""
    demo.show.title("What is left on the node")
    widths = (18, -10, -9, -9)
    demo.show.row(widths, ("", "before ADD", "with pods", "after DEL"), head=True)
    for section in SECTIONS:
        counts = [sum(line.section == section for line in s) for s in (before, during, after)]
        demo.show.row(widths, (section, *map(str, counts)))
    left = _by_reason(after - before)
    demo.facts["left"] = {reason: [line.text for line in lines] for reason, lines in left.items()}
    demo.show.line()
    demo.show.line("  stays on purpose; the reference plugins leave much the same:")
    for reason, lines in left.items():
        if reason:
            demo.show.line(f"    {reason}")
            for text in _listed(lines):
                demo.show.quote(text)
    for line in sorted(before - after):
        changed = line.section == "switches"  # off before: on now, and said so above
        demo.expect(changed, f"gone: {line.section}: {line.text}")
    bad = left.get("", [])
    for line in bad:
        demo.expect(False, f"left behind: {line.section}: {line.text}")
    if demo.expect(not bad, f"{len(bad)} objects left behind"):
        demo.show.outcome(True, "nothing of any pod is left")


def compare_nodes(demo: Demo, states: dict[str, tuple[Snapshot, Snapshot, Snapshot]]) -> None:
    """The same for several nodes at once, by their names: before, with pods, and after."""
    demo.show.title("What is left on the two nodes: before, with pods, after")
    names = list(states)
    widths = (18, *(-8 for _ in names for _ in range(3)))
    demo.show.row(widths, ("", *(cell for name in names for cell in ("", name, ""))), head=True)
    for section in SECTIONS:
        counts = [
            sum(line.section == section for line in seen) for name in names for seen in states[name]
        ]
        demo.show.row(widths, (section, *map(str, counts)))
    demo.show.line()
    for name, (before, _during, after) in states.items():
        left = _by_reason(after - before)
        stays = [reason for reason in left if reason]
        bad = [f"{line.section}: {line.text}" for line in left.get("", [])]
        demo.facts.setdefault("left_on", {})[name] = stays
        for text in bad:
            demo.expect(False, f"left behind on {name}: {text}")
        if demo.expect(not bad, f"{len(bad)} objects left behind on {name}"):
            text = f"nothing of any pod or of the way between nodes is left on {name}"
            demo.show.outcome(True, text)
    demo.show.line("  (the bridge, the table with nodes and ranges, forwarding and notes stay)")


def _by_reason(lines: Snapshot) -> dict[str, list[Line]]:
    """The objects under their reason to stay; "" for those that have none."""
    found: dict[str, list[Line]] = {}
    for line in sorted(lines):
        found.setdefault(reason_to_stay(line), []).append(line)
    return found


def _listed(lines: list[Line]) -> Iterator[str]:
    """One text a folder or table: its name, and what is in it."""
    grouped: dict[str, list[str]] = {}
    for line in lines:
        head, name = line.family
        grouped.setdefault(head, []).append(name)
    for head, names in grouped.items():
        yield f"{head} {', '.join(names)}".strip()
