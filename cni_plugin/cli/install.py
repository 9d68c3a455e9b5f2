"""Put podwire on this node: its Python tree and its launchers, each replaced in one step.

Pods go on being started and stopped meanwhile. What is there already is left as it is, so that a
second run changes nothing. Exit status: 0 done, 1 it failed and what was there still works, 2 wrong
usage. See docs/installer.md.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence

from cni_plugin.cli.output import complain, emit_json, tell
from cni_plugin.cni.errors import CNIError
from cni_plugin.install.node import Done, Unfinished, install
from cni_plugin.install.place import BIN_DIR, LAUNCHERS, Place, place_of
from cni_plugin.install.release import Release, read_release

USAGE_ERROR = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Where to."""
    add_place_arguments(parser)
    parser.add_argument(
        "--from", dest="source", metavar="TREE", help="the tree to install (the one this runs from)"
    )
    add_form_argument(parser)


def add_place_arguments(parser: ArgumentParser) -> None:
    """Where the node's folders are."""
    parser.add_argument(
        "--root", default="/", metavar="FOLDER", help="where the node's root is mounted (/)"
    )
    parser.add_argument(
        "--bin-dir",
        default=BIN_DIR,
        metavar="FOLDER",
        help=f"where the node's runtime looks for plugins ({BIN_DIR})",
    )


def add_form_argument(parser: ArgumentParser) -> None:
    """Text or JSON."""
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def run(args: Namespace) -> int:
    """Install, and say what was done."""
    try:
        place = place_of(args.root, args.bin_dir)
    except ValueError as error:
        complain(str(error))
        return USAGE_ERROR
    release: Release | None = None
    failure: CNIError | None = None
    done: tuple[Done, ...] = ()
    try:
        release = read_release(args.source or sys.prefix)
        done = install(place, release, tell)
    except CNIError as error:
        failure = error
        done = error.done if isinstance(error, Unfinished) else ()
    if args.output == "json":
        emit_json(document(place, release, done, failure))
    else:
        for line in lines(place, release, done, failure):
            print(line)
    if failure is None:
        return 0
    complain(failure.msg, "; ".join(filter(None, (failure.details, _changed(done)))))
    return 1


def _changed(done: Sequence[Done]) -> str:
    if all(one.kept for one in done):
        return "nothing was changed"
    return "what is listed was done before, and stays: the next run goes on from there"


def lines(
    place: Place, release: Release | None, done: Iterable[Done], failure: CNIError | None
) -> Iterable[str]:
    """For people: what changed, then what is there."""
    for one in done:
        line = _SAID[one.act.verb].format(one.act.subject, place=place)
        yield f"kept     {one.act.subject}: {one.kept}" if one.kept else line
    if release and not failure:
        launchers = ", ".join(map(place.launcher, LAUNCHERS))
        yield f"podwire {release.version} is installed: {place.current} and {launchers}"


_SAID = {
    "copy": "copied   {place.versions}/{0}",
    "switch": "switched {place.current} to {0}",
    "launcher": "placed   {place.root}{place.bin_dir}/{0}",
    "remove": "removed  {place.versions}/{0}",
    "tidy": "tidied   {0}",
}


def document(
    place: Place, release: Release | None, done: Iterable[Done], failure: CNIError | None
) -> dict[str, object]:
    """The JSON form."""
    return {
        "version": release.version if release else None,
        "release": release.name if release else None,
        "tree": place.current,
        "launchers": [place.launcher(name) for name in LAUNCHERS],
        "done": [
            {"verb": one.act.verb, "subject": one.act.subject, "kept": one.kept or None}
            for one in done
        ],
        "failure": {"msg": failure.msg, "details": failure.details} if failure else None,
    }
