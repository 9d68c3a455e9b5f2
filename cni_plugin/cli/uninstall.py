"""Take podwire off this node: what pods still need stays until they are gone.

Stop the agent first and drain the node. --verify changes nothing: it lists what is left of podwire,
each with the command that removes it. Exit status: 0 nothing is left, 1 something is or it failed,
2 wrong usage, 3 not finished, for pods are attached or the agent serves. See docs/installer.md.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from cni_plugin.cli.install import (
    USAGE_ERROR,
    add_form_argument,
    add_place_arguments,
)
from cni_plugin.cli.output import complain, emit_json, tell
from cni_plugin.cli.table import table
from cni_plugin.cluster.conflist import DEFAULT_PATH
from cni_plugin.install.place import place_of
from cni_plugin.pools import NET_D
from cni_plugin.uninstall.act import release_own_version
from cni_plugin.uninstall.look import look
from cni_plugin.uninstall.run import Ended, uninstall
from cni_plugin.uninstall.scope import Scope
from cni_plugin.uninstall.values import KERNEL, Failure, Found, Thing

if TYPE_CHECKING:
    from cni_plugin.agent.config import AgentConfig

LEFT, NOT_FINISHED = 1, 3
FOR_EVER = float("inf")


def add_arguments(parser: ArgumentParser) -> None:
    """What goes, and how long to wait."""
    add_place_arguments(parser)
    parser.add_argument(
        "--net-dir", default=NET_D, metavar="FOLDER", help=f"where config lists are ({NET_D})"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the agent's config: its conflist, dataDirs, and the API that has the annotations",
    )
    parser.add_argument(
        "--verify", action="store_true", help="change nothing: list what is left of podwire"
    )
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=FOR_EVER,
        default=0.0,
        metavar="SECONDS",
        help="until the pods and the agent are gone, or for so long",
    )
    parser.add_argument("--force", action="store_true", help="cut off the pods that are attached")
    parser.add_argument(
        "--reservations", action="store_true", help="remove the stores of addresses, too"
    )
    add_form_argument(parser)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if value >= 0:
            return value
    raise ArgumentTypeError(f"{text!r} is no number of seconds")


def run(args: Namespace) -> int:
    """Remove or look, and say what is left."""
    if args.verify and (args.force or args.wait):
        complain("--verify changes nothing: neither --force nor --wait go with it")
        return USAGE_ERROR
    try:
        scope, fault = _scope(args)
    except ValueError as error:
        complain(str(error))
        return USAGE_ERROR
    if fault:
        complain(fault, _assumed(scope))
    if args.verify:
        found = look(scope)
        # Things may be elsewhere than where they were looked for: nothing is proven.
        unsure = ("what the config names was not all looked at",) if fault else ()
        ended = Ended((), found._replace(failures=(*found.failures, *unsure)), "")
    else:
        release_own_version(sys.prefix)
        ended = uninstall(scope, force=args.force, wait_s=args.wait, tell=tell)
    if args.output == "json":
        emit_json(document(ended, fault))
    else:
        print("\n".join(lines(ended)))
    for failure in (*_elsewhere(ended), *ended.found.failures):
        complain(str(failure))
    if ended.waits:
        return NOT_FINISHED
    return 0 if ended.found.clean and not ended.failures else LEFT


def _scope(args: Namespace) -> tuple[Scope, str]:
    """And what is wrong with the config, "" when nothing is."""
    place = place_of(args.root, args.bin_dir)
    if not args.net_dir.startswith("/"):
        raise ValueError(f"{args.net_dir!r} is no absolute path")
    if not os.path.isdir(args.root):
        raise ValueError(f"--root {args.root} is no folder: what is on the node cannot be seen")
    scope = Scope(
        place,
        args.net_dir,
        f"{args.net_dir}/{os.path.basename(DEFAULT_PATH)}",
        reservations=args.reservations,
    )
    if args.config is None:
        return scope, ""
    from cni_plugin.agent.config_rest import read_rest

    rest = read_rest(args.config)
    return _with(scope, rest.config), rest.fault


def _assumed(scope: Scope) -> str:
    asked = f"of node {scope.node} in the API" if scope.choice else "not looked at"
    return (
        "going on: podwire's things are known by their marks. Of the config what can be used, for"
        f" the rest the defaults: config list {scope.conflist}, addresses in"
        f" {', '.join(scope.data_dirs)}, annotations {asked}"
    )


def _with(scope: Scope, config: AgentConfig) -> Scope:
    """What the agent's config says of places and of the API."""
    scope = scope._replace(data_dirs=config.data_dirs)
    cluster = config.cluster
    if cluster is None:
        return scope
    if cluster.conflist is not None:
        scope = scope._replace(conflist=cluster.conflist.path)
    if cluster.source.kubernetes is not None:
        scope = scope._replace(node=cluster.node, choice=cluster.source.kubernetes.choice())
    return scope


def lines(ended: Ended) -> Iterator[str]:
    """For people."""
    for thing in ended.removed:
        yield f"removed  {_shown(thing)}"
    found = ended.found
    for attachment in found.attachments:
        yield f"attached {attachment}"
    if found.things:
        yield _left(ended)
    for path, why in found.kept:
        yield f"kept     {path}: {why}"
    if found.agent:
        yield f"the agent serves: {found.agent}"
    if ended.waits:
        yield f"not finished: {ended.waits}"
    elif found.clean:
        yield "nothing of podwire is left on this node"


def _left(ended: Ended) -> str:
    left = {thing.what for thing in ended.found.things}
    whys = {failure.what: failure.why for failure in ended.failures if failure.what in left}
    head = ("LEFT", "WHAT", "REMOVED BY", *(("BECAUSE",) if whys else ()))
    rows = [
        (thing.kind, _shown(thing), thing.remedy, whys.get(thing.what, ""))[: len(head)]
        for thing in ended.found.things
    ]
    return table(head, rows)


def _elsewhere(ended: Ended) -> Iterator[Failure]:
    """What failed and is of nothing in the table."""
    shown = {thing.what for thing in ended.found.things}
    return (failure for failure in ended.failures if failure.what not in shown)


def _shown(thing: Thing) -> str:
    """The kernel's things are known by the line that deletes them."""
    return thing.what.replace(" delete ", " ", 1) if thing.kind == KERNEL else thing.what


def document(ended: Ended, fault: str = "") -> dict[str, object]:
    """The JSON form. fault: the config's."""
    found: Found = ended.found
    whys = {failure.what: failure.why for failure in ended.failures}
    return {
        "clean": found.clean,
        "notFinished": ended.waits or None,
        "removed": [_thing(thing) for thing in ended.removed],
        "left": [{**_thing(thing), "because": whys.get(thing.what)} for thing in found.things],
        "attachments": list(found.attachments),
        "agent": found.agent or None,
        "kept": [{"path": path, "why": why} for path, why in found.kept],
        "configFault": fault or None,
        "failures": [*map(str, ended.failures), *found.failures],
    }


def _thing(thing: Thing) -> dict[str, str]:
    return {"kind": thing.kind, "what": thing.what, "removedBy": thing.remedy}
