"""The agent's life: start, serve, stop.

Start: folder verified, lock taken, socket bound, modules loaded. Stop: no more calls are accepted
(launchers then run theirs directly), what is under way is finished, answers are delivered.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cni_plugin.agent.config import AgentConfig
from cni_plugin.agent.config_watch import ConfigWatch
from cni_plugin.agent.desk import Desk
from cni_plugin.agent.health import Readiness
from cni_plugin.agent.keeper import Keeper
from cni_plugin.agent.notify import notify
from cni_plugin.agent.place import NodeTaken, verify_folder
from cni_plugin.agent.presence import NodeLock, SocketFile, look
from cni_plugin.agent.report import Sink
from cni_plugin.agent.server import Server
from cni_plugin.agent.telemetry import Telemetry
from cni_plugin.cni.errors import CNIError
from cni_plugin.folder import STATE_DIR
from ipam.lean_typing import quicken

if TYPE_CHECKING:
    from cni_plugin.agent.cluster import ClusterRounds
    from cni_plugin.agent.conflist import ConflistKeeper

# Loaded before the first call, not during it.
NEEDED = (
    "cni_plugin.commands.add",
    "cni_plugin.commands.check",
    "cni_plugin.commands.delete",
    "cni_plugin.commands.gc",
    "cni_plugin.commands.status",
    "cni_plugin.attach.bridge",
    "cni_plugin.attach.ptp",
    "cni_plugin.cni.conf",
    "cni_plugin.kernel.iptables",
    "ipam.plugin",
)
PLACE_LOOK_S = 5.0
UNDO_LIMIT_S = 5.0  # at a stop, for what is undone because nobody took its answer
M_MMAP_THRESHOLD, LARGE_BYTES = -3, 1 << 17  # malloc.h; its default until it is changed
M_ARENA_MAX = -8  # malloc.h
GC_EVERY = 20_000  # new objects; a call makes some thousands, almost all without cycles


def run(config: AgentConfig, watch: ConfigWatch | None = None) -> int:
    """Serves until SIGTERM or SIGINT, or until `watch` has another config; the exit status. Raises
    CNIError when it cannot start."""
    verify_folder(os.path.dirname(config.socket))
    with closing(NodeLock(STATE_DIR)) as node, closing(Telemetry(config)) as telemetry:
        for name in NEEDED:
            import_module(name)
        quicken()
        _keep_memory_small()
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection looks at it again
        gc.set_threshold(GC_EVERY)
        _allow_descriptors()
        return asyncio.run(_serve(config, telemetry, node, watch))


def _keep_memory_small() -> None:
    """One heap for all threads: with one each, what a thread has freed serves no other, and the
    interpreter's lock lets only one at a time allocate anyhow.

    Large buffers stay mappings of their own, of which only what is used is resident, and which
    are given back: after the first one that is freed glibc would take them from its heap, each
    zeroed to its end (mallopt(3), M_MMAP_THRESHOLD). Every socket of a worker has one."""
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
        libc.mallopt(M_ARENA_MAX, 1)


def _allow_descriptors() -> None:
    """As many as may be had: a call has two, its connection and its pod's namespace."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(
    config: AgentConfig, telemetry: Telemetry, node: NodeLock, watch: ConfigWatch | None
) -> int:
    loop, sink = asyncio.get_running_loop(), telemetry.sink
    loop.set_exception_handler(lambda _loop, context: sink.event("error", _failure(context), {}))
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, ending, watch)
    # First of all: what it asks for may not be there.
    cluster, conflist = _cluster(config, telemetry)
    desk = Desk(loop, sink)
    telemetry.serve(loop, desk)
    file = SocketFile(config.socket)
    server = Server(loop, file.make(), desk, sink)
    keeper = Keeper(config, sink, telemetry.readiness, lambda: desk.statuses.forget(""))
    rounds = asyncio.gather(
        keeper.run(),
        _keep_place(node, file, server, sink, ending),
        *((cluster.run(),) if cluster else ()),
        *((_begin_anew(watch, telemetry, ending),) if watch else ()),
        *((conflist.run(),) if conflist else ()),  # last: from then on there are pods
    )
    rounds.add_done_callback(lambda ended: tell_end(ended, sink, telemetry.readiness))
    sink.event("info", "podwire's agent serves", {"socket": config.socket, "pid": os.getpid()})
    telemetry.readiness.clear("start")
    notify("READY=1")
    await ending.wait()
    telemetry.readiness.set("stop", "stopping")
    notify("RELOADING=1" if watch and watch.new else "STOPPING=1")
    sink.event("info", "stopping: what is under way is finished", {"calls": desk.open})
    if conflist and not node.lost:  # then it is another agent's
        await conflist.end(watch.new if watch else None)
    file.remove()
    server.stop_listening()
    rounds.cancel()
    finished = await _drained(desk, server, config.stop_limit_s)
    await asyncio.gather(rounds, return_exceptions=True)
    desk.stop()
    keeper.close()
    if cluster:
        cluster.close()
    if conflist:
        conflist.close()
    if not finished:
        sink.event("error", "stopped with calls under way", {"calls": desk.open})
    return 0 if finished and not node.lost else 1


