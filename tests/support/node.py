"""A node and its pods, each a real network namespace.

A node is a process that holds a network namespace and a mount namespace of its own, with an
empty /run (and so /run/netns), /var/lib/cni, /etc/cni and /opt/cni: several nodes can live
beside each other and share nothing but the file system below them. Observing goes through
iproute2 and nft, never through podwire.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What containerd gives a plugin of its own environment is not to be relied on: so little.
PLUGIN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMAND_LIMIT_S = 30.0

_HOLD = """
set -eu
for folder in /run /var/lib/cni /var/lib/containerd /etc/cni /opt/cni; do
    mount -t tmpfs -o mode=755 podwire $folder
done
mkdir -p /run/netns /run/lock /run/cgroup
# /sys shows the namespace in which it was mounted; a container runtime needs its cgroups.
if mount --rbind /sys/fs/cgroup /run/cgroup 2>/dev/null; then
    mount -t sysfs sysfs /sys && mount --move /run/cgroup /sys/fs/cgroup
fi
rmdir /run/cgroup
ip link set lo up
echo ready
exec cat
"""


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 10.0) -> None:
    """Return when `condition()` is true; AssertionError naming `what` after limit_s seconds."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"after {limit_s} s still not: {what}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Reply:
    """What a plugin said. stdout is kept as bytes: the protocol's tests compare it so."""

    returncode: int
    stdout: bytes
    stderr: str
    seconds: float

    @property
    def json(self) -> Any:
        """The one JSON document on stdout; None when stdout is empty."""
        return json.loads(self.stdout) if self.stdout else None

    @property
    def code(self) -> int | None:
        """The CNI error code, None on success."""
        return None if self.returncode == 0 else self.json["code"]

    def ok(self) -> Reply:
        """Itself, after asserting success."""
        assert self.returncode == 0, f"failed: {self.stdout.decode(errors='replace')}{self.stderr}"
        return self


