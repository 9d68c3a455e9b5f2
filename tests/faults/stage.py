"""A node with a plugin, a bystander pod under a steady ping, and the calls of a runtime.

Every call through a stage is verified (invariants 10 and 11), whatever the scenario looks at.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tests.faults.counts import Counts
from tests.faults.observer import State, address_files, look, misplaced
from tests.faults.subject import FOLDER, NETWORK, SUBNETS, Json, Plugin, subnets
from tests.support.node import PLUGIN_PATH, Node, Pod, open_node, wait_until

CALL_LIMIT_S = 60.0  # twice the bounded wait for the lock
ORPHAN_LIMIT_S = 1.0  # invariant 11
PINGS_PER_S = 5
PING_LIMIT_S = 5.0  # a busy machine, not a lost packet
SPOILT_LIMIT_S = 1.0  # on a node where one was silent: all later ones may be, for hours
CACHE = "/var/lib/cni/results"  # libcni's, which containerd and CRI-O keep there


@dataclass(frozen=True)
class Answer:
    """How a call ended. status < 0: killed by that signal; None: it did not end in time."""

    verb: str
    status: int | None
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def document(self) -> Any:
        """The JSON on stdout; None when there is none or it is broken."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            return None

    @property
    def code(self) -> int | None:
        """The CNI error code of a refusal."""
        found = self.document if self.status else None
        return found.get("code") if isinstance(found, dict) else None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of an ADD's result, without prefix."""
        ips = (self.document or {}).get("ips", []) if self.ok else []
        return tuple(ip["address"].partition("/")[0] for ip in ips)

    def __str__(self) -> str:
        said = (self.stdout or self.stderr).decode(errors="replace")
        return f"{self.verb} {self.status} {' '.join(said.split())[:300]}"


