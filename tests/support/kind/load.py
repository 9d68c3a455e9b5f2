"""Pods that start and stop without end on a node, by its runtime and by a faster one of our own.

with Load(nodes) as load: ...        # anything may happen meanwhile
assert load.failures == []; load.pods
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

from tests.support.kind.node import KindNode
from tests.support.node import wait_until
from tests.support.runtime import Runtime

CONFLIST = "/etc/cni/net.d/10-podwire.conflist"
SOME = 4
OURS_AT_ONCE = 2  # pods that the runtime of our own keeps a while


class Load:
    """See above. pods: how many came and went, by who started them."""

    def __init__(self, nodes: Sequence[KindNode]) -> None:
        self.failures: list[str] = []
        self.pods = {"containerd": 0, "libcni": 0}
        self._addresses: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(work, node))
            for node in nodes
            for work in (self._by_containerd, self._by_libcni)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Until some more came and went, or something failed."""
        wanted = sum(self.pods.values()) + SOME
        wait_until(lambda: sum(self.pods.values()) >= wanted or self.failures, "more pods", 60)

    def _work(self, work: Callable[[KindNode], None], node: KindNode) -> None:
        while not self._ended.is_set():
            try:
                work(node)
            except Exception as error:  # noqa: BLE001  each is a finding
                self.failures.append(f"{node.name}, {time.strftime('%T')}: {error!r}"[:700])

    def _by_containerd(self, node: KindNode) -> None:
        pod = node.new_pod(f"load-{self.pods['containerd']}")
        pod.run_sandbox()
        try:
            self._take(pod.id, pod.addresses)
        finally:
            self._give(pod.addresses)
            pod.stop()
            pod.remove()
        self.pods["containerd"] += 1

    def _by_libcni(self, node: KindNode) -> None:
        """As libcni does, with a DEL that comes twice as containerd's does."""
        runtime = Runtime(node, json.loads(node.path(CONFLIST).read_text()))
        pods = [node.pod() for _ in range(OURS_AT_ONCE)]
        held: list[str] = []
        try:
            for pod in pods:
                result = runtime.add(pod)
                held = [*held, *(ip["address"].partition("/")[0] for ip in result["ips"])]
                self._take(pod.container_id, held[-len(result["ips"]) :])
        finally:
            self._give(held)
            for pod in pods:
                runtime.delete(pod)
                pod.remove()
                runtime.delete(pod, netns="", forget=True)
        self.pods["libcni"] += len(pods)

    def _take(self, who: str, addresses: Sequence[str]) -> None:
        with self._lock:
            twice = [f"{a} of {self._addresses[a]}" for a in addresses if a in self._addresses]
            self._addresses |= dict.fromkeys(addresses, who)
        assert not twice, f"{who} was given {twice}"

    def _give(self, addresses: Sequence[str]) -> None:
        with self._lock:
            for address in addresses:
                self._addresses.pop(address, None)
