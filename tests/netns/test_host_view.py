"""What one worker remembers of nftables' rules while others change them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from cni_plugin.filter import masquerade
from cni_plugin.kernel import nft
from cni_plugin.kernel.host import CHANGES_MAX, Commits, Host
from cni_plugin.kernel.namespace import inside
from cni_plugin.kernel.netlink import KernelError, Message, Socket
from cni_plugin.model.objects import Element, key
from tests.support.node import Node

LIMIT_S = 10.0


@pytest.fixture
def workers(node: Node) -> Iterator[tuple[Host, Host]]:
    """Two of one process."""
    commits = Commits()
    with ExitStack() as opened, open(node.netns, "rb") as file:
        hosts = Host(commits), Host(commits)
        for host in hosts:
            inside(file.fileno(), lambda host=host: (host.route, host.filter))
            opened.callback(host.close)
        yield hosts


def test_a_look_amid_anothers_transaction_does_not_hide_the_next_removal(
    workers: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel has the transaction, its worker has not yet counted it."""
    looker, other = workers
    chain = masquerade.network_chain(())
    other.commit([*nft.new_table("inet"), *nft.new_chain(chain)], chains=True)
    real, committed, go_on = nft.transaction, Event(), Event()

    def slow(socket: Socket, messages: Sequence[Message]) -> None:
        real(socket, messages)
        committed.set()
        assert go_on.wait(LIMIT_S)

    element = nft.new_element(Element("inet", "underlays", ("eth0",)))
    monkeypatch.setattr(nft, "transaction", slow)
    thread = Thread(target=other.commit, args=([element],), kwargs={"chains": False})
    thread.start()
    assert committed.wait(LIMIT_S)
    assert looker.chains([chain]) == [chain]
    go_on.set()
    thread.join()
    monkeypatch.undo()
    other.commit([*nft.delete_chain(chain)], chains=True)
    looker.look_again()
    assert looker.chains([chain]) == []


def test_elements_of_others_in_the_process_cost_no_reading(
    workers: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    looker, other = workers
    chain = masquerade.network_chain(())
    other.commit([*nft.new_table("inet"), *nft.new_chain(chain)], chains=True)
    assert looker.chains([chain]) == [chain]
    other.commit([nft.new_element(Element("inet", "underlays", ("eth0",)))], chains=False)
    asked: list[object] = []
    monkeypatch.setattr(nft, "observe_chains", lambda _socket, wanted: asked.extend(wanted) or [])
    looker.look_again()
    assert looker.chains([chain]) == [chain]
    assert asked == []


def test_after_a_refusal_the_rules_are_read_again(workers: tuple[Host, Host]) -> None:
    """Whatever was wrong with what was remembered: the next attempt goes by the kernel."""
    looker, other = workers
    chain = masquerade.network_chain(())
    looker.commit([*nft.new_table("inet"), *nft.new_chain(chain)], chains=True)
    assert looker.chains([chain]) == [chain]
    with ExitStack() as quiet:  # the kernel's number moves by one, and so does our count
        quiet.enter_context(looker._commits.one(counted=True))
        other._commits = Commits()
        other.commit([*nft.delete_chain(chain)], chains=True)
    looker.look_again()
    assert looker.chains([chain]) == [chain], "the view is wrong"
    element = Element("inet", "masq4", ("10.0.0.2",), goto=chain.name, owner="pwabc")
    with pytest.raises(KernelError):
        looker.commit([nft.new_element(element)], chains=False)
    looker.look_again()
    assert looker.chains([chain]) == []


def test_what_others_of_the_process_did_to_the_chains_is_known(
    workers: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    looker, other = workers
    chain = masquerade.network_chain(())
    made, gone = [(key(chain), chain)], [(key(chain), None)]
    other.commit([*nft.new_table("inet"), *nft.new_chain(chain)], chains=True, changes=made)
    assert looker.chains([chain]) == [chain]
    asked: list[object] = []
    monkeypatch.setattr(nft, "observe_chains", lambda _socket, wanted: asked.extend(wanted) or [])
    for messages, changes, seen in (
        (nft.delete_chain(chain), gone, []),
        (nft.new_chain(chain), made, [chain]),
    ):
        other.commit([*messages], chains=True, changes=changes)
        looker.look_again()
        assert looker.chains([chain]) == seen
    assert asked == []


def test_who_looks_seldom_reads_again(workers: tuple[Host, Host]) -> None:
    """What was done to the chains is not remembered for ever."""
    looker, other = workers
    chain = masquerade.network_chain(())
    other.commit([*nft.new_table("inet"), *nft.new_chain(chain)], chains=True)
    assert looker.chains([chain]) == [chain]
    for _ in range(CHANGES_MAX + 1):
        for messages, made in ((nft.delete_chain(chain), None), (nft.new_chain(chain), chain)):
            other.commit([*messages], chains=True, changes=[(key(chain), made)])
    other.commit([*nft.delete_chain(chain)], chains=True, changes=[(key(chain), None)])
    assert other._commits.since(0) is None
    looker.look_again()
    assert looker.chains([chain]) == []
