"""iptables where somebody else set FORWARD to DROP (Docker does): our ranges get an accept.

An accept in our own nftables table cannot help: a packet must pass every table's chain, so only a
rule in the table that drops does. podwire keeps its rules in one chain of its own, PODWIRE-FORWARD.
The commands are run as programs because that is the interface iptables has; both flavours
(legacy, nft) are looked at, and only one that exists and drops is touched.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from shutil import which

from cni_plugin.cni.errors import CNIError, KernelRefused, TryAgainLater
from cni_plugin.kernel.forward import (
    PROGRAM,
    legacy_filter_loaded,
    nft_forward_drops,
    nft_forward_policy,
)
from cni_plugin.kernel.netlink import Socket
from ipam.values import IPNetwork

CHAIN = "PODWIRE-FORWARD"
LOCK_WAIT_S = 5  # for the xtables lock (-w); the runtime waits minutes, we need not
RESOURCE_PROBLEM = 4  # iptables' exit status when the lock was not to be had in time

Rule = Sequence[str]


class Iptables:
    """One flavour of one family's iptables: rules added once, deleted if there."""

    def __init__(self, command: str) -> None:
        self.command = command  # e.g. "iptables-nft", "ip6tables-legacy"

    @property
    def installed(self) -> bool:
        return which(self.command) is not None

    def exists(self, table: str, chain: str, rule: Rule) -> bool:
        return self._run("-t", table, "-C", chain, *rule).returncode == 0

    def append_unique(self, table: str, chain: str, rule: Rule) -> None:
        if not self.exists(table, chain, rule):
            self._must("-t", table, "-A", chain, *rule)

    def insert_unique(self, table: str, chain: str, rule: Rule) -> None:
        """At the top, when it is not in the chain yet."""
        if not self.exists(table, chain, rule):
            self._must("-t", table, "-I", chain, "1", *rule)

    def delete(self, table: str, chain: str, rule: Rule) -> None:
        """Nothing to delete is fine."""
        if self.exists(table, chain, rule):
            self._must("-t", table, "-D", chain, *rule)

    def list(self, table: str, chain: str) -> tuple[str, ...]:
        """The chain's rules as `-S` prints them; empty when there is no such chain."""
        done = self._run("-t", table, "-S", chain)
        return tuple(done.stdout.splitlines()) if done.returncode == 0 else ()

    def new_chain(self, table: str, chain: str) -> None:
        """Makes it when it is not there."""
        if not self.list(table, chain):
            self._must("-t", table, "-N", chain)

    def clear(self, table: str, chain: str) -> None:
        self._must("-t", table, "-F", chain)

    def delete_chain(self, table: str, chain: str) -> None:
        """Empties it and takes it away; nothing there is fine."""
        if self.list(table, chain):
            self.clear(table, chain)
            self._must("-t", table, "-X", chain)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [self.command, "-w", str(LOCK_WAIT_S), *arguments]
        try:
            done = subprocess.run(  # noqa: S603  fixed program, arguments are parsed values
                words, capture_output=True, text=True, timeout=4 * LOCK_WAIT_S, check=False
            )
        except FileNotFoundError as error:
            raise CNIError(
                f"{self.command} is not installed, and FORWARD drops packets in its table",
                f"install {self.command}, or set the FORWARD policy to ACCEPT",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise TryAgainLater(f"{' '.join(words)} took over {4 * LOCK_WAIT_S} s") from error
        if done.returncode == RESOURCE_PROBLEM:
            raise TryAgainLater(
                f"{' '.join(words)}: {done.stderr.strip()}",
                "another process holds the xtables lock",
            )
        return done

    def _must(self, *arguments: str) -> None:
        done = self._run(*arguments)
        if done.returncode != 0:
            raise KernelRefused(f"{self.command} {' '.join(arguments)}: {done.stderr.strip()}")


def dropping(filter_socket: Socket, version: int) -> tuple[str, ...]:
    """The commands of the flavours whose FORWARD policy is DROP, in one family."""
    commands = []
    if nft_forward_drops(filter_socket, version):
        commands.append(f"{PROGRAM[version]}-nft")
    if legacy_filter_loaded(version):
        legacy = Iptables(f"{PROGRAM[version]}-legacy")
        if legacy.installed and "-P FORWARD DROP" in legacy.list("filter", "FORWARD"):
            commands.append(legacy.command)
    return tuple(commands)


def forward_chains(filter_socket: Socket | None) -> tuple[str, ...]:
    """The commands of the flavours that have our chain, whatever their policy is by now. A flavour
    that nobody uses is not asked: that alone would load its modules."""
    commands = []
    for version in PROGRAM:
        if nft_forward_policy(filter_socket, version) is not None:
            commands.append(f"{PROGRAM[version]}-nft")
        if legacy_filter_loaded(version):
            commands.append(f"{PROGRAM[version]}-legacy")
    found = map(Iptables, commands)
    return tuple(one.command for one in found if one.installed and one.list("filter", CHAIN))


def delete_forward_chain(command: str) -> None:
    """With the rule that leads into it."""
    tables = Iptables(command)
    tables.delete("filter", "FORWARD", ("-j", CHAIN))
    tables.delete_chain("filter", CHAIN)


def _rules(network: IPNetwork) -> tuple[Rule, ...]:
    return (("-s", str(network), "-j", "ACCEPT"), ("-d", str(network), "-j", "ACCEPT"))


def forward_accepted(filter_socket: Socket, network: IPNetwork) -> bool:
    """Whether every flavour that drops has our accepts for the range."""
    return all(
        Iptables(command).exists("filter", "FORWARD", ("-j", CHAIN))
        and all(Iptables(command).exists("filter", CHAIN, rule) for rule in _rules(network))
        for command in dropping(filter_socket, network.version)
    )


def accept_forward(filter_socket: Socket, network: IPNetwork) -> None:
    """Accepts forwarding from and to the range, in each flavour that drops."""
    for command in dropping(filter_socket, network.version):
        tables = Iptables(command)
        tables.new_chain("filter", CHAIN)
        for rule in _rules(network):
            tables.append_unique("filter", CHAIN, rule)
        tables.insert_unique("filter", "FORWARD", ("-j", CHAIN))


def unaccept_forward(filter_socket: Socket, network: IPNetwork) -> None:
    """Takes the range back out; the last range takes the chain with it."""
    for command in dropping(filter_socket, network.version):
        tables = Iptables(command)
        for rule in _rules(network):
            tables.delete("filter", CHAIN, rule)
        if len(tables.list("filter", CHAIN)) == 1:  # only "-N": nobody's ranges are left
            tables.delete("filter", "FORWARD", ("-j", CHAIN))
            tables.delete_chain("filter", CHAIN)
