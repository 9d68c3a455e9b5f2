"""For any two states: the steps lead from the one to the other, and their inverse leads back."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cni_plugin.model.objects import (
    HOST,
    POD,
    Addr,
    Bridge,
    Element,
    Ifb,
    Neigh,
    Obj,
    Port,
    Redirect,
    RouteTo,
    Sysctl,
    Tbf,
    Tuned,
    Up,
    Veth,
    key,
    satisfied,
)
from cni_plugin.model.plan import (
    Step,
    ceded,
    describe,
    diff,
    differences,
    inverse,
    of_another,
    removal,
)

State = dict[tuple[object, ...], Obj]

places = st.sampled_from([HOST, POD])
links = st.sampled_from(["eth0", "net1", "pwabc", "cni0"])
macs = st.sampled_from(["02:00:5e:00:00:01", "02:00:5e:00:00:02"])
mtus = st.sampled_from([1400, 1500])
hosts4 = st.integers(1, 6).map(lambda last: IPv4Address(f"10.244.0.{last}"))
hosts6 = st.integers(1, 6).map(lambda last: IPv6Address(f"2001:db8::{last}"))
hosts = hosts4 | hosts6
networks = st.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "::/0", "2001:db8:9::/64"])
interfaces = hosts.map(lambda ip: ip_interface((ip, 24 if ip.version == 4 else 64)))

objects = st.one_of(
    st.builds(
        Bridge, st.just("cni0"), mtus, st.booleans(), st.booleans(), st.just("podwire"), macs
    ),
    st.builds(Veth, links, st.just("eth0"), macs, macs, mtus, st.sampled_from(["", "cni0"]), links),
    st.builds(Port, links, st.booleans(), st.booleans()),
    st.builds(Ifb, st.just("peabc"), mtus, st.just("podwire-ifb")),
    st.builds(Tbf, links, st.sampled_from([1000, 2000]), st.just(9018), st.just(9043)),
    st.builds(
        Redirect, links, st.sampled_from(["ingress", "egress"]), st.sampled_from(["peabc", ""])
    ),
    st.builds(Tuned, places, links, st.sampled_from([5, 1000]), st.booleans(), st.booleans()),
    st.builds(Up, places, links),
    st.builds(Addr, places, links, interfaces, st.booleans(), st.booleans()),
    st.builds(Neigh, places, links, hosts, macs),
    st.builds(
        RouteTo,
        places,
        networks.map(ip_network),
        st.sampled_from([254, 100]),
        st.sampled_from([0, 50]),
        links,
    ),
    st.builds(Sysctl, places, links.map(lambda x: ("ipv6", "conf", x)), st.sampled_from("012")),
    st.builds(
        Element,
        st.sampled_from(["inet", "bridge"]),
        st.just("mac_ports"),
        st.tuples(links),
        st.just(""),
        links,
    ),
    st.builds(
        Element,
        st.just("inet"),
        st.just("hostports4"),
        st.tuples(st.just("tcp"), st.sampled_from(["80", "81"])),
        st.just(""),
        links,
        st.tuples(hosts4.map(str), st.sampled_from(["80", "8080"])),
    ),
)


def _state(listed: Iterable[Obj]) -> State:
    return {key(obj): obj for obj in listed}


states = st.lists(objects, max_size=12).map(_state)


def _applied(state: State, steps: Iterable[Step]) -> State:
    """What the executor does, on a dict: it fails where the kernel would."""
    after = dict(state)
    for step in steps:
        name = key(step.subject)
        assert after.get(name) == step.found, "the step expects something else to be there"
        if step.wanted is None:
            del after[name]
        else:
            after[name] = step.wanted
    return after


@given(wanted=states)
def test_no_steps_lead_from_a_state_to_itself(wanted: State) -> None:
    assert diff(wanted.values(), wanted) == ()
    assert differences(wanted.values(), wanted) == ()


@given(wanted=states, found=states)
def test_the_steps_lead_to_what_is_wanted(wanted: State, found: State) -> None:
    after = _applied(found, diff(wanted.values(), found))
    made = [obj.name for obj in after.values() if isinstance(obj, Veth) and key(obj) not in found]
    for port in (Port(name, hairpin=False, isolated=False) for name in made):
        after.setdefault(key(port), port)  # as the kernel makes it
    left = set(ceded(wanted.values(), found))
    assert all(satisfied(obj, after[name]) for name, obj in wanted.items() if obj not in left)
    assert diff(wanted.values(), after) == ()


@given(wanted=states, found=states)
def test_what_is_not_wanted_stays(wanted: State, found: State) -> None:
    after = _applied(found, diff(wanted.values(), found))
    assert all(after[name] == obj for name, obj in found.items() if name not in wanted)


@given(wanted=states, found=states, cut=st.integers(0, 12))
def test_the_inverse_of_any_beginning_leads_back(wanted: State, found: State, cut: int) -> None:
    """A plan that fails half-way is undone from where it stopped."""
    steps = diff(wanted.values(), found)[:cut]
    assert _applied(_applied(found, steps), inverse(steps)) == found


@given(doomed=states, found=states)
def test_removal_leaves_nothing_of_what_is_doomed_and_all_else(doomed: State, found: State) -> None:
    """All else is what others have by now as well."""
    after = _applied(found, removal(doomed.values(), found))
    kept = (name for name in found if name not in doomed or of_another(doomed[name], found[name]))
    assert after == {name: found[name] for name in kept}


@given(wanted=states, found=states, data=st.data())
def test_the_order_of_the_question_does_not_matter(wanted: State, found: State, data: Any) -> None:
    shuffled = data.draw(st.permutations(list(wanted.values())))
    first, second = diff(wanted.values(), found), diff(shuffled, found)
    assert set(first) == set(second)
    kinds = [type(step.subject) for step in first]
    assert kinds == [type(step.subject) for step in second]


@given(wanted=states, found=states)
def test_check_names_one_difference_for_every_step(wanted: State, found: State) -> None:
    steps = diff(wanted.values(), found)
    assert len(differences(wanted.values(), found)) == len(steps)
    assert all(describe(step) for step in (*steps, *inverse(steps)))
