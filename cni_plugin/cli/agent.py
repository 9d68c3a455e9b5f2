"""`podwire agent`: serves calls from warm Python, frees what the dead left, repairs the node."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from functools import partial
from typing import TYPE_CHECKING

from cni_plugin.cli.output import complain
from cni_plugin.cni.errors import CNIError

if TYPE_CHECKING:
    from cni_plugin.agent.config import AgentConfig

USAGE_ERROR = 2


def add_arguments(parser: ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--config", metavar="FILE", help="YAML; without it the defaults are used")
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="say what is wrong with the config, and end; with --config - that on standard input",
    )
    parser.add_argument("--socket", metavar="PATH", help="where launchers find the agent")


def run(args: Namespace) -> int:
    """0 after a stop that finished everything, 1 for a config that is wrong or a failed start, 2
    for wrong usage."""
    from cni_plugin.agent.config import read_own_config
    from cni_plugin.agent.config_file import STDIN
    from cni_plugin.cni.model_faults import InvalidDocument

    if args.config == STDIN and not args.check_config:
        complain("--config - goes with --check-config alone: an agent reads its config again")
        return USAGE_ERROR
    try:
        # A template's file that is no good keeps no node's agent, after a reboot say, from serving.
        config = read_own_config(args.config, args.socket, files=args.check_config)
        if args.check_config:
            print(f"{args.config or 'the defaults'}: ok")
            return 0
        return _serve(config, args)
    except InvalidDocument as error:
        for fault in error.faults:
            complain(fault)
    except CNIError as error:
        complain(str(error))
    except OSError as error:
        complain(f"{error.filename or 'the agent'}: {error.strerror}")
    return 1


def _serve(config: AgentConfig | None, args: Namespace) -> int:
    """The exit status of the last agent: each valid change of the config's file begins another, in
    this process. One that cannot begin (its port is another's) leaves the node to the config
    before. Raises CNIError and OSError where there is none before."""
    from cni_plugin.agent.config import read_own_config
    from cni_plugin.agent.config_watch import ConfigWatch, Refused
    from cni_plugin.agent.run import run as serve

    status, before, refused = 0, None, None
    while config is not None and status == 0:
        watch = None
        if args.config:
            read = partial(read_own_config, args.config, args.socket)
            watch = ConfigWatch(args.config, config, read, refused)
        try:
            status = serve(config, watch)
        except (CNIError, OSError) as error:
            if before is None:
                raise
            refused = Refused(config, str(error))
            config, before = before, None
            continue
        before, refused = config, None
        config = watch.new if watch else None
    return status