def _cluster(
    config: AgentConfig, telemetry: Telemetry
) -> tuple[ClusterRounds | None, ConflistKeeper | None]:
    """None: the node is by itself, and nothing of it is loaded; nobody wants a config list."""
    conf = config.cluster
    if conf is None:
        return None, None
    from cni_plugin.agent.cluster import ClusterRounds
    from cni_plugin.agent.conflist import ConflistKeeper
    from cni_plugin.agent.sources import make_source
    from cni_plugin.agent.totals import Totals

    sink, readiness, totals = telemetry.sink, telemetry.readiness, Totals()
    source = make_source(conf, sink, readiness, totals)
    telemetry.watch_cluster(totals)
    if conf.conflist is None:
        return ClusterRounds(conf, source, sink, readiness, totals), None
    kept = (*conf.cluster_cidrs, *conf.non_masquerade_cidrs)
    conflist = ConflistKeeper(conf.conflist, kept, sink, readiness, totals)
    return ClusterRounds(conf, source, sink, readiness, totals, conflist.ready), conflist


def _end(ending: asyncio.Event, watch: ConfigWatch | None) -> None:
    """By a signal: for good, also while another config waits for the end."""
    if watch:
        watch.new = None
    ending.set()


async def _begin_anew(watch: ConfigWatch, telemetry: Telemetry, ending: asyncio.Event) -> None:
    """Ends the agent when there is another config: its caller has the next one begin."""
    await watch.run(telemetry.sink, telemetry.readiness)
    ending.set()


async def _keep_place(
    node: NodeLock, file: SocketFile, server: Server, sink: Sink, ending: asyncio.Event
) -> None:
    """Makes lock and socket again when their files are gone: launchers look for nothing else."""
    while True:
        await asyncio.sleep(PLACE_LOOK_S)
        try:
            gone, listener = look(node, file)
        except NodeTaken as error:
            sink.event("error", f"this agent ends, its lock was taken away: {error}", {})
            ending.set()
            return
        except (OSError, CNIError) as error:
            sink.event("error", f"the socket is gone and cannot be made again: {error}", {})
            continue
        if listener:
            server.listen_at(listener)
        for what in gone:
            sink.event("warning", f"{what} was gone: it is made again", {"socket": file.path})


async def _drained(desk: Desk, server: Server, limit_s: float) -> bool:
    """Whether calls and connections have ended. In turn: a connection that ends without its answer
    being taken makes a call that undoes it."""
    deadline_s = asyncio.get_running_loop().time() + limit_s
    while desk.open or server.connections:
        left_s = deadline_s - asyncio.get_running_loop().time()
        if left_s <= 0 or not (await desk.drain(left_s) and await server.drain(left_s)):
            server.hang_up()
            return await desk.drain(UNDO_LIMIT_S) and False
    return True


def tell_end(rounds: asyncio.Future[Any], sink: Sink, readiness: Readiness) -> None:
    """Of rounds that have ended though nobody asked them to: one has failed, the others go on."""
    error = None if rounds.cancelled() else rounds.exception()
    if isinstance(error, Exception):  # gather says CancelledError of a stop
        line = f"one of the agent's rounds has ended: {type(error).__name__}: {error}"
        sink.event("error", line, {})
        readiness.set("rounds", line)


def _failure(context: dict[str, Any]) -> str:
    """What asyncio has to say of a failure in a callback, in one line."""
    error = context.get("exception")
    return f"{context['message']}: {type(error).__name__}: {error}" if error else context["message"]