class Call:
    """A plugin process under way, the leader of its own process group.

    Its output goes to files: a child that outlives it cannot keep anyone waiting at a pipe.
    """

    def __init__(self, node: Node, verb: str, command: Sequence[str], env: Mapping[str, str],
                 conf: Json) -> None:  # fmt: skip
        self.verb = verb
        self._files: list[IO[bytes]] = [
            tempfile.TemporaryFile()  # noqa: SIM115  # closed by answer()
            for _ in range(3)
        ]
        stdin, stdout, stderr = self._files
        stdin.write(json.dumps(conf).encode())
        stdin.seek(0)
        self._started = time.monotonic()
        self.process = node.spawn(
            *command, stdin=stdin, stdout=stdout, stderr=stderr, env=dict(env), cwd="/",
            start_new_session=True,
        )  # fmt: skip

    def lasts(self, limit_s: float) -> bool:
        """Whether it is still running after limit_s seconds."""
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def kill(self, *, group: bool) -> None:
        """SIGKILL, to the process or to all of its group."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)

    def answer(self, limit_s: float = CALL_LIMIT_S) -> Answer:
        """Wait for the end. A call that takes longer than limit_s is killed and has no status."""
        hung = self.lasts(limit_s)
        if hung:
            self.kill(group=True)
            self.process.wait()
        took = time.monotonic() - self._started
        output = []
        for file in self._files[1:]:
            file.seek(0)
            output.append(file.read())
        for file in self._files:
            file.close()
        status = None if hung else self.process.returncode
        return Answer(self.verb, status, output[0], output[1], took)

    def has_orphans(self) -> bool:
        """Whether a process of the group is still there one second after the call."""
        try:
            wait_until(self._group_is_gone, "the process group is gone", ORPHAN_LIMIT_S)
        except AssertionError:
            return True
        return False

    def _group_is_gone(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


class Stage:
    """See the module. ranges: host-local's key; conf: the runtime's stdin without prevResult."""

    def __init__(
        self, plugin: Plugin, node: Node, mode: str, ranges: list[list[Json]], counts: Counts
    ) -> None:
        self.plugin = plugin
        self.node = node
        self.mode = mode
        self.counts = counts
        self.conf = plugin.config(mode, ranges)
        self.results: dict[str, Json] = {}  # by container id, as a runtime caches them
        self.bystander: Pod | None = None
        self._ping_limit_s = PING_LIMIT_S
        self._bystander_is = ""
        self._pinging: subprocess.Popen[str] | None = None

    # --- calls

    def start(
        self, verb: str, pod: Pod, *, wrap: Sequence[str] = (), path: str = "",
        env: Mapping[str, str] | None = None, netns: str | None = None, ipam: bool = False,
        **keys: Any,
    ) -> Call:  # fmt: skip
        """A call as a runtime makes it. wrap: a command in front, such as strace; path: put in
        front of CNI_PATH; ipam: the IPAM executable alone."""
        program = self.plugin.ipam if ipam else self.plugin.executable(self.mode)
        environment = {
            "PATH": PLUGIN_PATH,
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": pod.container_id,
            "CNI_NETNS": pod.netns if netns is None else netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{path}:{self.plugin.bin_dir}" if path else str(self.plugin.bin_dir),
            **(env or {}),
        }
        conf = {**self.conf, **keys}
        if verb in {"DEL", "CHECK"} and pod.container_id in self.results:
            conf["prevResult"] = self.results[pod.container_id]
        command = [*wrap, str(self.plugin.bin_dir / program)]
        return Call(self.node, verb, command, environment, conf)

    def finish(self, call: Call, pod: Pod, limit_s: float = CALL_LIMIT_S) -> Answer:
        """The answer, verified, and its result cached."""
        answer = call.answer(limit_s)
        if answer.ok and call.verb == "ADD":
            self.results[pod.container_id] = answer.document
        if answer.ok and call.verb == "DEL":
            self.results.pop(pod.container_id, None)
        for wrong in _protocol_faults(answer):
            self.counts.lose("wrong", f"{wrong}: {answer}")
        if call.has_orphans():
            self.counts.lose("wrong", f"a process outlives {answer.verb}")
        return answer

    def call(self, verb: str, pod: Pod, limit_s: float = CALL_LIMIT_S, **more: Any) -> Answer:
        """Start and finish."""
        return self.finish(self.start(verb, pod, **more), pod, limit_s)

    def must(self, verb: str, pod: Pod, why: str, **more: Any) -> Answer:
        """A call that has to succeed; counted when it does not."""
        answer = self.call(verb, pod, **more)
        if not answer.ok:
            kind = {"DEL": "failed_del", "ADD": "failed_add"}.get(verb, "wrong")
            self.counts.lose(kind, f"{why}: {answer}")
        return answer

    # --- looking

    def state(self) -> State:
        """See `observer.look`."""
        return look(self.node)

    def files(self) -> dict[str, bytes]:
        """The reservations, as files."""
        return address_files(self.node, FOLDER)

    def is_locked(self) -> bool:
        """Whether somebody holds the store's lock."""
        lock = self.node.path(f"{FOLDER}/lock")
        if not lock.exists():
            return False
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def clear_results(self) -> None:
        """The runtime's cache is empty, as after a reboot."""
        self.results.clear()

    # --- what must hold

    def nothing_left(self, pod: Pod, before: State, when: str) -> bool:
        """Counts a leak when the node has more than before or the pod still has an interface,
        and harm when something of others is gone."""
        after = self.state()
        left, gone = sorted(after - before), sorted(before - after)
        left += [f"in the pod: {name}" for name in sorted(pod.links())]
        if left:
            self.counts.lose("leaks", f"{when}: {'; '.join(left)}")
        if gone:
            self.counts.lose("bystander", f"{when}: gone {'; '.join(gone)}")
        return not (left or gone)

    def recover(self, pod: Pod, before: State, *, thorough: bool = False) -> Pod:
        """After a fault: one DEL, nothing left, ADD works and carries traffic, DEL again.

        thorough: also a second DEL and a CHECK. Returns a pod to go on with: the same, unless
        it is spoilt. The store is checked last: a killed writer's temporary file is harmless
        (invariant 5) and is swept by the next ADD."""
        if self.is_locked():
            self.counts.lose("wrong", "the lock is held after the call")
        if not self.must("DEL", pod, "DEL after the fault").ok:
            self.call("DEL", pod)  # the runtime tries again; what is left now stays for ever
        clean = self.nothing_left(pod, before, "after the fault and DEL")
        if thorough:
            self.must("DEL", pod, "second DEL")
        if not clean:
            pod, before = self.node.pod(), self.state()
        if self.must("ADD", pod, "ADD after the fault").ok:
            self.traffic(pod)
            if thorough:
                self.must("CHECK", pod, "CHECK of an acknowledged ADD")
        self.must("DEL", pod, "DEL after the second ADD")
        clean = self.nothing_left(pod, before, "after the second ADD and DEL")
        self.check_store()
        return pod if clean else self.node.pod()

    def check_store(self, *expected: str) -> None:
        """`podwire ipam check` as a person on the node types it. expected: the codes that it has
        to find, because the fault left what only a person may take away; none: exit status 0."""
        if not self.plugin.is_podwire:
            return
        self._write_cache()
        command = (self.plugin.bin_dir / "podwire", "ipam", "check", "-o", "json")
        done = self.node.run(*command, check=False)
        found = _finding_codes(done.stdout)
        if done.returncode != bool(expected) or found != set(expected):
            said = " ".join((done.stdout + done.stderr).split())
            self.counts.lose("check", f"status {done.returncode}: {said}")

    def repair_store(self) -> None:
        """`podwire ipam repair --yes`, which has to leave nothing to repair; then the check."""
        if not self.plugin.is_podwire:
            return
        self._write_cache()
        command = (self.plugin.bin_dir / "podwire", "ipam", "repair", "--yes")
        done = self.node.run(*command, check=False)
        if done.returncode:
            said = " ".join((done.stdout + done.stderr).split())
            self.counts.lose("check", f"repair: status {done.returncode}: {said}")
        self.check_store()

    def _write_cache(self) -> None:
        """What the runtime has on its disk of the pods it knows. Without it `check` would name
        the missing cache, rightly: it is half of the evidence about who lives."""
        folder = self.node.path(CACHE)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        for pod in self.node.pods:
            if pod.container_id in self.results:
                entry = _cache_entry(pod, self.results[pod.container_id])
                name = f"{NETWORK}-{pod.container_id}-eth0"
                (folder / name).write_text(json.dumps(entry))

    def traffic(self, pod: Pod) -> None:
        """Invariants 1, 2 and 12 for an acknowledged ADD."""
        wanted = set(_addresses_of(self.results[pod.container_id]))
        files = self.files()
        owned = {name for name, data in files.items() if _owner_of(data) == pod.container_id}
        if owned != wanted:
            self.counts.lose("leaks", f"{sorted(owned)} reserved for {sorted(wanted)}")
        links = pod.links()
        found = {text.partition("/")[0] for text in pod.addresses("eth0")} if links else set()
        if found != wanted:
            self.counts.lose("wrong", f"in the pod {sorted(found)}, result {sorted(wanted)}")
        for address in sorted(wanted):
            if not self.node.ping(address, limit_s=self._ping_limit_s):
                self._ping_limit_s = SPOILT_LIMIT_S
                self.counts.lose("wrong", f"{address} of an acknowledged ADD does not answer")

    def count_duplicates(self, pods: Sequence[Pod]) -> None:
        """Invariant 1, by the addresses that the pods' interfaces really have."""
        seen: dict[str, str] = {}
        for pod in pods:
            for text in pod.addresses("eth0") if pod.links() else ():
                other = seen.setdefault(text, pod.name)
                if other != pod.name:
                    self.counts.lose("duplicates", f"{text} on two interfaces")

    # --- the bystander

    def attach_bystander(self) -> None:
        """A pod that has no part in the faults; pinged all the time."""
        pod = self.node.pod("bystander")
        answer = self.call("ADD", pod)
        if not answer.ok:
            raise AssertionError(f"no bystander: {answer}")
        self.bystander = pod
        self._bystander_is = _portrait(pod)
        gateway = next(route for route in pod.routes() if route.startswith("default")).split()[2]
        if not pod.ping(gateway):
            raise AssertionError("the bystander does not reach its gateway")
        self._pinging = pod.spawn(
            "ping", "-n", "-q", "-i", str(1 / PINGS_PER_S), gateway, stdout=subprocess.PIPE
        )

    def look_after_bystander(self) -> None:
        """Invariant 9: address, MAC, routes, reservation and every single echo."""
        if self.bystander is None or self._pinging is None:
            return
        self._pinging.send_signal(signal.SIGINT)
        said, _ = self._pinging.communicate()
        told = re.findall(r"(\d+) (?:packets transmitted|received)", said)
        sent, received = map(int, told or (0, 0))  # ended before it had begun
        if sent - received > 1:  # one may be under way
            self.counts.lose("bystander", f"{sent - received} of {sent} echoes lost")
        now = _portrait(self.bystander)
        if now != self._bystander_is:
            self.counts.lose("bystander", f"was {self._bystander_is}, is {now}")

    def audit(self) -> None:
        """Invariant 13. Modes are podwire's promise; the reference makes none."""
        wrong = misplaced(self.node, modes=self.plugin.is_podwire)
        if wrong:
            self.counts.lose("wrong", f"misplaced files: {'; '.join(wrong[:5])}")


