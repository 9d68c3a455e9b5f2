"""Look at the addresses that pods of this node hold, check and repair their store, free the dead.

Exit status: 0 done; 1 a finding, nothing found, or a refusal; 2 wrong usage.
"""

from __future__ import annotations

import gc as collector  # `gc` is a subcommand here
from importlib import import_module
from typing import TYPE_CHECKING

from cni_plugin.cli.output import complain
from cni_plugin.cni.errors import CNIError
from ipam.errors import IpamError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

COMMANDS = {
    "ls": "every reservation of this node: who holds it, and whether he lives",
    "show": "one attachment: who, since when, which link, live or not and why it is thought so",
    "stats": "how full each range set is; --metrics for Prometheus",
    "check": "look for everything that should not be; exit status 1 when something is found",
    "repair": "show how what `check` finds would be repaired; --yes does it",
    "gc": "show what a pass of the reconciler would free; --yes runs it",
    "release": "free the addresses of one attachment, or one that was reserved by hand",
    "reserve": "hold an address back from pods until it is released",
    "migrate": "move a network's reservations to another data folder; --check asks if one can",
}


def add_arguments(parser: ArgumentParser) -> None:
    """One parser a subcommand; each is a module with add_arguments and run."""
    found = parser.add_subparsers(dest="ipam_command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        module = import_module(f"{__name__}.{name}")
        child = found.add_parser(name, help=about, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(child)


def run(args: Namespace) -> int:
    """Hand over; what goes wrong is said with its remedy."""
    module = import_module(f"{__name__}.{args.ipam_command}")
    collector.disable()  # thousands of values that live to the end: looking for garbage costs
    try:
        status: int = module.run(args)
    except (CNIError, IpamError) as error:
        complain(error.msg, error.details)
        return 1
    except BrokenPipeError:
        raise  # for the command line as a whole
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}", _remedy(error))
        return 1
    finally:
        collector.enable()
    return status


def _remedy(error: OSError) -> str:
    return "run it as root: the store is root's" if isinstance(error, PermissionError) else ""
