"""A node in memory around a real store and real records: its pods live and die as told."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cni_plugin.cni.values import Attachment, Dns
from cni_plugin.disk import DiskRecords
from cni_plugin.kernel.execute import Outcome
from cni_plugin.model.names import host_link
from cni_plugin.model.objects import Key, Obj, Veth, key
from cni_plugin.model.plan import Step
from cni_plugin.ports import Ports
from cni_plugin.reconcile.evidence import (
    NETNS_GONE,
    Cached,
    Evidence,
    KernelFacts,
    RuntimeFacts,
    Subject,
)
from cni_plugin.reconcile.observe import Observer
from cni_plugin.reconcile.reconciler import Reconciler
from cni_plugin.reconcile.strikes import StrikeFile
from cni_plugin.record import DONE, Record
from ipam.disk import DiskLeases
from ipam.ranges import canonical
from ipam.values import IpamConf, Owner

NETWORK = "net"


class World:
    """now_s: the boot clock. evidence_lost: the runtime's cache cannot be read. between: called
    whenever the reconciler looks, so that a test can let something happen."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1000.0
        self.links: set[str] = set()
        self.netns: dict[str, int] = {}
        self.cache: dict[tuple[str, str, str], Cached] = {}
        self.evidence_lost = False
        self.between: Callable[[], None] = lambda: None
        self.conf = IpamConf(
            "podwire-ipam",
            ((canonical(ip_network("10.244.0.0/22")),),),
            data_dir=str(folder / "networks"),
        )
        self.state_dir = str(folder / "podwire")
        self.store = self.new_store()
        self.records = DiskRecords(self.state_dir)

    def new_store(self) -> DiskLeases:
        return DiskLeases(lambda _network, _address: False, clock_s=lambda: self.now_s)

    def reconciler(self) -> Reconciler:
        self.own = self.new_store()
        ports = Ports(
            leases=self.store,
            delegate=lambda *_: None,
            records=self.records,
            netns=lambda _path: nullcontext(None),  # type: ignore[arg-type]
            kernel=lambda _netns: nullcontext(FakeKernel(self)),
            resolv_conf=lambda _path: Dns(),
            warn=lambda _line: None,
        )
        strikes = StrikeFile(self.state_dir)
        return Reconciler(ports, self.own, WorldObserver(self), strikes, lambda: self.now_s)

    # the steps of one pod's life

    def reserve(self, name: str) -> str:
        leases = self.store.reserve(self.conf, NETWORK, Owner(name, "eth0"), ())
        return str(leases[0].address.ip)

    def save_record(self, name: str, netns: str, address: str) -> None:
        attachment = Attachment(name, "eth0")
        link = Veth(host_link(NETWORK, *attachment))
        self.records.save(
            Record(
                NETWORK, attachment, DONE, "bridge", netns, self.netns.get(netns, 0), "",
                "podwire-ipam", self.conf.data_dir, (address,), (link,),
            )
        )  # fmt: skip

    def make_link(self, name: str) -> None:
        self.links.add(host_link(NETWORK, name, "eth0"))

    def write_cache(self, name: str, netns: str) -> None:
        self.cache[NETWORK, name, "eth0"] = Cached(netns)

    def start(self, name: str) -> str:
        """A whole ADD."""
        netns = f"/run/netns/{name}"
        self.netns[netns] = 4026532000 + len(self.netns)
        address = self.reserve(name)
        self.save_record(name, netns, address)
        self.make_link(name)
        self.write_cache(name, netns)
        return address

    def die(self, name: str, netns: str = "") -> None:
        """The namespace and the link go; DEL does not come."""
        self.netns.pop(netns or f"/run/netns/{name}", None)
        self.links.discard(host_link(NETWORK, name, "eth0"))

    def held(self) -> dict[str, str]:
        """Address to container id."""
        owners = self.store.owners(self.conf, NETWORK)
        return {str(address): owner.container_id for address, owner in owners.items()}


CALL = """
import sys
from pathlib import Path
from cni_plugin.cni.values import Attachment
from tests.unit.reconcile.world import NETWORK, World
from ipam.values import Owner

world, name = World(Path(sys.argv[1])), sys.argv[2]
with world.records.lock(NETWORK, Attachment(name, "eth0")):
    print("holds its attachment's lock", flush=True)
    sys.stdin.readline()
    print("waits for the store's lock", flush=True)
    world.store.release(world.conf, NETWORK, Owner("nobody", "eth0"))
"""


@contextmanager
def call_under_way(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of an ADD or DEL: it holds the attachment's lock, takes the
    store's after a line from us, and ends."""
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", CALL, str(folder), name]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environ, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holds its attachment's lock\n"
            yield process
        finally:
            process.kill()


class WorldObserver(Observer):
    """Reads store and records as on a node, and the rest from the world."""

    def __init__(self, world: World) -> None:
        super().__init__((world.conf.data_dir,), state_dir=world.state_dir)
        self._world = world

    def look(self, network: str = "") -> Any:
        self._world.between()
        seen = super().look(network)
        self._world.between()
        return seen

    def evidence(self, seen: Iterable[Subject]) -> Evidence:
        world = self._world
        world.between()
        kernel = KernelFacts(dict.fromkeys(world.links, ""))
        world.between()
        runtime = RuntimeFacts(dict(world.cache), "lost" if world.evidence_lost else "")
        world.between()
        paths = {one.record.netns for one in seen if one.record}
        paths |= {cached.netns for cached in runtime.cached.values()}
        return Evidence(kernel, runtime, {p: world.netns.get(p, NETNS_GONE) for p in paths})


class FakeKernel:
    """Links only."""

    def __init__(self, world: World) -> None:
        self._world = world

    def observe(self, objects: Iterable[Obj], *, fresh: bool = False) -> dict[Key, Obj]:
        return {key(o): o for o in objects if isinstance(o, Veth) and o.name in self._world.links}

    def apply(self, steps: tuple[Step, ...], *, stop: bool) -> Outcome:
        for step in steps:
            self._world.links.discard(step.subject[0])  # type: ignore[arg-type]
        return Outcome(tuple(steps), ())

    def owned_elements(self, *_links: str) -> tuple[()]:
        return ()

    def host_has(self, name: str) -> bool:
        return name in self._world.links

    def pod_has(self, _ifname: str) -> bool:
        return False
