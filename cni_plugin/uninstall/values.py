"""What of podwire is on a node, and what of it may go now. Decided from values: no I/O.

As long as pods are attached, everything that they need stays: the launcher and the tree for their
DEL, links, routes and rules for their packets, the records by which DEL works. So does the config
list unless the runtime has another one: without any, a runtime cannot tear a pod down, and pods are
left Terminating for ever (containerd issue 8774). With another one it starts new pods by that.
"""

from __future__ import annotations

from typing import NamedTuple

from cni_plugin.model.objects import Obj

# In the order in which they go: first what brings more pods, last what answers for those there are.
CONFLIST, ANNOTATION, KERNEL = "conflist", "annotation", "kernel"
STATE, STORE, LAUNCHER, TREE = "state", "store", "launcher", "tree"
ORDER = (CONFLIST, ANNOTATION, KERNEL, STATE, STORE, LAUNCHER, TREE)
FILES = (LAUNCHER, TREE)  # what an installer puts there
STOP = "stop it (`kubectl -n podwire delete daemonset podwire`, `systemctl stop podwire-agent`)"


class Thing(NamedTuple):
    """One thing of podwire's. what: a path, an annotation's key or an `ip`-style line; remedy: the
    command by which a person removes it; obj: it, when it is the kernel's."""

    kind: str
    what: str
    remedy: str
    obj: Obj | None = None


class Failure(NamedTuple):
    """Something did not go. what: a thing's, or what else it was about."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class Acted(NamedTuple):
    """things: all that was to go, those among them that were found only then."""

    things: tuple[Thing, ...]
    failures: tuple[Failure, ...]


class Hurdles(NamedTuple):
    """Why things stay. attachments: a line each. agent: who holds the agent's lock, "" nobody."""

    attachments: tuple[str, ...] = ()
    agent: str = ""


class Found(NamedTuple):
    """A look at the node. attachments, agent: see Hurdles; blind: why these could not be seen.
    others: config lists of other plugins. kept: paths that are podwire's and stay unless they are
    asked for, each with the reason. failures: what could not be looked at, a sentence each."""

    things: tuple[Thing, ...] = ()
    attachments: tuple[str, ...] = ()
    agent: str = ""
    blind: str = ""
    others: tuple[str, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing of podwire's is left."""
        return not (self.things or self.attachments or self.agent or self.blind or self.failures)


class Plan(NamedTuple):
    """things: what goes now, in order. waits: why the rest has to wait, "" when there is none."""

    things: tuple[Thing, ...]
    waits: str = ""


def plan(found: Found, *, force: bool = False) -> Plan:
    """What goes now. force: pods are cut off."""
    if found.agent:
        return Plan(
            (), f"the agent still serves and would put back what goes: {found.agent}; {STOP}"
        )
    everything = tuple(sorted(found.things, key=lambda thing: ORDER.index(thing.kind)))
    if force:
        return Plan(everything)
    if found.blind:
        return Plan((), f"whether pods are attached cannot be seen: {found.blind}")
    if not found.attachments:
        return Plan(everything)
    count = len(found.attachments)
    line = f"{count} attachment{'s are' if count > 1 else ' is'} left, and what they need stays"
    if not found.others:
        return Plan((), f"{line}, the config list too: the runtime has no other to end them by")
    return Plan(tuple(thing for thing in everything if thing.kind == CONFLIST), line)
