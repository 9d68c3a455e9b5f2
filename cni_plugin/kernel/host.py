"""The sockets of the host's namespace, and what is remembered of what they told.

A direct run makes one for its call; the agent keeps one a worker, so that calls share the sockets
and a rule set that was read once is read again only when somebody has changed it.
"""

from __future__ import annotations

import errno
import os
import time
from _thread import allocate_lock  # `threading` would cost the direct path a millisecond
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cni_plugin.kernel import nft
from cni_plugin.kernel.namespace import open_own_netns
from cni_plugin.kernel.netlink import NETLINK_NETFILTER, KernelError, Message, Socket
from cni_plugin.model.objects import Key, RuleChain, key
from ipam.lean_typing import NamedTuple, Protocol

RECENT_S = 1.0  # how old the node's own settings may be that a new attachment counts on


Changes = Sequence[tuple[Key, RuleChain | None]]  # chains as they are from now on; None: gone
CHANGES_MAX = 32  # that are remembered (a chain takes 10 KiB); who looked before reads the rules
IN_FLIGHT_S = 0.005  # for a transaction that is under way; one takes less than a millisecond


class Commits:
    """What the workers of this process have committed: how many transactions (`count`) of which
    all know what they did to the chains, and what that was. While one is under way (`begun` is
    more than `ended`) nobody knows whether the kernel's number has it already."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._alone = allocate_lock()
        self._changes: list[tuple[Key, RuleChain | None]] = []
        self._forgotten = 0
        self.count = 0
        self.begun = 0
        self.ended = 0

    @property
    def changes(self) -> int:
        """How many chains have been changed so far."""
        return self._forgotten + len(self._changes)

    def since(self, number: int) -> Changes | None:
        """The changes after so many; None when they are no longer known."""
        start = number - self._forgotten
        return None if start < 0 else self._changes[start:]

    @contextmanager
    def one(self, *, counted: bool, changes: Changes = ()) -> Iterator[None]:
        """A transaction is under way. counted: what it does to chains is in changes."""
        with self._alone:
            with self._lock:
                self.begun += 1
            done = 0
            try:
                yield
                done = int(counted)
            finally:
                with self._lock:
                    self.count += done
                    self._changes += changes if done else ()
                    self._trim()
                    self.ended += 1

    def exactly(self, work: Callable[[int], bool], changes: Changes = ()) -> bool:
        """A transaction by one who has to know how many there were. work: gets that number, and
        answers whether it has committed. The kernel takes one at a time too, so nobody waits for
        longer."""
        done = False
        with self.one(counted=False):
            done = work(self.count)
            with self._lock:
                self.count += done
                self._changes += changes if done else ()
        return done

    def settle(self) -> None:
        """Waits for a transaction that is under way, not for long."""
        if self._alone.acquire(timeout=IN_FLIGHT_S):
            self._alone.release()

    def _trim(self) -> None:
        if len(self._changes) > 2 * CHANGES_MAX:
            self._forgotten += CHANGES_MAX
            del self._changes[:CHANGES_MAX]


class _Seen(NamedTuple):
    """What was wanted of a chain, and what was found."""

    wanted: RuleChain
    found: RuleChain | None


class Deletes(Protocol):
    """See background.Background, which a direct run does not load."""

    def delete(
        self, message: Message, names: Sequence[str], looking: Socket
    ) -> list[KernelError | None]: ...


class Host:
    """Sockets, opened on first use. For one thread at a time; its workers share `commits`.

    background: deletes links without waiting for more than that they are gone. netns: a descriptor
    of the host's namespace that somebody else keeps."""

    def __init__(
        self,
        commits: Commits | None = None,
        background: Deletes | None = None,
        netns: int | None = None,
    ) -> None:
        self._netns = netns
        self._keeps_netns = netns is None
        self._route: Socket | None = None
        self._filter: Socket | None = None
        self._commits = commits or Commits()
        self.background = background
        self._chains: dict[Key, _Seen] = {}
        self._policies: dict[str, str | None] = {}
        # The rule set's generation less our commits: the same as long as nobody else commits.
        self._foreign = -1
        self._changes = 0  # of our own, which what was seen knows of
        self._looked = False
        self._recent: dict[object, tuple[float, str | None]] = {}

    @property
    def netns(self) -> int:
        """A descriptor of the host's namespace, which the thread is in that asks first."""
        if self._netns is None:
            self._netns = open_own_netns()
        return self._netns

    @property
    def route(self) -> Socket:
        """The rtnetlink socket."""
        if self._route is None:
            self._route = Socket()
        return self._route

    @property
    def filter(self) -> Socket:
        """The nftables socket."""
        if self._filter is None:
            self._filter = Socket(NETLINK_NETFILTER)
        return self._filter

    @property
    def filter_if_any(self) -> Socket | None:
        """None in a kernel without nftables: then none of its objects exist."""
        try:
            return self.filter
        except KernelError as error:
            if error.errno == errno.EPROTONOSUPPORT:
                return None
            raise

    @property
    def filter_port(self) -> int:
        """The port of the nftables socket; 0 while there is none. From any thread."""
        socket = self._filter
        return socket.port if socket else 0

    def chains(self, wanted: Iterable[RuleChain]) -> list[RuleChain]:
        """See nft.observe_chains."""
        wanted = list(wanted)
        self._keep_or_forget()
        unknown = [chain for chain in wanted if self._unknown(chain)]
        found = {key(one): one for one in nft.observe_chains(self.filter_if_any, unknown)}
        for chain in unknown:
            self._chains[key(chain)] = _Seen(chain, found.get(key(chain)))
        seen = (self._chains[key(chain)].found for chain in wanted)
        return [chain for chain in seen if chain is not None]

    def _unknown(self, wanted: RuleChain) -> bool:
        seen = self._chains.get(key(wanted))
        return seen is None or seen.wanted != wanted

    def forward_policy(self, family: str) -> str | None:
        """See nft.forward_policy."""
        self._keep_or_forget()
        if family not in self._policies:
            self._policies[family] = nft.forward_policy(self.filter_if_any, family)
        return self._policies[family]

    def recent(self, what: object, read: Callable[[], str | None]) -> str | None:
        """What `read` has told within the last second, for settings that hardly ever change."""
        now_s = time.monotonic()
        at_s, value = self._recent.get(what, (-RECENT_S, None))
        if now_s - at_s >= RECENT_S:
            value = read()
            self._recent[what] = (now_s, value)
        return value

    @property
    def foreign(self) -> int:
        """nftables' generation less this process's commits, as last seen; -1: nobody knows."""
        return self._foreign

    @property
    def chain_changes(self) -> int:
        """How many chains this process has changed so far."""
        return self._commits.changes

    def exchange_filter(
        self, datagram: Callable[[int], bytes], last: int, changes: Changes = ()
    ) -> bool:
        """One encoded transaction, refused where the rules are not those last seen. datagram: makes
        it of the generation it counts on. See Socket.exchange."""
        socket = self.filter
        return self._commits.exactly(
            lambda ours: socket.exchange(datagram(self._foreign + ours), last), changes
        )

    def look_again(self) -> None:
        """The rules are asked about anew: something was changed, or may have been."""
        self._looked = False

    def _keep_or_forget(self) -> None:
        """Every commit, whoever makes it, raises the generation by one: when it has risen by more
        than this process has committed, nothing that was seen counts. What others of this process
        did to the chains is known."""
        if self._looked:
            return
        if self._commits.begun != self._commits.ended:
            self._commits.settle()
        changes, foreign = self._commits.changes, self._foreign_now()
        own = self._commits.since(self._changes)
        if foreign != self._foreign or foreign == -1 or own is None:
            self._chains.clear()
            self._policies.clear()
            self._foreign = foreign
        else:
            for name, made in own:
                self._follow(name, made)
        self._changes = changes
        self._looked = True

    def _follow(self, name: Key, made: RuleChain | None) -> None:
        known = self._chains.get(name)
        if made is not None:
            self._chains[name] = _Seen(made, made)
        elif known is not None:
            self._chains[name] = known._replace(found=None)

    def _foreign_now(self) -> int:
        """-1 when it cannot be told: a number that is wrong for a moment may be the right one
        later, when a chain has gone, and then what was seen would count for ever."""
        socket, ours = self.filter_if_any, self._commits
        if socket is None:
            return -1
        ended = ours.ended
        foreign = nft.generation(socket) - ours.count
        return foreign if ours.begun == ended else -1

    def commit(
        self, messages: Sequence[Message], *, chains: bool, changes: Changes | None = None
    ) -> None:
        """One transaction. chains: it makes or takes away some; changes: which, or every worker's
        view of them is old. Raises KernelError."""
        if not messages:
            return
        try:
            with self._commits.one(
                counted=not chains or changes is not None, changes=changes or ()
            ):
                nft.transaction(self.filter, messages)
        except KernelError:
            self._foreign = -1  # it may have counted on what is no longer so
            raise

    def close(self) -> None:
        """They are opened again when they are needed."""
        for socket in (self._route, self._filter):
            if socket is not None:
                socket.close()
        if self._netns is not None and self._keeps_netns:
            os.close(self._netns)
            self._netns = None
        self._route = self._filter = None
        self._recent.clear()
        self._looked = False
