"""What the ADDs of one kind find on the node alike (bridge, chains, settings), and whether it is so
still.

Looked at the way every ADD looks. It counts until the kernel tells of a change to the bridge or its
addresses (netlink tells in the same moment, and asking whether it has is one call that mostly says
no), until nftables has another generation than we have made, and for settings, of which nobody
tells, for as long as every ADD counts on them (host.RECENT_S).
"""

from __future__ import annotations

import _socket
import time
from collections.abc import Callable
from typing import NamedTuple

from cni_plugin.agent.stencil import shared_objects
from cni_plugin.agent.subject import Kind
from cni_plugin.attach.wiring import Facts, gateway_link
from cni_plugin.cni.values import NetConf
from cni_plugin.commands.add import BRIDGED_UNFILTERED
from cni_plugin.filter.masquerade import is_network_chain
from cni_plugin.kernel import rtnl
from cni_plugin.kernel.host import RECENT_S, Host
from cni_plugin.kernel.monitor import (
    IPV4_IFADDR,
    IPV6_IFADDR,
    LINK,
    attach,
    listener,
    waiting,
)
from cni_plugin.kernel.netlink import NETLINK_ROUTE, Received, messages_in
from cni_plugin.kernel.places import Places
from cni_plugin.kernel.port import NodeKernel
from cni_plugin.model.objects import HOST, Obj, RuleChain, key
from cni_plugin.model.plan import Found, diff

COUNTED = rtnl.IFF_UP | rtnl.IFF_PROMISC  # of a bridge's flags; carrier comes and goes with pods


Hear = Callable[[int, Callable[[], None] | None], None]


class Ground(NamedTuple):
    """What was found. changes: how many chains this process had changed by then; warnings: what
    each ADD says; looked_s: when, on the monotonic clock; foreign: see host.Host, which others look
    by too: what they have seen says nothing of this."""

    facts: Facts
    found: Found
    links: tuple[rtnl.Link, ...]
    changes: int
    warnings: tuple[str, ...]
    looked_s: float
    foreign: int

    @property
    def indexes(self) -> dict[str, int]:
        """Of the links that were looked at."""
        return {link.name: link.ifindex for link in self.links}

    def like(self, other: Ground) -> bool:
        """Whether stencils for the one are stencils for the other."""
        return self[:3] == other[:3]


