"""Show what ADD would do with a config, as the commands a person would type. Nothing is touched.

Without --node the node is taken to be empty (no bridge yet, an uplink of 1500 bytes) and the first
address of each range is shown. With --node this node is looked at, and only what differs is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cni_plugin.cli.output import complain, emit_json, paint
from cni_plugin.cni.decode import decode_object
from cni_plugin.cni.errors import CNIError
from cni_plugin.cni.values import Attachment, IPConfig, NetConf, Pod, Result

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from cni_plugin.attach.wiring import Facts
    from cni_plugin.model.plan import Step

OWN_TYPE = "podwire"
POD_NETNS = "/var/run/netns/POD"


class Planned(NamedTuple):
    """One plugin of the list: its lines, and a note when it is not planned whole."""

    position: int
    type: str
    lines: tuple[str, ...]
    note: str = ""


def add_arguments(parser: ArgumentParser) -> None:
    """FILE and what stands for the attachment."""
    parser.add_argument("file", metavar="FILE", help="a .conflist or .conf; - is stdin")
    parser.add_argument("--container-id", default="example", help="the container id (example)")
    parser.add_argument("--ifname", default="eth0", help="the interface in the pod (eth0)")
    parser.add_argument("--node", action="store_true", help="look at this node's kernel")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="form of the answer"
    )


def run(args: Namespace) -> int:
    """Print the plan of every podwire plugin in the file; 1 when the file is not valid."""
    try:
        planned = [plan_plugin(index, plugin, args) for index, plugin in _plugins(args.file)]
    except (CNIError, OSError) as error:
        complain(f"{args.file}: {error}", "`podwire validate FILE` shows every problem")
        return 1
    if args.output == "json":
        emit_json([entry._asdict() for entry in planned])
        return 0
    for entry in planned:
        print(paint(f"# plugins[{entry.position}] {entry.type}{entry.note}", "bold", sys.stdout))
        for line in entry.lines:
            print(line)
    return 0


def _plugins(name: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(index, plugin object as the runtime would send it) of a list or a single plugin's file."""
    data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    document = decode_object(data, "the file")
    plugins = document.get("plugins")
    if not isinstance(plugins, list):
        yield 0, document
        return
    head: dict[str, object] = {
        key: document[key] for key in ("cniVersion", "name") if key in document
    }
    for index, plugin in enumerate(plugins):
        if isinstance(plugin, dict):
            yield index, {**plugin, **head}


def plan_plugin(index: int, document: dict[str, object], args: Namespace) -> Planned:
    """The plan of one plugin object. Raises CNIError when its config is not valid."""
    from cni_plugin.cni.conf import parse_conf

    kind = str(document.get("type", ""))
    if kind != OWN_TYPE:
        return Planned(index, kind, (), ": another plugin, runs on its own")
    conf, _warnings = parse_conf(document)
    steps, note = _steps(conf, args)
    from cni_plugin.model.plan import describe

    return Planned(index, kind, tuple(map(describe, steps)), note)


def _steps(conf: NetConf, args: Namespace) -> tuple[tuple[Step, ...], str]:
    from cni_plugin.attach.wiring import Wiring
    from cni_plugin.commands.state import desired_state
    from cni_plugin.kernel.port import node_kernel
    from cni_plugin.model.plan import diff

    addressing, note = _addressing(conf)
    attachment = Attachment(args.container_id, args.ifname)
    wiring = Wiring(conf, attachment, Pod(), POD_NETNS, addressing, _empty_node())
    if not args.node:
        return diff(desired_state(wiring).objects, {}), note
    with node_kernel(None) as kernel:
        wanted = desired_state(wiring._replace(facts=kernel.facts(conf))).objects
        return diff(wanted, kernel.observe(wanted)), note


def _empty_node() -> Facts:
    from cni_plugin.attach.wiring import DEFAULT_MTU, Facts

    return Facts(uplink_mtu=DEFAULT_MTU)


def _addressing(conf: NetConf) -> tuple[Result, str]:
    """The addresses that stand for the ones IPAM would give: asked for, or the first of each."""
    from ipam.allocate import assign, lease
    from ipam.ranges import pool, ring

    if conf.ipam is None:
        return Result(), ": layer 2 only, no addresses"
    if not conf.ipam.in_process:
        return Result(), f": addresses and routes would come from {conf.ipam.type}"
    asked = assign(conf.ipam.range_sets, conf.runtime.ips)
    leases = [
        lease(ranges, index, wanted or next(ring(pool(ranges), None)))
        for index, (ranges, wanted) in enumerate(zip(conf.ipam.range_sets, asked, strict=True))
    ]
    ips = tuple(IPConfig(one.address, one.gateway) for one in leases)
    return Result(ips=ips, routes=conf.ipam.routes), ""