class _Namespace:
    """Runs programs in a network namespace and the mounts that belong to it."""

    name: str

    def _enter(self) -> list[str]:
        raise NotImplementedError

    def run(
        self,
        *command: str | Path,
        stdin: str | None = None,
        check: bool = True,
        limit_s: float = COMMAND_LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """The finished program; check: AssertionError with what it said when it failed."""
        done = subprocess.run(
            [*self._enter(), *map(str, command)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        if check and done.returncode:
            line = " ".join(map(str, command))
            raise AssertionError(f"in {self.name}: {line}: {done.stdout}{done.stderr}")
        return done

    def spawn(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """A program left running in the namespace: the caller ends it."""
        return subprocess.Popen([*self._enter(), *map(str, command)], text=True, **options)

    def json(self, *command: str) -> Any:
        """The program's output as JSON; an empty output is an empty list."""
        return json.loads(self.run(*command).stdout or "[]")

    def ip(self, *arguments: str) -> Any:
        """What `ip -j -d ARGUMENTS` prints, for example of "link" or of "-6", "route"."""
        return self.json("ip", "-j", "-d", *arguments)

    def configure(self, line: str) -> None:
        """Run `ip LINE`, for example "link add br0 type bridge"."""
        self.run("ip", *line.split())

    def link(self, name: str) -> dict[str, Any] | None:
        """`ip -j -d link show NAME`, None when there is no such link."""
        found = self.run("ip", "-j", "-d", "link", "show", name, check=False)
        return json.loads(found.stdout)[0] if found.returncode == 0 else None

    def links(self) -> set[str]:
        """The links' names, without lo."""
        return {link["ifname"] for link in self.ip("link")} - {"lo"}

    def addresses(self, name: str, *, link_local: bool = False) -> list[str]:
        """The link's addresses as `192.0.2.1/24`, IPv4 first; fe80:: ones only when asked for."""
        infos = [
            info for link in self.ip("addr", "show", "dev", name) for info in link["addr_info"]
        ]
        return [
            f"{info['local']}/{info['prefixlen']}"
            for info in infos
            if link_local or not ipaddress.ip_address(info["local"]).is_link_local
        ]

    def routes(self, family: int = 4) -> list[str]:
        """The main table as `ip route` prints it, a line a route, without the kernel's own."""
        lines = self.run("ip", f"-{family}", "route").stdout.splitlines()
        return [" ".join(line.split()) for line in lines if "proto kernel" not in line]

    def sysctl(self, key: str) -> str:
        """The value of `net/ipv4/conf/all/forwarding` in this namespace."""
        return self.run("cat", f"/proc/sys/{key}").stdout.strip()

    def ping(self, address: str, *, source: str | None = None, limit_s: float = 2.0) -> bool:
        """Whether one echo is answered within limit_s seconds. Sends up to three."""
        target = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
        origin = ["-I", source] if source else []
        sent = ["-c", "1", "-i", "0.2", "-w", str(max(1, round(limit_s))), "-n", "-q", *origin]
        return self.run("ping", f"-{target.version}", *sent, address, check=False).returncode == 0


@dataclass
class Pod(_Namespace):
    """A pod's namespace, named on its node as a runtime names it."""

    node: Node = field(repr=False)
    name: str
    container_id: str

    @property
    def netns(self) -> str:
        """CNI_NETNS, a path in the node's mounts."""
        return f"/run/netns/{self.name}"

    def _enter(self) -> list[str]:
        return [*self.node.enter_mounts(), f"--net={self.node.path(self.netns)}", "--wd=/", "--"]

    def remove(self) -> None:
        """The namespace goes, as after a reboot: DEL must still work."""
        self.node.run("ip", "netns", "delete", self.name)


@dataclass
class Node(_Namespace):
    """One node. `cni_bin` is the folder of executables that goes into CNI_PATH."""

    name: str
    cni_bin: Path
    pods: list[Pod] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stderr is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise AssertionError(f"no node: {self._holder.stderr.read().decode()}")

    @property
    def pid(self) -> int:
        """The process that holds the node's namespaces: /proc/PID/ns/net is its network."""
        return self._holder.pid

    @property
    def netns(self) -> str:
        """The node's own network namespace, as a path."""
        return f"/proc/{self.pid}/ns/net"

    def enter_mounts(self) -> list[str]:
        """Enter the node's mounts, not yet a network. --root, for a machine that is a chroot."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--root"]

    def _enter(self) -> list[str]:
        return [*self.enter_mounts(), "--net", "--wd=/", "--"]

    def path(self, inside: str | Path) -> Path:
        """Where a path of the node (such as /run/podwire) lies for the test's own process."""
        return Path(f"/proc/{self.pid}/root") / str(inside).lstrip("/")

    def pod(self, container_id: str | None = None) -> Pod:
        """A new pod: a namespace with lo down, as a runtime makes it."""
        name = f"cni-{uuid.uuid4()}"
        self.run("ip", "netns", "add", name)
        pod = Pod(self, name, container_id or uuid.uuid4().hex * 2)
        self.pods.append(pod)
        return pod

    def plugin(
        self,
        executable: str | Path,
        env: Mapping[str, str],
        conf: Mapping[str, Any] | str | bytes,
        *,
        limit_s: float = COMMAND_LIMIT_S,
    ) -> Reply:
        """Run a plugin exactly as a runtime does: CNI_* in env, the config on stdin, cwd `/`.

        executable: a name in cni_bin or a path. env: given as it is, with a plain PATH and
        CNI_PATH=cni_bin when they are missing. conf: an object, or the bytes to send.
        """
        program = self.cni_bin / executable
        full = {"PATH": PLUGIN_PATH, "CNI_PATH": str(self.cni_bin), **env}
        data = conf if isinstance(conf, str | bytes) else json.dumps(conf)
        started = time.monotonic()
        done = subprocess.run(
            [*self._enter(), str(program)],
            input=data.encode() if isinstance(data, str) else data,
            capture_output=True,
            env=full,
            cwd="/",
            timeout=limit_s,
            check=False,
        )
        took = time.monotonic() - started
        return Reply(done.returncode, done.stdout, done.stderr.decode(errors="replace"), took)

    def connect(self, other: Node, ours: Sequence[str], theirs: Sequence[str]) -> None:
        """A cable: a veth named to-OTHER here and to-US there, up, with the addresses given.

        ours, theirs: addresses with prefix, both families: ("192.0.2.1/24", "2001:db8::1/64").
        """
        here, there = f"to-{other.name}"[:15], f"to-{self.name}"[:15]
        self.configure(f"link add {here} type veth peer name {there} netns {other.pid}")
        for end, link, addresses in ((self, here, ours), (other, there, theirs)):
            end.configure(f"link set {link} up")
            for address in addresses:
                nodad = ["nodad"] if ":" in address else []
                end.run("ip", "addr", "add", address, "dev", link, *nodad)

    def close(self) -> None:
        """End the node; its namespaces go with the processes in them."""
        with contextlib.suppress(ProcessLookupError):
            self._holder.kill()
        self._holder.communicate()


@contextlib.contextmanager
def open_node(name: str, cni_bin: Path) -> Iterator[Node]:
    """A node for the length of a with block."""
    node = Node(name, cni_bin)
    try:
        yield node
    finally:
        node.close()
