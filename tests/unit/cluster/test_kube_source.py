"""The source `kubernetes` against an API server that lists and watches, and fails in every way."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import stat
import subprocess
from collections.abc import Callable, Coroutine
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from cni_plugin.cluster import kube_api, kubernetes
from cni_plugin.cluster.known import write_known
from cni_plugin.cluster.values import Cluster, Node
from tests.support.kube_api import KubeApi, KubeProcess, node_object
from tests.unit.cluster.kit import QUICK, Heard, following, kubeconfig, until


def node(name: str, cidr: str = "", address: str = "", **more) -> Node:
    cidrs = tuple(map(ip_network, filter(None, cidr.split(","))))
    return Node(name, cidrs, tuple(map(ip_address, filter(None, address.split(",")))), **more)


ROOT = Path(__file__).parents[3]
A = node("a", "10.244.1.0/24", "192.0.2.1")
B = node("b", "10.244.2.0/24", "192.0.2.2")


def put(api: KubeApi, one: Node, **more) -> None:
    api.put(
        node_object(one.name, list(map(str, one.pod_cidrs)), list(map(str, one.addresses)), **more)
    )


@pytest.fixture
def alive(tmp_path: Path):
    """Runs a test's coroutine with an API that knows A and B, and a source that has synced."""

    def run(test: Callable[[KubeApi, Heard], Coroutine[None, None, None]], timing=QUICK) -> None:
        async def main() -> None:
            async with KubeApi() as api:
                put(api, A)
                put(api, B)
                async with following(api, tmp_path, timing) as heard:
                    await until(heard.has(A, B), "the list is told")
                    await until(lambda: api.watches == 1, "it watches")
                    await test(api, heard)

        asyncio.run(main())

    return run


def test_the_list_is_one_change(alive):
    async def test(api, heard):
        assert [len(cluster.nodes) for cluster in heard.clusters] == [2]
        await until(lambda: heard.syncs == [2], "synced is told")
        assert heard.losses == heard.relists == heard.notes == []

    alive(test)


def test_a_node_joins_changes_and_leaves(alive):
    async def test(api, heard):
        c = node("c", "10.244.3.0/24,2001:db8:0:3::/64", "192.0.2.3,2001:db8::3")
        put(api, c)
        await until(heard.has(A, B, c), "c is there")
        moved = c._replace(addresses=(ip_address("192.0.2.33"), c.addresses[1]))
        put(api, moved)
        await until(heard.has(A, B, moved), "c has another address")
        api.delete("a")
        await until(heard.has(B, moved), "a is gone")

    alive(test)


def test_what_changes_nothing_of_a_node_is_not_told(alive):
    async def test(api, heard):
        for beat in range(20):
            put(api, A, annotations={"heartbeat": str(beat)})
        put(api, node("c"))
        await until(heard.has(A, B, node("c")), "c is there")
        assert len(heard.clusters) == 2

    alive(test)


def test_a_burst_is_told_together(alive):
    async def test(api, heard):
        many = [node(f"n{i:04}", f"10.{i // 250}.{i % 250}.0/24") for i in range(1000)]
        for one in many:
            put(api, one)
            await asyncio.sleep(0)  # so that they do not come at once
        await until(heard.has(A, B, *many), "all are there")
        apart = [after - before for before, after in itertools.pairwise(heard.times_s)]
        assert min(apart) >= 0.099

    alive(test, QUICK._replace(gather_s=0.1))


def test_a_list_comes_in_pages_of_one_moment(tmp_path):
    async def main() -> None:
        many = [node(f"n{i:03}", f"10.1.{i}.0/24") for i in range(250)]
        async with KubeApi() as api:
            for one in many:
                put(api, one)
            async with following(api, tmp_path) as heard:
                await until(heard.has(*many), "all are there")
            pages = [asked for asked in api.asked if asked.verb == "list"]
            assert [page.query.get("limit") for page in pages] == ["100"] * 3
            assert [bool(page.query.get("continue")) for page in pages] == [False, True, True]
            assert len(heard.clusters) == 1

    asyncio.run(main())


def test_a_list_that_outlives_its_version_is_asked_for_in_larger_pages(tmp_path):
    async def main() -> None:
        many = [node(f"n{i:04}", f"10.{i >> 8}.{i & 255}.0/24") for i in range(2600)]
        async with KubeApi() as api:
            for one in many:
                put(api, one)
            api.compact_after_pages = 3
            async with following(api, tmp_path) as heard:
                await until(heard.has(*many), "all are there")
            pages = [asked for asked in api.asked if asked.verb == "list"]
            assert [(page.query.get("limit"), page.status) for page in pages] == [
                *((limit, status) for limit in ("100", "500", "2500") for status in (200, 410)),
                (None, 200),
            ]
            assert "too old" in heard.relists[0]

    asyncio.run(main())


