"""`podwire agent`: serves calls from warm Python, frees what the dead left, repairs the node."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from cni_plugin.cli.output import complain
from cni_plugin.cni.errors import CNIError


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--config", metavar="FILE", help="YAML; without it the defaults are used")
    parser.add_argument(
        "--check-config", action="store_true", help="say what is wrong with the config, and end"
    )
    parser.add_argument("--socket", metavar="PATH", help="where launchers find the agent")


def run(args: Namespace) -> int:
    """0 after a stop that finished everything, 1 for a config that is wrong or a failed start."""
    from cni_plugin.agent.config import read_config

    try:
        config = read_config(args.config, args.socket)
        if args.check_config:
            print(f"{args.config or 'the defaults'}: ok")
            return 0
        from cni_plugin.agent.run import run as serve

        return serve(config)
    except CNIError as error:
        complain(str(error))
    except OSError as error:
        complain(f"{error.filename or 'the agent'}: {error.strerror}")
    return 1
