"""Gives calls to workers: calls of one attachment one after another, others side by side.

Most ADDs are done at once, in the loop's own thread (`swift`): handing one to another thread costs
a tenth of it. For the rest there are four lanes, because of what they wait for. `quick` is one
thread that never waits for another process: an ADD that has more to do, and whatever else is short.
`sweep` is one that takes all DELs that wait, and does them as one. Those that are not as ever go to
the many threads of `removals`, which meet in the kernel's grace periods. `patient` calls may take
long: they wait for an attachment that a direct run works on, for duplicate address detection, or
take many away (GC).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread

from cni_plugin.agent.calls import Call, report, serve
from cni_plugin.agent.ports import Busy, Shared, Worker
from cni_plugin.agent.report import CallReport, Sink
from cni_plugin.agent.stages import Stages
from cni_plugin.agent.statuses import Statuses
from cni_plugin.agent.sweep import Sweep
from cni_plugin.agent.swift import Swift
from cni_plugin.cni.errors import TryAgainLater
from cni_plugin.cni.skel import error_reply
from cni_plugin.cni.values import Reply
from cni_plugin.kernel.host import Host

CALLS_MAX = 1024  # that wait or run; kubelet starts some 20 pods at a time
REMOVING_THREADS, PATIENT_THREADS = 64, 4
WAITS_LONG = b'"enabledad"'  # a config with this key, in any case, may wait for seconds

SWEPT_MAX = 64  # at a time: what one of them waits for the others
_Item = Call | Callable[[], object] | None  # to be served, to be called, and the end

Ended = Callable[[Call, "Reply | None", "CallReport | None"], None]


class Lane:
    """Threads that serve what is put into one queue. workers: one a thread."""

    def __init__(self, name: str, workers: list[Worker], ended: Ended) -> None:
        self.name = name
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._ended = ended
        # By thread, so that nobody needs a lock to count.
        self._busy = [0] * len(workers)
        self._served = [0] * len(workers)
        self._threads = [
            Thread(target=self._work, args=(number, worker), name=f"{name}-{number}", daemon=True)
            for number, worker in enumerate(workers)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, call: Call) -> None:
        """Queues a call."""
        self._queue.put(call)

    def stop(self) -> None:
        """Ends the threads when what is queued has been served."""
        for _ in self._threads:
            self._queue.put(None)

    def ask(self, done: Callable[[], object]) -> None:
        """Has one of the threads call `done`, in its turn: a sign of life. From any thread."""
        self._queue.put(done)

    @property
    def served(self) -> int:
        """Calls that have left the lane."""
        return sum(self._served)

    @property
    def running(self) -> int:
        """Calls being served now."""
        return sum(self._busy)

    @property
    def queued(self) -> int:
        """Calls that wait for a thread."""
        return self._queue.qsize()

    def _work(self, number: int, worker: Worker) -> None:
        ended = False
        while not ended:
            calls: list[Call] = []
            for item in self._next():
                if isinstance(item, Call):
                    calls.append(item)
                elif item is None:
                    ended = True
                else:
                    item()
            self._busy[number] = len(calls)
            self._serve_all(calls, worker)
            self._busy[number] = 0
            self._served[number] += len(calls)
        worker.host.close()

    def _next(self) -> list[_Item]:
        """At least one."""
        return [self._queue.get()]

    def _serve_all(self, calls: list[Call], worker: Worker) -> None:
        for call in calls:
            self._serve(call, worker)

    def _serve(self, call: Call, worker: Worker) -> None:
        if call.abandoned:  # before anything was done: then nothing will be
            call.outcome = "dropped"
            self._ended(call, None, report(call, None, 0.0, 0.0, Stages()))
            return
        try:
            reply, said = serve(call, worker)
        except Busy:
            self._ended(call, None, None)
            return
        except Exception as error:  # noqa: BLE001  a worker that dies takes the node's calls along
            reply = error_reply(error)
            said = report(call, reply, 0.0, 0.0, Stages())
        self._ended(call, reply, said)


class Sweeping(Lane):
    """One thread for all DELs. rest: where those go that are not for it."""

    def __init__(self, worker: Worker, sweep: Sweep, rest: Lane, ended: Ended, sink: Sink) -> None:
        self._sweep = sweep
        self._rest = rest
        self._sink = sink
        super().__init__("sweep", [worker], ended)

    def _next(self) -> list[_Item]:
        items = super()._next()
        with suppress(Empty):
            while len(items) < SWEPT_MAX:
                items.append(self._queue.get_nowait())
        return items

    def _serve_all(self, calls: list[Call], worker: Worker) -> None:
        wanted = [call for call in calls if not call.abandoned]
        try:
            done = self._sweep.delete(wanted) if wanted else []
        except Exception as error:  # noqa: BLE001  the general way knows what is to be said
            worker.host.close()
            what = f"DELs go the general way: {type(error).__name__}: {error}"
            self._sink.event("error", what, {})
            done = [None] * len(wanted)
        by_call = dict(zip(map(id, wanted), done, strict=True))
        for call in calls:
            told = by_call.get(id(call))
            if told is None:
                self._rest.put(call)
            else:
                self._ended(call, *told)


class Desk:
    """All calls of the agent. Its methods are for the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: Sink) -> None:
        self._loop = loop
        self._sink = sink
        self._behind: dict[tuple[str, str], deque[Call]] = {}  # a key is there while one runs
        self.open = 0  # calls that wait or run
        self._idle = asyncio.Event()
        self._idle.set()
        self.statuses = Statuses()
        shared = Shared()

        def workers(count: int, *, patient: bool, together: bool) -> list[Worker]:
            return [
                Worker(
                    shared,
                    patient=patient,
                    together=together,
                    host=Host(shared.commits, netns=shared.netns),
                )
                for _ in range(count)
            ]

        self._swift = Swift(shared, workers(1, patient=False, together=False)[0], self._hear)
        self._quick = Lane("quick", workers(1, patient=False, together=False), self._from_thread)
        self._removals = Lane(
            "removals", workers(REMOVING_THREADS, patient=False, together=True), self._from_thread
        )
        worker = workers(1, patient=False, together=True)[0]
        sweep = Sweep(shared, worker)
        self._sweep = Sweeping(worker, sweep, self._removals, self._from_thread, sink)
        self._patient = Lane(
            "patient", workers(PATIENT_THREADS, patient=True, together=True), self._from_thread
        )

    def _hear(self, descriptor: int, heard: Callable[[], None] | None) -> None:
        if heard is None:
            self._loop.remove_reader(descriptor)
        else:
            self._loop.add_reader(descriptor, heard)

    def undo(self, call: Call, sink: Sink) -> None:
        """Takes away what a call has made whose answer nobody took. However many wait: it is not
        to be lost."""
        self.submit(call.undoing(sink), bounded=False)

    def submit(self, call: Call, *, bounded: bool = True) -> None:
        """Takes a call; its `ended` is called when there is an answer."""
        if bounded and self.open >= CALLS_MAX:
            busy = TryAgainLater(f"{self.open} calls are waiting for podwire's agent already")
            self._answer_at_once(call, error_reply(busy))
            return
        remembered = self.statuses.get(call)
        if remembered is not None:
            call.outcome = "remembered"
            self._answer_at_once(call, remembered)
            return
        self.open += 1
        self._idle.clear()
        key = call.key
        if key is not None and key in self._behind:
            self._behind[key].append(call)
            return
        if key is not None:
            self._behind[key] = deque()
        self._begin(call)

    def _begin(self, call: Call) -> None:
        done = None
        if call.verb == "ADD" and not call.abandoned:
            try:
                done = self._swift.add(call)
            except Exception as error:  # noqa: BLE001  the general way knows what is to be said
                what = f"an ADD goes the general way: {type(error).__name__}: {error}"
                self._sink.event("error", what, {})
        if done is None:
            self._lane(call).put(call)
        else:
            self._ended(call, *done)

    def _lane(self, call: Call) -> Lane:
        if call.verb == "GC" or WAITS_LONG in call.stdin.lower():
            return self._patient
        return self._sweep if call.verb == "DEL" else self._quick

    def _from_thread(self, call: Call, reply: Reply | None, said: CallReport | None) -> None:
        self._loop.call_soon_threadsafe(self._ended, call, reply, said)

    def _ended(self, call: Call, reply: Reply | None, said: CallReport | None) -> None:
        if said is None:  # somebody else works on it: where one may wait
            self._patient.put(call)
            return
        self.statuses.learn(call, reply)
        self.open -= 1
        if not self.open:
            self._idle.set()
        key = call.key
        if key is not None:
            if self._behind[key]:
                self._begin(self._behind[key].popleft())
            else:
                del self._behind[key]
        self._answer(call, reply)
        self._sink.call(said)  # the caller does not wait for it

    def _answer_at_once(self, call: Call, reply: Reply) -> None:
        self._answer(call, reply)
        self._sink.call(report(call, reply, 0.0, 0.0, Stages()))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """For who watches them."""
        return self._quick, self._sweep, self._removals, self._patient

    @staticmethod
    def _answer(call: Call, reply: Reply | None) -> None:
        call.close()
        call.ended(reply)

    async def drain(self, limit_s: float) -> bool:
        """Waits until nothing is waiting or running; False when that takes too long."""
        try:
            await asyncio.wait_for(self._idle.wait(), limit_s)
        except TimeoutError:
            return False
        return True

    def stop(self) -> None:
        """Ends the workers."""
        self._swift.close()
        for lane in self.lanes:
            lane.stop()
