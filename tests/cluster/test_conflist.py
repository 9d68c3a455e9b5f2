"""The config list with a peers file: written last by a real agent, and pods come by it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.support.agent_pages import CONFIG
from tests.support.cluster import CONFLIST, Fabric, Member
from tests.support.node import wait_until

FOLDER = "/etc/cni/net.d"
TEMPLATE = "/run/template.json"
MINE = {
    "cniVersion": "1.0.0",
    "name": "mine",
    "plugins": [{"type": "podwire", "mode": "ptp", "ipam": {"ranges": "${ranges}"}}],
}


def says(member: Member, words: str) -> None:
    """Waits until /readyz does."""
    wait_until(lambda: words in member.page("/readyz")[1], f"/readyz says {words!r}")


def messages(member: Member) -> list[str]:
    """The log's, in their order."""
    return [line["message"] for line in member.log()]


def outcomes(member: Member) -> list[str]:
    """Of the calls that the agent tells of."""
    return [line["outcome"] for line in member.log() if line["message"] == "call"]


def plugin(member: Member) -> dict[str, object]:
    """podwire's object in the list; empty without one."""
    found = member.conflist()
    return found["plugins"][0] if found else {}


def test_a_pod_comes_in_the_moment_in_which_the_list_does(fabric: Fabric, launcher: Path) -> None:
    """By the agent, though it has just begun; the list follows backend and template, and goes
    first when the agent is asked to stop."""
    a, _b = fabric.join("a"), fabric.join("b")
    fabric.write(backend="host-gw")
    a.start(conflist={"onStop": "remove"})
    wait_until(a.conflist, "there is a list")
    a.take_conflist(launcher)
    pod = a.pod()
    assert pod.addresses == ["10.244.1.2", "2001:db8:244:1::2"]
    wait_until(lambda: outcomes(a) == ["done"], "the agent tells of the call")
    wait_until(lambda: "conflist: written" in messages(a), "and of the list")
    order = messages(a)
    assert order.index("podwire's agent serves") < order.index("conflist: written")
    assert stat.S_IMODE(a.node.path(CONFLIST).stat().st_mode) == 0o600
    assert plugin(a)["nonMasqueradeCIDRs"] == ["10.244.0.0/16", "2001:db8:244::/48"]
    assert plugin(a)["mtu"] == 1500
    fabric.write(backend="vxlan")
    wait_until(lambda: plugin(a)["mtu"] == 1430, "pods' packets fit the tunnel over IPv6")
    a.node.configure("link set eth0 mtu 1400")
    wait_until(lambda: plugin(a)["mtu"] == 1330, "and a smaller one between the nodes")
    wait_until(a.ready, "it is ready")
    assert "podwire_cluster_conflist 1.0" in a.page("/metrics")[1]
    a.end()
    assert a.conflist() is None
    assert a.node.path(FOLDER).exists()


def test_an_agent_that_begins_anew_with_another_config_goes_on_with_the_list(
    fabric: Fabric,
) -> None:
    """A runtime would notice if `onStop: remove` took it away in between."""
    a = fabric.join("a")
    fabric.write()
    a.start(conflist={"onStop": "remove"})
    wait_until(a.ready, "it is ready")
    path = a.node.path(CONFIG)
    config = json.loads(path.read_text())
    config["cluster"]["mtu"] = 1400
    new = path.with_suffix(".new")
    new.write_text(json.dumps(config))
    new.rename(path)
    wait_until(lambda: plugin(a)["mtu"] == 1400, "it is written again")
    told = messages(a)
    assert "the config was changed: the agent begins anew with it" in told
    assert "conflist: removed" not in told
    a.end()
    assert a.conflist() is None


def test_what_stands_in_its_way_is_told(fabric: Fabric) -> None:
    """A full disk, a template that is no good, and somebody's list that goes before it."""
    a = fabric.join("a")
    folder, template = a.node.path(FOLDER), a.node.path(TEMPLATE)
    made = dict(MINE)
    template.write_text(json.dumps(made))
    folder.mkdir()
    a.node.run("mount", "-o", "remount,size=4k", "/etc/cni")
    (folder / "87-theirs.conf").write_bytes(b"x" * 4096)
    fabric.write()
    a.start(conflist={"template": TEMPLATE})
    says(a, f"conflist: {CONFLIST} cannot be written: No space left on device")
    assert sorted(one.name for one in folder.iterdir()) == ["87-theirs.conf"]
    assert "podwire_cluster_conflist 0.0" in a.page("/metrics")[1]
    a.node.run("mount", "-o", "remount,size=1m", "/etc/cni")
    wait_until(a.ready, "it is ready")
    assert (plugin(a)["mode"], plugin(a).get("mtu")) == ("ptp", None)
    assert 'podwire_cluster_conflist_rivals{order="after"} 1.0' in a.page("/metrics")[1]
    template.write_text("{")
    (folder / "05-theirs.conflist").write_text("{}")
    says(a, 'conflist: /etc/cni/net.d also holds "05-theirs.conflist", "87-theirs.conf"')
    wait_until(lambda: _warned(a, "the template is no good"), "the template is told")
    assert plugin(a)["mode"] == "ptp"
    made["name"] = "renamed"
    template.write_text(json.dumps(made))
    (folder / "05-theirs.conflist").unlink()
    wait_until(a.ready, "it is ready again")
    assert (a.conflist() or {})["name"] == "renamed"
    template.write_text("{")
    note = "note: conflist: the template is no good: /run/template.json is not JSON"
    says(a, note)
    assert a.page("/readyz")[0] == 200
    assert "podwire_cluster_conflist_template 0.0" in a.page("/metrics")[1]
    assert (a.conflist() or {})["name"] == "renamed"
    a.end()
    assert a.conflist() is not None, "by the usual policy it is kept"


def test_an_agent_whose_template_is_bad_from_the_beginning_serves_and_writes_no_list(
    fabric: Fabric, launcher: Path
) -> None:
    a, _b = fabric.join("a"), fabric.join("b")
    template = a.node.path(TEMPLATE)
    template.write_text("{")
    fabric.write(backend="host-gw")
    a.start(conflist={"template": TEMPLATE})
    says(a, "conflist: the template is no good: /run/template.json is not JSON")
    assert a.page("/readyz")[0] == 503
    wait_until(lambda: "10.244.2.0/24" in a.node.run("ip", "route").stdout, "the routes are there")
    assert a.conflist() is None
    template.write_text(json.dumps({**MINE, "name": "late"}))
    wait_until(a.ready, "it is ready")
    assert (a.conflist() or {})["name"] == "late"
    a.end()


def _warned(member: Member, words: str) -> bool:
    return any(words in line["message"] and line["level"] == "warning" for line in member.log())