class Lookout:
    """Looks at the ground of one kind of ADD, and again when that may have changed."""

    def __init__(self, host: Host, conf: NetConf, kind: Kind, hear: Hear) -> None:
        """hear: has a function called when a descriptor can be read, from the same thread; with
        None never again. So events are mostly read between calls, not by one that waits."""
        self._host = host
        self._hear = hear
        self._conf = conf
        self._kind = kind
        self._links = dict.fromkeys((conf.bridge, gateway_link(conf))) if _has_bridge(conf) else {}
        self._watch: _socket.socket | None = None
        self._ground: Ground | None = None
        self._shared: tuple[Obj, ...] = ()
        self._heard_of: tuple[int, ...] = ()

    def ground(self) -> Ground | None:
        """None: there is something to be made or mended first, or to be told."""
        known = self._ground
        if known is None or time.monotonic() - known.looked_s >= RECENT_S:
            return self.look()
        if known.foreign != self._host.foreign:
            return self.look()
        self._listen()
        if self._ground is None:
            return self.look()
        if self._host.chain_changes != known.changes:
            self._ground = known = self._with_chains(known)
        return known

    def _with_chains(self, known: Ground) -> Ground | None:
        """After a change of our own to the chains: a network's goes with its last pod."""
        self._host.look_again()
        changes = self._host.chain_changes
        chains = self._host.chains(obj for obj in self._shared if isinstance(obj, RuleChain))
        if known.foreign != self._host.foreign:
            return self.look()
        others = {name: obj for name, obj in known.found.items() if not isinstance(obj, RuleChain)}
        found = others | {key(chain): chain for chain in chains}
        return known._replace(found=found, changes=changes) if self._suits(found) else None

    def _suits(self, found: Found) -> bool:
        """Whether nothing has to be made but the network's chain, which an ADD may bring."""
        missing = diff(self._shared, found)
        chains = all(
            step.found is None
            and isinstance(step.subject, RuleChain)
            and is_network_chain(step.subject)
            for step in missing
        )
        return chains and self._host.foreign >= 0

    def look(self) -> Ground | None:
        """As it is now, whatever is remembered."""
        looked_s = time.monotonic()
        places = Places(host=self._host)
        try:
            found = self._look(NodeKernel(places), places, looked_s)
        finally:
            places.close()
        if found is not None and self._ground is not None and found.like(self._ground):
            found = found._replace(found=self._ground.found)
        self._ground = found
        return found

    def close(self) -> None:
        """Hears nothing any more."""
        if self._watch is not None:
            self._hear(self._watch.fileno(), None)
            self._watch.close()
            self._watch = None

    def _listen(self) -> None:
        """Forgets what has changed since it was looked at."""
        watch, known = self._watch, self._ground
        if watch is not None and known is not None and self._changed(watch, known):
            self._ground = None

    def _look(self, kernel: NodeKernel, places: Places, looked_s: float) -> Ground | None:
        if not self._listening(places):
            return None
        facts = kernel.facts(self._conf)
        if facts.forward_drops:
            return None
        # What is made of these would be seen in a bridge that is to be made or has to be moved.
        bridge = facts.bridge and facts.bridge._replace(idle=True)
        facts = facts._replace(bridge=bridge, fresh_mac=Facts().fresh_mac)
        try:
            self._shared = shared_objects(self._conf, self._kind, facts)
        except ValueError:  # a gateway's former address has to go first
            return None
        changes = self._host.chain_changes
        found = kernel.observe(self._shared, fresh=True)
        if not self._suits(found):
            return None
        bare = _has_bridge(self._conf) and not kernel.bridged_packets_filtered()
        links = tuple(_counted(link) for name in self._links if (link := places.link(HOST, name)))
        warnings = (BRIDGED_UNFILTERED,) if bare else ()
        return Ground(facts, found, links, changes, warnings, looked_s, self._host.foreign)

    def _listening(self, places: Places) -> bool:
        """Hears of the links there are now, and of nothing that was before."""
        if not self._links:
            return True
        links = [places.link(HOST, name) for name in self._links]
        indexes = tuple(link.ifindex for link in links if link)
        if len(indexes) < len(links):
            return False
        if self._watch is None or indexes != self._heard_of:
            self.close()
            self._heard_of = indexes
            self._watch = listener(NETLINK_ROUTE, (LINK, IPV4_IFADDR, IPV6_IFADDR))
            attach(self._watch, _only_of(indexes))
            self._hear(self._watch.fileno(), self._listen)
            places.forget()  # they may have gone before anybody listened
            there = [places.link(HOST, name) for name in self._links]
            return indexes == tuple(link.ifindex for link in there if link)
        waiting(self._watch)
        places.forget()
        return True

    @staticmethod
    def _changed(watch: _socket.socket, known: Ground) -> bool:
        try:
            return any(
                not _is_known(received, known)
                for data in waiting(watch)
                for _, received in messages_in(data)
            )
        except OSError:  # ENOBUFS: some are lost
            return True


def _has_bridge(conf: NetConf) -> bool:
    return conf.mode == "bridge"


def _counted(link: rtnl.Link) -> rtnl.Link:
    return link._replace(flags=link.flags & COUNTED)


def _is_known(received: Received, known: Ground) -> bool:
    """Whether an event tells nothing new: a bridge's carrier comes with its first port."""
    if received.type != rtnl.RTM_NEWLINK or received.body[0]:  # AF_BRIDGE has other attributes
        return False
    return _counted(rtnl.parse_link(received)) in known.links


def _only_of(indexes: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """Lets through what is about these links: struct ifinfomsg and ifaddrmsg have the index at the
    same place, 4 bytes behind the message's header."""
    count = len(indexes)
    lines = [(0x20, 0, 0, 20)]  # ld [20]
    for place, index in enumerate(indexes):
        value = int.from_bytes(rtnl.IFINFO.pack(0, 0, index, 0, 0)[4:8], "big")
        lines.append((0x15, count - place, 0, value))  # jeq: to the end
    return [*lines, (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]  # ret