@dataclass(frozen=True)
class Lab:
    """What a scenario gets: the plugin, a mode, and a source of chance."""

    plugin: Plugin
    mode: str
    chance: Callable[[], float]  # 0 <= x < 1

    @contextlib.contextmanager
    def stage(
        self,
        counts: Counts,
        ranges: list[list[Json]] | None = None,
        *,
        bystander: bool = True,
        setup: Callable[[Node], None] | None = None,
    ) -> Iterator[Stage]:
        """A stage on a fresh node. setup: run before the first call, for mounts."""
        with open_node(self.plugin.name, self.plugin.bin_dir) as node:
            if setup:
                setup(node)
            stage = Stage(self.plugin, node, self.mode, ranges or subnets(*SUBNETS), counts)
            if bystander:
                stage.attach_bystander()
            yield stage
            stage.look_after_bystander()
            stage.audit()


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder outside of any node."""
    return tempfile.TemporaryDirectory(prefix="podwire-faults-")


def _protocol_faults(answer: Answer) -> Iterator[str]:
    """Invariant 10: stdout is one JSON document or empty, and the exit code agrees."""
    if answer.status is None:
        yield "hung"
    elif answer.ok and answer.verb == "ADD":
        if not isinstance(answer.document, dict) or not answer.document.get("ips"):
            yield "success without a result"
    elif answer.ok:
        if answer.stdout.strip():
            yield "success with output"
    elif answer.status > 0 and not isinstance(answer.code, int):
        yield "failure without an error document"


def _finding_codes(said: str) -> set[str] | None:
    """The codes in the JSON of `podwire ipam check`; None: it is none."""
    try:
        return {finding["code"] for finding in json.loads(said)}
    except ValueError:
        return None


def _cache_entry(pod: Pod, result: Json) -> Json:
    """As libcni writes it (api.go, CNICacheV1)."""
    return {
        "kind": "cniCacheV1",
        "networkName": NETWORK,
        "containerId": pod.container_id,
        "ifName": "eth0",
        "netns": pod.netns,
        "result": result,
    }


def _owner_of(data: bytes) -> str:
    return data.decode(errors="replace").split("\r\n")[0].strip()


def _addresses_of(result: Json) -> Iterator[str]:
    for ip in result["ips"]:
        yield ip["address"].partition("/")[0]


def _portrait(pod: Pod) -> str:
    """Address, MAC and routes as text; the kernel's timers left out."""
    link = pod.link("eth0") or {}
    parts = [str(link.get("address")), *pod.addresses("eth0"), *pod.routes(4), *pod.routes(6)]
    return " | ".join(parts)
