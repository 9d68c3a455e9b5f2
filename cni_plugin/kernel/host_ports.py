"""Host ports in the kernel: nobody takes another's, and connections follow their port.

The maps themselves refuse two elements of one key. A port of one address and the same port of all
addresses are two keys; there the one address looks within its transaction, and who wants all looks
after his own: of two at once the transactions have an order, so exactly one has the port.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from cni_plugin.cni.errors import CNIError, HostPortInUse
from cni_plugin.filter.tables import DATA_MAPS
from cni_plugin.kernel import nft, rtnl
from cni_plugin.kernel.netlink import KernelError, Message
from cni_plugin.kernel.places import Places
from cni_plugin.model.objects import HOST, Element
from cni_plugin.model.plan import Step, of_another
from ipam.lean_typing import TYPE_CHECKING
from ipam.values import IPAddress

if TYPE_CHECKING:
    from cni_plugin.kernel.conntrack import Flow

ONE_ADDRESS = "_at"  # how the maps are called whose keys begin with an address
CONNECTIONLESS = ("udp", "sctp")  # a TCP connection that is cut off is begun anew by its caller
ALIAS_WORDS = 4  # podwire NETWORK CONTAINERID IFNAME, model.names.alias
RTN_LOCAL = 2  # linux/rtnetlink.h
GONE = errno.ENOENT


def is_port(step: Step) -> bool:
    """Whether the step is about a host port."""
    obj = step.subject
    return isinstance(obj, Element) and obj.set in DATA_MAPS


def messages(step: Step) -> Iterator[Message]:
    """The messages of one such step. EEXIST: another has the port."""
    wanted, found = step
    if isinstance(found, Element) and not (wanted and of_another(wanted, found)):
        yield nft.delete_element(found)
    if isinstance(wanted, Element):
        if wanted.set.endswith(ONE_ADDRESS):
            # Added and taken away in one transaction: it only succeeds when there is none.
            everywhere = _everywhere(wanted)
            yield nft.new_element(everywhere)
            yield nft.delete_element(everywhere)
        yield nft.new_element(wanted)


def _everywhere(one: Element) -> Element:
    """The element that has the same port at all addresses."""
    return one._replace(set=one.set.removesuffix(ONE_ADDRESS), key=one.key[1:])


def holder(places: Places, steps: Iterable[Step]) -> HostPortInUse | None:
    """Who keeps the steps from what they want, after EEXIST; None: nobody does by now."""
    wanted = list(_wanted(steps))
    keys = [*wanted, *(_everywhere(one) for one in wanted if one.set.endswith(ONE_ADDRESS))]
    owners = {one.owner for one in wanted}
    for found in nft.observe_elements(places.filter_if_any, keys):
        if found.owner not in owners:
            return _in_use(places, found)
    return None


def settle(places: Places, steps: Sequence[Step], *, gaining: bool) -> tuple[CNIError, ...]:
    """What is left to do when the transaction is through: to look whether a port of all addresses
    was another's at one, and to have connections follow. gaining: failures count; otherwise what is
    remembered wrongly is forgotten by itself in some minutes."""
    wanted = [one for one in _wanted(steps) if not one.set.endswith(ONE_ADDRESS)]
    for name in dict.fromkeys(one.set for one in wanted):
        mine = {one.key: one for one in wanted if one.set == name}
        for found in nft.observe_set(places.filter_if_any, "inet", name + ONE_ADDRESS):
            own = mine.get(found.key[1:])
            if own is not None and found.owner != own.owner:
                return (_in_use(places, found),)
    try:
        _redirect(places, steps)
    except KernelError as error:
        return (error,) if gaining else ()
    return ()


def _wanted(steps: Iterable[Step]) -> Iterator[Element]:
    for step in steps:
        if isinstance(step.wanted, Element):
            yield step.wanted


def _in_use(places: Places, element: Element) -> HostPortInUse:
    *at, protocol, port = element.key
    version = 6 if "6" in element.set else 4
    where = f"of {at[0]}" if at else f"of every IPv{version} address"
    who, remedy = _who(places, element.owner or "nobody's link")
    return HostPortInUse(
        f"host port {port}/{protocol} {where} is taken by {who}",
        f"{remedy}, or ask for another hostPort or hostIP",
    )


def _who(places: Places, name: str) -> tuple[str, str]:
    """Whose link that is, and what frees its ports."""
    link = places.link(HOST, name)
    if link is None:
        return f"link {name}, which is not there now", "DEL of that pod, or GC, frees the port"
    words = link.alias.split(" ")
    if len(words) != ALIAS_WORDS:
        return f"link {name} ({link.alias})", "delete its pod"
    _, network, container_id, ifname = words
    who = f"{ifname} of {container_id} (network {network}, link {name})"
    return who, f"`podwire ipam show {container_id}` tells which pod that is: delete it"


# connections -------------------------------------------------------------------------------------


def _redirect(places: Places, steps: Iterable[Step]) -> None:
    """Forgets what leads past a port that is there now, or to one that is gone."""
    walks: dict[tuple[int, str], dict[int, list[Step]]] = {}  # by IP version and protocol, by port
    for step in steps:
        element = step.subject
        if isinstance(element, Element) and element.to and element.key[-2] in CONNECTIONLESS:
            *_, protocol, port = element.key
            walk = ip_address(element.to[0]).version, protocol
            walks.setdefault(walk, {}).setdefault(int(port), []).append(step)
    for (version, protocol), ports in walks.items():
        doomed = list(_stale(places, version, nft.PROTOCOLS[protocol], ports))
        for error in places.filter.batch(doomed):
            if error is not None and error.errno != GONE:
                raise error


def _stale(
    places: Places, version: int, protocol: int, ports: Mapping[int, list[Step]]
) -> Iterator[Message]:
    from cni_plugin.kernel import conntrack

    known: dict[IPAddress, bool] = {}
    for flow in conntrack.flows(places.filter, version, protocol, ports):
        if any(_leads_astray(places, step, flow, known) for step in ports[flow.port]):
            yield conntrack.forget(flow)


def _leads_astray(places: Places, step: Step, flow: Flow, known: dict[IPAddress, bool]) -> bool:
    element = step.subject
    assert isinstance(element, Element)  # noqa: S101  for the type checker
    to_pod = (str(flow.answers), str(flow.answer_port)) == element.to
    if step.wanted is None:
        return to_pod
    return not to_pod and _is_for(places, flow.destination, element.key[:-2], known)


def _is_for(
    places: Places, address: IPAddress, at: Sequence[str], known: dict[IPAddress, bool]
) -> bool:
    """Whether the mapping is of this address: others' connections to that port pass through."""
    if at:
        return str(address) == at[0]
    if address not in known:
        known[address] = _is_local(places, address)
    return known[address]


def _is_local(places: Places, address: IPAddress) -> bool:
    try:
        received = places.host.get(rtnl.lookup_route(address))
    except KernelError:  # unreachable
        return False
    return received is not None and rtnl.RTMSG.unpack_from(received.body)[7] == RTN_LOCAL
