"""One side of a comparison: a node, its pods, and the driver that starts the plugin there."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import FIRST_PORT, GATEWAY, POD_PORT

from tests.netns.kit import listening, seen_as
from tests.support.node import PLUGIN_PATH, Node, Pod

LEASE_FOLDER = "/var/lib/cni"
Json = dict[str, Any]


class WrongAnswer(Exception):
    """A plugin failed, or left something: its times mean nothing."""


@dataclass(frozen=True)
class Batch:
    """Times of one batch: milliseconds a process, and processes a second over all."""

    each_ms: tuple[float, ...]
    per_s: float


class Side:
    """Runs ADD and DEL of one plugin on a node of its own and verifies each answer."""

    def __init__(
        self,
        node: Node,
        driver: Path,
        work: Path,
        executables: Sequence[Path],
        plugins: Sequence[Json],
        *,
        asked: Callable[[Json, int], Json] = lambda _plugin, _number: {},
        wires: bool = True,
    ) -> None:
        """executables, plugins: of each plugin of the chain. asked: runtimeConfig of a plugin for
        the pod of a number. wires: ADD makes an interface, as all but an IPAM executable do."""
        self.node = node
        names = "+".join(executable.name for executable in executables)
        self.label = f"{names} ({plugins[0]['name']})"
        self._executables = [*executables]
        self._plugins = [*plugins]
        self._asked = asked
        self._numbers: dict[str, int] = {}  # of pods, as they come
        self._work = work
        self._wires = wires
        self._held: set[str] = set()
        self._kept: set[str] | None = None
        folder = executables[0].parent
        environment = {"PATH": PLUGIN_PATH, "CNI_PATH": f"{folder}:{node.cni_bin}"}
        self._driver = node.spawn(driver, stdin=-1, stdout=-1, env={**os.environ, **environment})

    def hold(self, number: int) -> None:
        """So many reservations of pods that are somewhere else, as host-local writes them."""
        config = self._plugins[0]
        folder = self.node.path(LEASE_FOLDER) / "networks" / config["name"]
        folder.mkdir(parents=True)
        first = ipaddress.ip_network(config["ipam"]["ranges"][0][0]["subnet"])[2]
        names = [str(first + position) for position in range(number)]
        for position, name in enumerate(names):
            (folder / name).write_bytes(f"held{position}\r\neth0".encode())
        if names:
            (folder / "last_reserved_ip.0").write_text(names[-1])
        self._held = set(names)

    def close(self) -> None:
        """End the driver."""
        self._driver.communicate()

    def add(self, pods: Sequence[Pod], parallel: int, families: int) -> Batch:
        """ADD for each pod; WrongAnswer unless each result has an address a family and the
        interface is in the pod."""
        batch = self._run("ADD", pods, parallel, [self._configs(pod, None) for pod in pods])
        result: dict[str, Any] = {}
        for pod in pods:
            result = json.loads(self._output(pod).read_text())
            if len(result.get("ips", [])) != families:
                raise WrongAnswer(f"{self.label} ADD: {families} addresses wanted: {result}")
            self._configs(pod, result)
        # One look at one pod: entering all of them would cost more than the measurement.
        wanted = sorted(address["address"] for address in result["ips"])
        found = sorted(pods[-1].addresses("eth0")) if self._wires else wanted
        if found != wanted:
            raise WrongAnswer(f"{self.label} ADD: result {wanted}, in the pod {found}")
        return batch

    def delete(self, pods: Sequence[Pod], parallel: int) -> Batch:
        """DEL with prevResult for each pod; WrongAnswer when a link or a lease is left."""
        configs = [
            [self._work / f"{pod.name}.{n}.del" for n in range(len(self._plugins))] for pod in pods
        ]
        batch = self._run("DEL", pods, parallel, configs)
        leases = [
            path.name
            for path in self.node.path(LEASE_FOLDER).rglob("*")
            if path.is_file() and path.name[0].isdigit() and path.name not in self._held
        ]
        links = self.node.links()
        # What the first DEL leaves is the network's own (the bridge); after it nothing may come.
        self._kept = links if self._kept is None else self._kept
        veths = {name for name in links if "veth" in name} | (links - self._kept)
        if leases or veths or pods[-1].links():
            raise WrongAnswer(f"{self.label} DEL left {[*leases, *veths, *pods[-1].links()]}")
        return batch

    def number(self, pod: Pod) -> int:
        """By which a pod's requests are told from those of others."""
        return self._numbers.setdefault(pod.name, len(self._numbers))

    def _configs(self, pod: Pod, result: Json | None) -> list[Path]:
        """The files of the chain's configs: for DEL with the result; for ADD those after the first
        are left open for what the one before them will print."""
        number, verb, paths = self.number(pod), "del" if result else "add", []
        for position, plugin in enumerate(self._plugins):
            asked = self._asked(plugin, number)
            whole = {**plugin, **({"runtimeConfig": asked} if asked else {})}
            text = json.dumps({**whole, "prevResult": result} if result else whole)
            if not result and position:
                text = f'{text[:-1]}, "prevResult": '
            path = self._work / f"{pod.name}.{position}.{verb}"
            path.write_text(text)
            paths.append(path)
        return paths

    def _output(self, pod: Pod) -> Path:
        return self._work / f"{pod.name}.out"

    def _run(
        self, verb: str, pods: Sequence[Pod], parallel: int, configs: Sequence[Sequence[Path]]
    ) -> Batch:
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        lines = [f"{parallel} {len(pods)}"]
        order = 1 if verb == "ADD" else -1
        executables = ":".join(map(str, self._executables[::order]))
        for pod, chain in zip(pods, configs, strict=True):
            job = (
                executables, verb, pod.container_id, pod.netns, "eth0",
                ":".join(map(str, chain[::order])), self._output(pod),
            )  # fmt: skip
            lines.append("\t".join(map(str, job)))
        self._driver.stdin.write("\n".join(lines) + "\n")
        self._driver.stdin.flush()
        answers = [self._driver.stdout.readline().split() for _ in pods]
        for pod, answer in zip(pods, answers, strict=True):
            if not answer or answer[0] != "0":
                said = self._output(pod).read_text()
                raise WrongAnswer(f"{self.label} {verb} exit {answer[:1]}: {said}")
        times = [(int(start), int(end)) for _, start, end in answers]
        wall_s = (max(end for _, end in times) - min(start for start, _ in times)) / 1e9
        return Batch(tuple((end - start) / 1e6 for start, end in times), len(pods) / wall_s)


def prove(side: Side, pod: Pod, families: int) -> None:
    """The port of a pod's number leads from the node to the pod; WrongAnswer unless it does."""
    side.add([pod], 1, families)
    with listening(pod, POD_PORT):
        if not seen_as(side.node, GATEWAY, FIRST_PORT + side.number(pod)):
            raise WrongAnswer(f"{side.label} ADD: the host port leads nowhere")
    side.delete([pod], 1)