def test_a_list_that_fails_otherwise_is_asked_for_in_small_pages_again(tmp_path, monkeypatch):
    """As where all at once is more than an answer may have."""
    monkeypatch.setattr(kube_api, "ANSWER_MAX", 60_000)
    monkeypatch.setattr(kubernetes, "PAGES", (100, 0))

    async def main() -> None:
        many = [node(f"n{i:03}", f"10.1.{i}.0/24") for i in range(250)]
        async with KubeApi() as api:
            for one in many:
                put(api, one)
            api.compact_after_pages = 1
            async with following(api, tmp_path) as heard:
                await until(heard.has(*many), "all are there")
            limits = [asked.query.get("limit") for asked in api.asked if asked.verb == "list"]
            assert limits == ["100", "100", None, "100", "100", "100"]

    asyncio.run(main())


def test_a_slow_list_of_5000_nodes_is_one_change_and_a_start_does_not_wait_for_it(tmp_path):
    """50 pages that take 0.02 s each at least, where a start waits for 0.3 s."""

    async def main() -> None:
        many = [
            node(f"n{i:04}", f"10.{i >> 8}.{i & 255}.0/24", f"192.0.{i >> 8}.{i & 255}")
            for i in range(5000)
        ]
        state = tmp_path / "state/nodes.json"
        write_known(str(state), Cluster((*many[:-1], node("left"))))
        async with KubeApi() as api:
            for one in many:
                put(api, one)
            api.slow_s = 0.02
            async with following(api, tmp_path) as heard:
                await until(lambda: heard.syncs == [5000], "the API is heard")
                await until(heard.has(*many), "all are there")
                api.slow_s = 0.0
                assert [one.synced for one in heard.clusters] == [False, True]
                put(api, node("late", "10.200.0.0/24"))
                await until(lambda: len(heard.clusters) == 3, "what happens then is told")
            lists = [asked for asked in api.asked if asked.verb == "list"]
            assert len(lists) == 50
            assert [note for note in heard.notes if "the 5000 nodes last known" in note]

    asyncio.run(main())


def test_a_watch_that_ends_in_order_goes_on_from_its_bookmark(alive):
    async def test(api, heard):
        api.drop = 1  # so that only a bookmark can tell of the version
        put(api, A, annotations={"x": "y"})
        latest = str(api._revision)
        await until(lambda: heard.source._view.version == latest, "a bookmark came")
        before = _count(api, "watch")
        api.end_watches()
        await until(lambda: _count(api, "watch") > before, "it watches again")
        assert [a for a in api.asked if a.verb == "watch"][-1].query["resourceVersion"] == latest
        assert _count(api, "list") == 1
        assert heard.losses == []

    # Silence is no reason here to look by another watch.
    alive(test, QUICK._replace(limits=QUICK.limits._replace(idle_s=60)))


def _count(api: KubeApi, verb: str) -> int:
    return sum(asked.verb == verb for asked in api.asked)


@pytest.mark.parametrize("by_status", [False, True])
def test_gone_is_a_new_list(alive, by_status):
    """While nobody watches the history is compacted, and a node goes: only a list can tell."""

    async def test(api, heard):
        api.gone_by_status = by_status
        api.down()
        await until(lambda: heard.losses, "the API is lost")
        api.delete("a")
        put(api, node("c"))
        api.compact()
        await api.up()
        await until(heard.has(B, node("c")), "the list is told")
        assert _count(api, "list") == 2
        assert "too old resource version" in heard.relists[0]

    alive(test)


def test_a_restart_of_the_api_loses_nothing(alive):
    async def test(api, heard):
        api.down()
        await until(lambda: heard.losses, "the API is lost")
        assert "127.0.0.1" in heard.losses[0]
        assert heard.clusters[-1].nodes == (A, B)
        api.delete("b")
        await api.up()
        await until(heard.has(A), "what happened meanwhile is told")
        await until(lambda: len(heard.syncs) == 2, "that it is heard again is told")
        assert _count(api, "list") == 1
        assert len(heard.losses) == 1

    alive(test)


