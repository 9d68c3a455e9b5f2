"""The order of effects in ADD, DEL and GC, on ports that write down what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, NamedTuple

import pytest

from cni_plugin.attach.wiring import Facts
from cni_plugin.cni.errors import CNIError, Interrupted, KernelRefused
from cni_plugin.cni.values import Attachment, Dns, NetConf, Request, Result
from cni_plugin.commands.add import add
from cni_plugin.commands.delete import delete
from cni_plugin.commands.gc import collect
from cni_plugin.model.names import host_link
from cni_plugin.model.objects import Element, Key, Obj, RuleChain, Up, Veth, key
from cni_plugin.model.plan import Step
from cni_plugin.ports import Ports
from cni_plugin.record import DONE, PENDING, Record
from ipam.errors import IpamError
from ipam.values import IPAddress, IpamConf, IPInterface, Lease, Owner, Range, SetUsage

ATTACHMENT = Attachment("id", "eth0")
LINK = host_link("net", *ATTACHMENT)
SUBNET = ip_network("10.244.0.0/24")
IPAM = IpamConf(
    "podwire-ipam",
    ((Range(SUBNET, SUBNET[1], SUBNET[-2], SUBNET[1]),),),
)
CONF = NetConf("1.1.0", "net", "podwire", is_gateway=True, ip_masq=True, ipam=IPAM)


class Outcome(NamedTuple):
    done: tuple[Step, ...]
    failures: tuple[CNIError, ...]


class World:
    """A kernel, a store and a folder of records, as dicts. `refused`: kinds the kernel refuses to
    make (or, with `stuck`, to take away)."""

    fd = inode = 7

    def __init__(self) -> None:
        self.log: list[str] = []
        self.state: dict[Key, Obj] = {}
        self.records: dict[tuple[str, Attachment], Record] = {}
        self.leases: dict[tuple[str, str], Lease] = {}
        self.refused: type[Any] | None = None
        self.stuck: type[Any] | None = None
        self.stuck_link = ""  # the one link that cannot be taken away
        self.store_is_stuck = False
        self.delegate_fails: set[str] = set()

    # the kernel

    def facts(self, conf: NetConf) -> Facts:
        return Facts()

    def observe(self, objects: Iterable[Obj], *, fresh: bool = False) -> dict[Key, Obj]:
        return {key(obj): self.state[key(obj)] for obj in objects if key(obj) in self.state}

    def apply(self, steps: Sequence[Step], *, stop: bool) -> Outcome:
        done, failures = [], []
        for step in steps:
            hindrance = self.refused if step.wanted else self.stuck
            stuck = step.wanted is None and step.subject[0] == self.stuck_link
            if stuck or (hindrance and isinstance(step.subject, hindrance)):
                what = self.stuck_link if stuck else type(step.subject).__name__
                failures.append(KernelRefused(f"{what} refused"))
                if stop:
                    break
                continue
            done.append(step)
            if step.wanted is None:
                self.state.pop(key(step.subject), None)
            else:
                self.state[key(step.subject)] = step.wanted
        self.log.append("kernel")
        return Outcome(tuple(done), tuple(failures))

    def owned_elements(self, *owners: str) -> tuple[Element, ...]:
        return tuple(
            obj for obj in self.state.values() if isinstance(obj, Element) and obj.owner in owners
        )

    def links(self) -> dict[str, str]:
        return {obj.name: obj.alias or "" for obj in self.state.values() if isinstance(obj, Veth)}

    def ports(self, bridge: str) -> tuple[str, ...]:
        return tuple(self.links())

    def host_has(self, name: str) -> bool:
        return name in self.links()

    def pod_has(self, ifname: str) -> bool:
        return any(isinstance(obj, Veth) and obj.peer == ifname for obj in self.state.values())

    def settled(self, ifname: str) -> None: ...

    def bridged_packets_filtered(self) -> bool:
        return True

    # the store

    def reserve(
        self, conf: IpamConf, network: str, owner: Owner, requested: Sequence[IPInterface]
    ) -> tuple[Lease, ...]:
        self.log.append("reserve")
        lease = Lease(ip_interface("10.244.0.2/24"), ip_address("10.244.0.1"), 0)
        self.leases[owner.container_id, owner.ifname] = lease
        return (lease,)

    def release(self, conf: IpamConf, network: str, owner: Owner, hint: object = ()) -> object:
        self.log.append("release")
        if self.store_is_stuck:
            raise IpamError("the store is stuck")
        self.leases.pop((owner.container_id, owner.ifname), None)
        return ()

    def held(self, conf: IpamConf, network: str, owner: Owner, hint: object = ()) -> object:
        return ()

    def usage(self, conf: IpamConf, network: str) -> tuple[SetUsage, ...]:
        return ()

    def owners(self, conf: IpamConf, network: str) -> dict[IPAddress, Owner]:
        return {lease.address.ip: Owner(*owner) for owner, lease in self.leases.items()}

    def retain(
        self,
        conf: IpamConf,
        network: str,
        valid: Collection[tuple[str, str]],
        snapshot: Mapping[IPAddress, Owner] | None = None,
    ) -> object:
        self.log.append("retain")
        self.leases = {owner: lease for owner, lease in self.leases.items() if owner in valid}
        return ()

    # the records

    def lock(self, _network: str, _attachment: Attachment) -> AbstractContextManager[None]:
        return nullcontext()

    def try_lock(self, _network: str, _attachment: Attachment) -> AbstractContextManager[bool]:
        return nullcontext(True)

    def drop_stale_locks(self) -> None:
        """There are no files here."""

    def load(self, network: str, attachment: Attachment) -> Record | None:
        return self.records.get((network, attachment))

    def save(self, record: Record) -> None:
        self.log.append(f"record {record.phase}")
        self.records[record.network, record.attachment] = record

    def remove(self, network: str, attachment: Attachment) -> None:
        self.log.append("forget")
        self.records.pop((network, attachment), None)

    def of_network(self, network: str) -> tuple[Record, ...]:
        return tuple(entry for (name, _), entry in self.records.items() if name == network)

    # the rest

    def delegate(self, request: Request, plugin: str, command: str) -> Result | None:
        self.log.append(f"delegate {command}")
        if command in self.delegate_fails:
            raise CNIError(f"{plugin} {command} failed", code=123)
        return None

    def warn(self, line: str) -> None:
        self.log.append(f"warn {line}")

    @property
    def effects(self) -> list[str]:
        return [line for line in self.log if not line.startswith("warn")]


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ports(world: World) -> Ports:
    @contextmanager
    def given(_: object) -> Iterator[Any]:
        yield world

    return Ports(
        leases=world,
        delegate=world.delegate,
        records=world,
        netns=given,
        kernel=given,
        resolv_conf=lambda path: Dns(),
        warn=world.warn,
    )


def request(command: str, conf: NetConf = CONF, **more: Any) -> Request:
    return Request(command, conf, ATTACHMENT, netns="/run/netns/pod", **more)


def snapshot(world: World) -> tuple[object, ...]:
    """What an attachment must not leave: the node's own chains and bridge stay."""
    kept = [
        obj
        for obj in world.state.values()
        if isinstance(obj, (Veth, Element))
        or (isinstance(obj, RuleChain) and obj.name.startswith("masq-"))
    ]
    return kept, dict(world.leases), dict(world.records)


