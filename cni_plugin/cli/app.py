"""`podwire COMMAND ...`: finds the command's module and hands over.

Each command is a module with `add_arguments(parser)` and `run(args) -> int`; only the one that
is asked for is imported, and argparse only here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from cni_plugin import __version__
from cni_plugin.cli.output import complain, paint
from cni_plugin.cli.streams import Undelivered, drop_output, take_streams

if TYPE_CHECKING:
    from argparse import ArgumentParser

USAGE_ERROR = 2
CLOSED_PIPE = 141  # as a shell says of a program that SIGPIPE ended
ABOUT = f"podwire {__version__}: a Kubernetes CNI plugin (bridge and ptp, dual stack)"


class Command(NamedTuple):
    """A subcommand: where it lives and what it is for, in one line."""

    module: str
    help: str


COMMANDS: Mapping[str, Command] = {
    "validate": Command("cni_plugin.cli.validate", "check config lists, every problem at once"),
    "plan": Command("cni_plugin.cli.plan", "show what ADD would do, touching nothing"),
    "schema": Command("cni_plugin.cli.schema", "print the JSON Schema of the configuration"),
    "ipam": Command("cni_plugin.cli.ipam", "addresses: list, count, check, repair, free, reserve"),
    "agent": Command("cni_plugin.cli.agent", "serve calls from warm Python, and heal the node"),
    "install": Command("cni_plugin.cli.install", "put podwire on this node, or replace it"),
    "uninstall": Command("cni_plugin.cli.uninstall", "take it off, or verify that nothing is left"),
    "completion": Command("cni_plugin.cli.completion", "print a completion script for a shell"),
}


def run(argv: Sequence[str]) -> int:
    """main on this process's streams, whatever they are. 1 when stdout cannot be written."""
    take_streams()
    try:
        status = main(argv)
        sys.stdout.flush()
    except Undelivered as error:
        drop_output()
        if error.reader_left:  # `| head` has read enough
            return CLOSED_PIPE
        complain(str(error))
        return 1
    return status


def main(argv: Sequence[str]) -> int:
    """The command line without the program's name -> exit status: 0, 1 problems, 2 usage."""
    first = argv[0] if argv else ""
    if not first:
        print(about_text(), end="", file=sys.stderr)
    elif first in ("-h", "--help", "help"):
        print(help_text(), end="")
    elif first in ("-V", "--version"):
        print(f"podwire {__version__}")
    else:
        return _command(first, argv[1:]) if first in COMMANDS else _unknown(first)
    return 0


def command_parser(name: str) -> ArgumentParser:
    """The argument parser of one command."""
    from argparse import ArgumentParser

    command = COMMANDS[name]
    module = import_module(command.module)
    parser = ArgumentParser(prog=f"podwire {name}", description=module.__doc__, allow_abbrev=False)
    module.add_arguments(parser)
    return parser


def _command(name: str, arguments: Sequence[str]) -> int:
    try:
        args = command_parser(name).parse_args(arguments)
    except SystemExit as left:  # argparse: 0 after --help, 2 after a usage error
        return left.code if isinstance(left.code, int) else USAGE_ERROR
    status: int = import_module(COMMANDS[name].module).run(args)
    return status


def _unknown(word: str) -> int:
    from difflib import get_close_matches

    near = get_close_matches(word, [*COMMANDS, "--help", "--version"], n=1)
    hint = f"did you mean `podwire {near[0]}`? " if near else ""
    complain(f"unknown command {word!r}", f"{hint}`podwire --help` lists the commands")
    return USAGE_ERROR


def about_text() -> str:
    """What this is, for a person who started the executable with nothing."""
    from cni_plugin.cni.errors import SUPPORTED_VERSIONS

    return (
        f"{ABOUT}\nCNI versions supported: {', '.join(SUPPORTED_VERSIONS)}\n"
        "A container runtime calls it with CNI_COMMAND set; `podwire --help` is for people.\n"
    )


def help_text() -> str:
    """The overview of the command line."""
    width = max(len(name) for name in COMMANDS)
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            ABOUT,
            "",
            paint("usage:", "bold", sys.stdout) + " podwire COMMAND [OPTION...] [FILE...]",
            "       podwire --help | --version",
            "",
            paint("commands:", "bold", sys.stdout),
            *lines,
            "",
            "`podwire COMMAND --help` tells more. With CNI_COMMAND set in the environment",
            "podwire is a CNI plugin and reads its configuration from standard input.",
            "",
        ]
    )