def test_a_watch_that_fell_silent_is_given_up(alive):
    async def test(api, heard):
        api.silence()
        put(api, node("c"))
        await until(heard.has(A, B, node("c")), "another watch tells")
        assert _count(api, "list") == 1
        assert heard.losses == []

    alive(test)


def test_a_watch_cut_off_in_the_middle_of_an_event_goes_on(alive):
    async def test(api, heard):
        api.hang_up()
        put(api, node("c"))
        await until(heard.has(A, B, node("c")), "another watch tells")
        assert _count(api, "list") == 1

    alive(test)


def test_events_that_come_twice_change_nothing(alive):
    async def test(api, heard):
        api.duplicate = 3
        put(api, node("c"))
        api.delete("c")
        put(api, node("d"))
        await until(heard.has(A, B, node("d")), "d is there, c is gone")
        before = len(heard.clusters)
        put(api, node("e"))
        await until(heard.has(A, B, node("d"), node("e")), "e is there")
        assert len(heard.clusters) == before + 1

    alive(test)


def test_events_in_the_wrong_order_end_right(alive):
    """a changes twice, b goes and comes back, c comes and goes: sent backwards."""

    async def test(api, heard):
        api.holding = True
        put(api, A._replace(addresses=(ip_address("192.0.2.11"),)))
        last = A._replace(addresses=(ip_address("192.0.2.12"),))
        put(api, last)
        api.delete("b")
        again = B._replace(pod_cidrs=(ip_network("10.244.22.0/24"),))
        put(api, again)
        put(api, node("c"))
        api.delete("c")
        put(api, node("z"))
        api.release()
        await until(heard.has(last, again, node("z")), "the last of each counts")
        before = _count(api, "watch")
        api.end_watches()
        await until(lambda: _count(api, "watch") > before, "it watches again")
        put(api, node("zz"))
        await until(heard.has(last, again, node("z"), node("zz")), "and still does")
        assert _count(api, "list") == 1

    alive(test)


def test_a_missing_event_is_made_up_for_by_the_next_list(alive):
    async def test(api, heard):
        api.drop = 2
        api.delete("a")
        put(api, node("c"))
        await until(heard.has(B, node("c")), "a list tells")
        assert "a look at all nodes" in heard.relists[0]
        told, lists = len(heard.clusters), _count(api, "list")
        await until(lambda: _count(api, "list") > lists + 1, "it looks again, and again")
        assert len(heard.clusters) == told
        assert heard.losses == []

    quick = QUICK._replace(relist_s=0.1, limits=QUICK.limits._replace(watch_s=1))
    alive(test, quick)


def test_a_range_that_moves_to_a_new_node_before_the_old_one_goes(alive):
    """Both are told as they are; whose it is, is for who uses them, and the end is right."""

    async def test(api, heard):
        heir = node("heir", "10.244.1.0/24", "192.0.2.9")
        put(api, heir)
        await until(heard.has(A, B, heir), "both have the range")
        api.delete("a")
        await until(heard.has(B, heir), "the heir alone has it")

    alive(test)


def test_a_node_deleted_while_the_agent_was_away(tmp_path):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            put(api, B)
            async with following(api, tmp_path) as heard:
                await until(heard.has(A, B), "both are there")
            api.delete("a")
            async with following(api, tmp_path) as heard:
                await until(heard.has(B), "a is gone")
                assert [cluster.synced for cluster in heard.clusters] == [True]

    asyncio.run(main())


def test_the_api_is_down_at_the_start(tmp_path):
    """What was last known is told, as not synced; then the list. The file is 0600 and JSON."""

    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            put(api, B)
            async with following(api, tmp_path) as heard:
                await until(heard.has(A, B), "both are there")
            kept = tmp_path / "state/nodes.json"
            assert stat.S_IMODE(kept.stat().st_mode) == 0o600
            assert [one["name"] for one in json.loads(kept.read_bytes())["nodes"]] == ["a", "b"]
            api.down()
            patient = QUICK._replace(patience_s=1000)
            async with following(api, tmp_path, patient) as heard:
                await until(heard.has(A, B, synced=False), "what was last known is told at once")
                assert "cannot be reached" in heard.losses[0]
                assert heard.notes == [f"going by the 2 nodes last known, from {kept}"]
                api.delete("a")
                await api.up()
                await until(heard.has(B), "the list is told")
                await until(lambda: heard.syncs == [1], "synced is told")

    asyncio.run(main())


