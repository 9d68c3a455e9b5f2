"""The one entry, for direct runs and the agent: environment and stdin in, a Reply out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin import __version__
from cni_plugin.cni.conf_runtime import apply_args
from cni_plugin.cni.skel import LoadConf, serve
from cni_plugin.cni.values import Reply, Request, Result
from cni_plugin.ports import Ports

ABOUT = f"podwire {__version__}, a CNI plugin: wires pods by bridge or point to point"
CLEANING = ("DEL", "GC")  # these go on where others refuse


def handle(environ: Mapping[str, str], stdin: bytes, ports: Ports, load_conf: LoadConf) -> Reply:
    """One call, from environment and stdin to stdout, stderr and exit status. Never raises."""

    def run(request: Request) -> Result | None:
        lenient = request.command in CLEANING
        conf = apply_args(request.conf, request.args, lenient=lenient, warn=ports.warn)
        return _verb(request.command)(request._replace(conf=conf), ports)

    verbs = dict.fromkeys(("ADD", "DEL", "CHECK", "GC", "STATUS"), run)
    return serve(environ, stdin, load_conf, verbs, about=ABOUT, warn=ports.warn)


def _verb(command: str) -> Callable[[Request, Ports], Result | None]:
    """Only the module of the verb that is asked for is imported."""
    if command == "ADD":
        from cni_plugin.commands.add import add

        return add
    if command == "DEL":
        from cni_plugin.commands.delete import delete

        return delete
    if command == "CHECK":
        from cni_plugin.commands.check import check

        return check
    if command == "GC":
        from cni_plugin.commands.gc import collect

        return collect
    from cni_plugin.commands.status import status

    return status