NOTHING = ([], {}, {})


# ADD ---------------------------------------------------------------------------------------------


def test_the_lease_and_the_record_are_there_before_the_kernel_changes(
    world: World, ports: Ports
) -> None:
    add(request("ADD"), ports)
    assert world.effects == ["reserve", "record pending", "kernel", "record done"]


@pytest.mark.parametrize("refused", [Veth, Element, Up, RuleChain])
def test_whatever_the_kernel_refuses_a_failed_add_leaves_nothing(
    world: World, ports: Ports, refused: type[Any]
) -> None:
    world.refused = refused
    with pytest.raises(KernelRefused):
        add(request("ADD"), ports)
    assert snapshot(world) == NOTHING


def test_what_cannot_be_undone_keeps_lease_and_record_for_del(world: World, ports: Ports) -> None:
    world.refused, world.stuck = Up, Veth
    with pytest.raises(KernelRefused) as failure:
        add(request("ADD"), ports)
    assert "Up refused" in failure.value.msg
    assert world.leases
    assert world.records
    assert any(line.startswith("warn undoing ADD: Veth refused") for line in world.log)


def test_a_store_that_cannot_release_hides_not_the_first_error(world: World, ports: Ports) -> None:
    world.refused, world.store_is_stuck = Up, True
    with pytest.raises(KernelRefused):
        add(request("ADD"), ports)
    assert "warn undoing ADD: the store is stuck" in world.log