def test_the_api_is_slow_at_the_start(tmp_path):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            async with following(api, tmp_path) as heard:
                await until(heard.has(A), "a is there")
            api.slow_s = 0.6
            async with following(api, tmp_path) as heard:
                await until(heard.has(A, synced=False), "what was last known is told meanwhile")
                assert heard.losses == []
                await until(heard.has(A), "the list is told in the end")

    asyncio.run(main())


def test_what_was_told_last_is_kept_at_the_end(tmp_path):
    async def main() -> None:
        seldom = QUICK._replace(save_s=1000)
        async with KubeApi() as api:
            put(api, A)
            async with following(api, tmp_path, seldom) as heard:
                await until(heard.has(A), "a is there")
                kept = tmp_path / "state/nodes.json"
                await until(kept.exists, "it is kept")
                put(api, B)
                await until(heard.has(A, B), "b is there")
                assert b'"b"' not in kept.read_bytes()
            assert b'"b"' in kept.read_bytes()

    asyncio.run(main())


@pytest.mark.parametrize(
    "torn",
    [b"", b'{"format": 1, "nodes": [{"na', b'{"format": 9}', b"[]", b'{"format":1,"nodes":[1]}'],
)
def test_a_torn_account_is_told_and_not_used(tmp_path, torn):
    async def main() -> None:
        (tmp_path / "state").mkdir()
        (tmp_path / "state/nodes.json").write_bytes(torn)
        async with KubeApi() as api:
            put(api, A)
            api.down()
            async with following(api, tmp_path) as heard:
                await until(lambda: heard.notes, "it is told")
                assert "are not used" in heard.notes[0]
                await api.up()
                await until(heard.has(A), "the list is told")
                assert len(heard.clusters) == 1

    asyncio.run(main())


def test_an_unknown_token_is_read_anew(tmp_path):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            api.token = "new"
            async with following(api, tmp_path, token="old") as heard:
                await until(lambda: heard.losses, "401 is told")
                assert "does not know who asks (401)" in heard.losses[0]
                kubeconfig(tmp_path, "new")  # the kubelet has rotated it
                await until(heard.has(A), "the new token counts")

    asyncio.run(main())


