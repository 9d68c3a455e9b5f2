"""What `podwire uninstall` decides from what is on a node."""

from __future__ import annotations

from cni_plugin.uninstall.values import (
    ANNOTATION,
    CONFLIST,
    KERNEL,
    LAUNCHER,
    STATE,
    TREE,
    Found,
    Plan,
    Thing,
    plan,
)

KINDS = (TREE, LAUNCHER, STATE, KERNEL, ANNOTATION, CONFLIST)
THINGS = tuple(Thing(kind, f"a {kind}", "rm") for kind in KINDS)
POD = ("net id eth0",)


def kinds(going: Plan) -> list[str]:
    return [thing.kind for thing in going.things]


def test_without_pods_all_goes_the_config_list_first_and_the_tree_last() -> None:
    going = plan(Found(THINGS))
    assert kinds(going) == [CONFLIST, ANNOTATION, KERNEL, STATE, LAUNCHER, TREE]
    assert not going.waits


def test_with_pods_nothing_goes_while_the_runtime_has_no_other_config() -> None:
    going = plan(Found(THINGS, POD))
    assert kinds(going) == []
    assert "1 attachment is left" in going.waits


def test_with_pods_and_another_config_only_the_config_list_goes() -> None:
    going = plan(Found(THINGS, POD * 2, others=("/etc/cni/net.d/05-other.conflist",)))
    assert kinds(going) == [CONFLIST]
    assert "2 attachments are left" in going.waits


def test_nothing_goes_when_it_cannot_be_seen_who_is_attached() -> None:
    going = plan(Found(THINGS, blind="no netlink"))
    assert kinds(going) == []
    assert "no netlink" in going.waits


def test_forced_all_goes() -> None:
    assert len(plan(Found(THINGS, POD), force=True).things) == len(THINGS)


def test_nothing_goes_while_the_agent_would_put_it_back() -> None:
    going = plan(Found(THINGS, agent="pid 1"), force=True)
    assert kinds(going) == []
    assert "pid 1" in going.waits


def test_what_could_not_be_looked_at_is_not_clean() -> None:
    assert Found().clean
    assert not Found(failures=("no answer",)).clean
    assert not Found(attachments=POD).clean
    assert not Found(blind="no netlink").clean