class Stale(KernelRefused):
    """What another ADD changed between our looking and our acting."""

    stale = True


@pytest.mark.parametrize(("times", "works"), [(1, True), (2, True), (3, False)])
def test_a_lost_race_is_run_again_but_not_for_ever(
    world: World, ports: Ports, times: int, works: bool
) -> None:
    apply, lost = world.apply, [Stale("EEXIST")] * times

    def lose(steps: Sequence[Step], *, stop: bool) -> Outcome:
        return Outcome((), (lost.pop(),)) if stop and lost else apply(steps, stop=stop)

    world.apply = lose  # type: ignore[method-assign]
    if works:
        add(request("ADD"), ports)
        assert world.links()
    else:
        with pytest.raises(Stale):
            add(request("ADD"), ports)
        assert snapshot(world) == NOTHING


@pytest.mark.parametrize("step", ["reserve", "save", "apply"])
def test_a_signal_between_a_step_and_its_note_leaves_nothing(
    world: World, ports: Ports, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    done, interrupted = getattr(world, step), []

    def do_and_be_interrupted(*arguments: Any, **options: Any) -> Any:
        answer = done(*arguments, **options)
        if not interrupted:
            interrupted.append(step)
            raise Interrupted("signal 15")
        return answer

    monkeypatch.setattr(world, step, do_and_be_interrupted)
    with pytest.raises(Interrupted):
        add(request("ADD"), ports)
    assert snapshot(world) == NOTHING


def test_a_signal_before_it_is_known_whose_the_interface_is_takes_nothing_away(
    world: World, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(request("ADD"), ports)
    wired = snapshot(world)

    def interrupted(*_arguments: object) -> None:
        raise Interrupted("signal 15")

    monkeypatch.setattr(world, "load", interrupted)
    with pytest.raises(Interrupted):
        add(request("ADD"), ports)
    assert snapshot(world) == wired


def test_a_signal_after_all_is_done_comes_too_late(
    world: World, ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lock(_network: str, _attachment: Attachment) -> Iterator[None]:
        yield
        raise Interrupted("signal 15")

    monkeypatch.setattr(world, "lock", lock)
    assert add(request("ADD"), ports).ips
    assert world.leases
    assert any("came when the pod was wired already" in line for line in world.log)


FOREIGN = CONF._replace(ipam=IpamConf("dhcp"))


def test_a_foreign_plugin_is_asked_when_the_link_is_there(world: World, ports: Ports) -> None:
    """And its failure is followed by its DEL, after the link has gone."""
    world.delegate_fails = {"ADD"}
    with pytest.raises(CNIError) as failure:
        add(request("ADD", FOREIGN), ports)
    assert failure.value.code == 123
    assert world.effects == [
        "record pending",
        "kernel",
        "record pending",
        "delegate ADD",
        "kernel",
        "delegate DEL",
        "forget",
    ]


def test_a_foreign_plugin_that_fails_twice_leaves_nothing_of_ours(
    world: World, ports: Ports
) -> None:
    world.delegate_fails = {"ADD", "DEL"}
    with pytest.raises(CNIError):
        add(request("ADD", FOREIGN), ports)
    assert snapshot(world) == NOTHING


# DEL ---------------------------------------------------------------------------------------------


def test_the_address_is_free_only_when_the_link_is_gone(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    world.log.clear()
    delete(request("DEL"), ports)
    assert world.effects == ["record removing", "kernel", "release", "forget"]
    assert snapshot(world) == NOTHING


def test_while_the_link_stays_the_address_does(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    world.stuck = Veth
    with pytest.raises(KernelRefused):
        delete(request("DEL"), ports)
    assert world.leases
    assert world.records


def test_while_the_address_stays_the_record_does(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    world.store_is_stuck = True
    with pytest.raises((CNIError, IpamError)):
        delete(request("DEL"), ports)
    assert world.records


def test_without_a_record_all_is_found_by_the_links_name(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    world.records.clear()
    delete(request("DEL"), ports)
    assert snapshot(world) == NOTHING


def test_the_record_knows_where_the_lease_is_whatever_the_config_says(
    world: World, ports: Ports
) -> None:
    add(request("ADD"), ports)
    delete(request("DEL", CONF._replace(ipam=None)), ports)
    assert snapshot(world) == NOTHING


def test_a_failing_foreign_plugin_is_reported_and_our_part_is_done(
    world: World, ports: Ports
) -> None:
    add(request("ADD", CONF._replace(ipam=None)), ports)
    world.records.clear()
    world.delegate_fails = {"DEL"}
    with pytest.raises(CNIError) as failure:
        delete(request("DEL", FOREIGN), ports)
    assert failure.value.code == 123
    assert snapshot(world) == NOTHING


# ADD over the remains of one that was cut off ----------------------------------------------------


def _cut_off(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    name = ("net", ATTACHMENT)
    world.records[name] = world.records[name]._replace(phase=PENDING)
    world.log.clear()


def test_what_was_cut_off_is_cleaned_up_and_made_anew(world: World, ports: Ports) -> None:
    _cut_off(world, ports)
    add(request("ADD"), ports)
    assert world.effects[:4] == ["record removing", "kernel", "release", "forget"]
    assert world.records["net", ATTACHMENT].phase == DONE


def test_what_is_live_is_refused_and_untouched(world: World, ports: Ports) -> None:
    add(request("ADD"), ports)
    before = snapshot(world)
    world.log.clear()
    with pytest.raises(CNIError) as refusal:
        add(request("ADD"), ports)
    assert refusal.value.code == 102
    assert world.effects == []
    assert snapshot(world) == before


# GC ----------------------------------------------------------------------------------------------


def _three(world: World, ports: Ports) -> list[Attachment]:
    made = [Attachment(name, "eth0") for name in ("one", "two", "three")]
    for attachment in made:
        world_pod_has = world.pod_has
        world.pod_has = lambda ifname: False  # type: ignore[method-assign]  # three pods
        add(request("ADD")._replace(attachment=attachment), ports)
        world.pod_has = world_pod_has  # type: ignore[method-assign]
    world.log.clear()
    return made


def _gc(valid: tuple[Attachment, ...] | None, conf: NetConf = CONF) -> Request:
    return Request("GC", conf, Attachment("", ""), valid_attachments=valid)


def test_gc_without_a_list_does_nothing(world: World, ports: Ports) -> None:
    _three(world, ports)
    collect(_gc(None), ports)
    assert world.effects == []


def test_gc_keeps_the_listed(world: World, ports: Ports) -> None:
    one, *_ = _three(world, ports)
    collect(_gc((one,)), ports)
    assert list(world.leases) == [tuple(one)]
    assert list(world.links()) == [host_link("net", *one)]
    assert list(world.records) == [("net", one)]


@pytest.mark.parametrize(
    "lose",
    [
        lambda world: world.records.clear(),
        lambda world: world.state.clear(),
        lambda world: world.leases.clear(),
    ],
    ids=["records", "kernel", "leases"],
)
def test_gc_needs_only_one_trace_of_what_is_stale(
    world: World, ports: Ports, lose: Callable[[World], None]
) -> None:
    _three(world, ports)
    lose(world)
    collect(_gc(()), ports)
    assert snapshot(world) == NOTHING


def test_gc_goes_on_after_a_failure_and_reports_it(world: World, ports: Ports) -> None:
    """And the address of the pod whose link stays is not given to another."""
    one, *_ = _three(world, ports)
    world.stuck_link = host_link("net", *one)
    with pytest.raises(KernelRefused) as failure:
        collect(_gc(()), ports)
    assert world.stuck_link in failure.value.msg
    assert list(world.links()) == [world.stuck_link]
    assert list(world.leases) == [tuple(one)]
    assert list(world.records) == [("net", one)]


def test_gc_of_another_network_touches_nothing(world: World, ports: Ports) -> None:
    _three(world, ports)
    before = snapshot(world)
    collect(_gc((), CONF._replace(name="other", ipam=None)), ports)
    assert snapshot(world) == before