def test_a_server_in_a_process_of_its_own(tmp_path):
    """As it stands in a topology: by IPv6, told what to do over a pipe."""

    def start(command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    api = KubeProcess(start, "::1", 0)

    async def main() -> None:
        api.do("put", node_object("a", ["10.244.1.0/24"], ["192.0.2.1"]))
        async with following(api, tmp_path) as heard:
            await until(heard.has(A), "a is there")
            api.do("down")
            await until(lambda: heard.losses, "it is lost")
            api.do("delete", "a")
            api.do("set", "forbidden", ["watch"])
            api.do("up")
            await until(lambda: "403" in heard.losses[-1], "403 is told")
            api.do("set", "forbidden", [])
            await until(heard.has(), "a is gone")
            assert api.do("pod_cidrs") == {}

    try:
        asyncio.run(main())
    finally:
        api.close()


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_what_is_forbidden_names_verb_and_resource(tmp_path, verb):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            api.forbidden = {verb}
            async with following(api, tmp_path) as heard:
                await until(lambda: heard.losses, "403 is told")
                assert f'the verb "{verb}" on the resource "nodes"' in heard.losses[0]
                assert "nodes is forbidden" in heard.losses[0]
                api.forbidden = set()
                await until(lambda: heard.syncs == [1], "once allowed, it goes on")
                assert len(heard.losses) == 1

    asyncio.run(main())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_that_declines_is_asked_again(tmp_path, status):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            api.failing = status
            async with following(api, tmp_path) as heard:
                await until(lambda: heard.losses, "it is told")
                assert f"status {status}" in heard.losses[0]
                api.failing = 0
                await until(heard.has(A), "the list is told")

    asyncio.run(main())


@pytest.mark.parametrize(
    "event",
    [
        {"type": "ERROR", "object": {"code": 500, "message": "etcd is away"}},
        {"type": "ERROR", "object": "nonsense"},
        {"no": "event"},
        {"type": 7, "object": {}},
        [],
    ],
)
def test_events_that_are_none_end_the_watch_only(alive, event):
    async def test(api, heard):
        api.send_line(event)
        put(api, node("c"))
        await until(heard.has(A, B, node("c")), "another watch tells")
        assert _count(api, "list") == 1

    alive(test)


def test_a_node_that_cannot_be_used_is_left_out_and_told_once(alive):
    async def test(api, heard):
        api.put(node_object("bad", ["10.244.9.7/24"], ["192.0.2.9"]))
        await until(lambda: heard.refusals, "it is told")
        assert heard.clusters[-1].nodes == (A, B)
        assert heard.clusters[-1].refused == tuple(heard.refusals)
        assert heard.refusals[0].reason == "podcidr"
        put(api, node("c"))
        await until(heard.has(A, B, node("c")), "the others go on")
        assert len(heard.refusals) == 1
        put(api, node("bad", "10.244.9.0/24"))
        await until(heard.has(A, B, node("bad", "10.244.9.0/24"), node("c")), "mended, it is used")
        assert heard.clusters[-1].refused == ()

    alive(test)


def test_this_node_is_announced_where_that_differs(alive):
    async def test(api, heard):
        me = node("a", address="192.0.2.1", backend="vxlan", vtep_macs=((4, "02:00:00:00:00:0a"),))
        await heard.source.announce(me)
        await until(lambda: api.annotations("a"), "it is announced")
        wanted = {"podwire.io/backend": "vxlan", "podwire.io/vtep-mac-ipv4": "02:00:00:00:00:0a"}
        assert api.annotations("a") == wanted
        shown = me._replace(pod_cidrs=A.pod_cidrs)
        await until(heard.has(shown, B), "and seen by all")
        await heard.source.announce(me)
        gets = _count(api, "get")
        await until(lambda: _count(api, "get") > gets, "it looks again")
        assert [(a.path, a.status) for a in api.asked if a.verb == "patch"] == [
            ("/api/v1/nodes/a/status", 200)
        ]

    alive(test)


def happen(api: KubeApi, chance: random.Random) -> None:
    """A node comes, changes or goes."""
    name = f"n{chance.randrange(6)}"
    if name in api.pod_cidrs and chance.random() < 0.4:
        api.delete(name)
    else:
        put(api, node(name, f"10.1.{chance.randrange(256)}.0/24", "192.0.2.7"))


async def fail(api: KubeApi, chance: random.Random) -> None:
    """The API fails in one of its ways."""
    ways = (
        api.down,
        api.silence,
        api.hang_up,
        api.end_watches,
        api.compact,
        api.release,
        lambda: setattr(api, "duplicate", 2),
        lambda: setattr(api, "drop", 1),
        lambda: setattr(api, "holding", True),
    )
    chance.choice(ways)()
    if not api.listens:
        happen(api, chance)
        await api.up()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_end_is_right(tmp_path, seed):
    """Nodes come, change and go while everything fails that can, in an order of chance."""
    chance = random.Random(seed)

    async def main() -> None:
        restless = QUICK._replace(relist_s=0.3, limits=QUICK.limits._replace(watch_s=1, idle_s=0.2))
        async with KubeApi() as api, following(api, tmp_path, restless) as heard:
            for _ in range(40):
                happen(api, chance)
                await fail(api, chance)
                await asyncio.sleep(chance.random() * 0.02)
            api.release()
            api.drop = 0

            def ranges() -> dict[str, str]:
                return {n.name: str(n.pod_cidrs[0]) for n in heard.clusters[-1].nodes}

            await until(lambda: heard.clusters and ranges() == api.pod_cidrs, "what is there")

    asyncio.run(main())


def test_what_somebody_wrote_over_is_announced_again(tmp_path):
    async def main() -> None:
        async with KubeApi() as api:
            put(api, A)
            async with following(api, tmp_path) as heard:
                me = node("a", backend="host-gw")
                await heard.source.announce(me)
                await until(lambda: api.annotations("a"), "it is announced")
                put(api, A, annotations={"podwire.io/backend": "$(reboot)", "else": "stays"})
                wanted = {"podwire.io/backend": "host-gw", "else": "stays"}
                await until(lambda: api.annotations("a") == wanted, "it is announced again")
                await until(heard.has(A._replace(backend="host-gw")), "and the node is used")

    asyncio.run(main())


def test_announcing_waits_for_what_it_lacks(tmp_path):
    async def main() -> None:
        async with KubeApi() as api:
            api.forbidden = {"patch"}
            async with following(api, tmp_path) as heard:
                await heard.source.announce(node("a", backend="vxlan"))
                await until(lambda: heard.notes, "the node is not there yet")
                assert "status 404" in heard.notes[0]
                put(api, A)
                await until(lambda: len(heard.notes) > 1, "the right is missing")
                assert 'the verb "patch" on the resource "nodes/status"' in heard.notes[1]
                api.forbidden = set()
                wanted = {"podwire.io/backend": "vxlan"}
                await until(lambda: api.annotations("a") == wanted, "it is announced")

    asyncio.run(main())
