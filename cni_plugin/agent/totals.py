"""What the cluster's rounds have counted so far."""

from __future__ import annotations

from collections import Counter


class Totals:
    """Numbers for whoever counts; read from any thread."""

    def __init__(self) -> None:
        self.nodes = 0
        self.peers = 0
        self.synced = False
        self.heard: bool | None = None  # the source is, now; None: it does not say
        self.losses = 0  # of the source, ever
        self.lists = 0  # all nodes listed anew, ever
        self.refused: Counter[str] = Counter()  # by reason, now
        self.steps: Counter[str] = Counter()  # by kind, ever
        self.passes: Counter[str] = Counter()  # whole | change, ever
        self.seconds = 0.0  # of all passes
        self.conflist: bool | None = None  # it is there as wanted; None: nobody wants one
        self.template: bool | None = None  # its template is used as it is now
        self.rivals: Counter[str] = Counter()  # other config lists, before | after it, now
