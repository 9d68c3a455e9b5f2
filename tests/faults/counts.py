"""What a scenario counts, and how counts are added up. Nothing here does I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

LOSSES = (
    "leaks", "failed_del", "failed_add", "duplicates", "unusable", "torn", "wrong", "bystander",
    "check",
)  # fmt: skip
NOTES_KEPT = 12  # findings told in words, per row


@dataclass
class Counts:
    """One row of the table.

    runs: times the fault was tried; struck: times it hit a call that had changed something.
    leaks: runs after which something of the attachment was left when DEL had been called.
    failed_del, failed_add: calls after the fault that should have succeeded.
    duplicates: addresses given while a live interface had them.
    unusable: addresses that could not be given although nobody had them.
    torn: files of the store without the content that belongs into them.
    wrong: answers that break the protocol or say what is not so, hung calls, orphans, held
    locks, files in wrong places. bystander: harm to a pod that had no part in it. check: runs
    after which `podwire ipam check` found something, or not what it had to find.
    """

    runs: int = 0
    struck: int = 0
    leaks: int = 0
    failed_del: int = 0
    failed_add: int = 0
    duplicates: int = 0
    unusable: int = 0
    torn: int = 0
    wrong: int = 0
    bystander: int = 0
    check: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def lose(self, kind: str, note: str, number: int = 1) -> None:
        """Count a loss and keep its description."""
        assert kind in LOSSES, kind
        setattr(self, kind, getattr(self, kind) + number)
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(f"{kind}: {note}")

    @property
    def losses(self) -> dict[str, int]:
        """The columns that are not zero among those that must be."""
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name)}

    def add(self, other: Counts) -> None:
        """Add up in place."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        del self.notes[NOTES_KEPT:]

    def as_json(self) -> dict[str, Any]:
        """All columns by name."""
        return {**asdict(self), "seconds": round(self.seconds, 1)}
