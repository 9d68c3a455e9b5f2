"""CNI_* environment -> Environment, by the SPEC's table of variables by command.

Source: SPEC 1.1.0 section 2, "Parameters" and "CNI operations".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cni_plugin.cni.errors import InvalidEnvironment
from cni_plugin.cni.names import id_fault, ifname_fault, shown
from cni_plugin.cni.values import Attachment, Pod
from ipam.lean_typing import NamedTuple

# Which variables a command cannot do without. DEL's netns may be gone (SPEC 1.1.0, DEL), and
# GC needs the path because it must find the delegates of attachments that it forgets.
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
    "VERSION": (),
}
COMMANDS = tuple(REQUIRED)
_ATTACHMENT_COMMANDS = ("ADD", "CHECK", "DEL")

KNOWN_ARGS = (
    "IP",
    "MAC",
    "IgnoreUnknown",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
)
# Not of the SPEC: the launcher names each call, so that one which is repeated is known again.
REQUEST_ID, UNDOES = "PODWIRE_REQUEST", "PODWIRE_UNDOES"
_TRUE = ("1", "true")  # libcni's reading of a boolean in CNI_ARGS, any case
_FALSE = ("0", "false")
_PATH_MAX = 4095  # bytes, linux/limits.h less the terminating NUL


class Environment(NamedTuple):
    """The CNI_* variables of one call, checked. Empty where the command does not use them."""

    command: str
    attachment: Attachment = Attachment("", "")
    netns: str = ""
    path: tuple[str, ...] = ()
    args: Mapping[str, str] = {}
    pod: Pod = Pod()


def parse_command(environ: Mapping[str, str]) -> str:
    """CNI_COMMAND. Raises InvalidEnvironment when it is none of the SPEC's."""
    command = environ.get("CNI_COMMAND", "")
    if command not in REQUIRED:
        raise InvalidEnvironment(
            f"CNI_COMMAND is {shown(command)}, expected one of {', '.join(COMMANDS)}"
        )
    return command


def parse_environment(environ: Mapping[str, str], warn: Callable[[str], None]) -> Environment:
    """The whole environment of a call.

    GC, STATUS and VERSION ignore the attachment's variables: libcni sets them empty or to
    "dummy". DEL forgives a bad CNI_NETNS and bad CNI_ARGS with a warning, because the address
    must be released all the same. Raises InvalidEnvironment naming every variable at fault.
    """
    command = parse_command(environ)
    path = tuple(entry for entry in environ.get("CNI_PATH", "").split(":") if entry)
    _require(command, environ)
    if command not in _ATTACHMENT_COMMANDS:
        return Environment(command, path=path)
    lenient = command == "DEL"
    faults = _attachment_faults(environ)
    netns = environ.get("CNI_NETNS", "")
    if fault := netns_fault(netns):
        if lenient:
            warn(f"DEL goes on without a network namespace: {fault}")
            netns = ""
        else:
            faults.append(fault)
    if faults:
        raise InvalidEnvironment(faults[0], "; ".join(faults[1:]))
    args = _args(environ.get("CNI_ARGS", ""), lenient, warn)
    pod = Pod(
        namespace=args.get("K8S_POD_NAMESPACE", ""),
        name=args.get("K8S_POD_NAME", ""),
        uid=args.get("K8S_POD_UID", ""),
    )
    attachment = Attachment(environ["CNI_CONTAINERID"], environ["CNI_IFNAME"])
    return Environment(command, attachment, netns, path, args, pod)


def _require(command: str, environ: Mapping[str, str]) -> None:
    missing = [name for name in REQUIRED[command] if not environ.get(name)]
    if missing:
        names = ", ".join(missing)
        raise InvalidEnvironment(
            f"{command} needs {names}: not set or empty",
            f"{command} requires CNI_COMMAND, {', '.join(REQUIRED[command])}",
        )


def _attachment_faults(environ: Mapping[str, str]) -> list[str]:
    checks = (("CNI_CONTAINERID", id_fault), ("CNI_IFNAME", ifname_fault))
    return [
        f"{name} is {shown(environ[name])}, accepted: {accepted}"
        for name, check in checks
        if (accepted := check(environ[name]))
    ]


def netns_fault(netns: str) -> str | None:
    """None, or what is wrong with the path of a network namespace (empty is not judged here)."""
    if not netns or (netns.startswith("/") and "\0" not in netns and len(netns) <= _PATH_MAX):
        return None
    return (
        f"CNI_NETNS is {shown(netns)}, accepted: the absolute path of a network namespace,"
        f" at most {_PATH_MAX} characters"
    )


def _args(text: str, lenient: bool, warn: Callable[[str], None]) -> Mapping[str, str]:
    try:
        return parse_args(text)
    except InvalidEnvironment as error:
        if not lenient:
            raise
        warn(f"DEL goes on without CNI_ARGS: {error}")
        return {}


def parse_args(text: str) -> dict[str, str]:
    """CNI_ARGS `K=V;K=V`, in any order, to a mapping of the keys that podwire knows.

    Like libcni: one `=` a pair, keys are case-sensitive, the last of equal keys wins,
    IgnoreUnknown is one of 1 true 0 false in any case, and a key that nobody knows is an error
    unless IgnoreUnknown is true. Raises InvalidEnvironment.
    """
    if not text:
        return {}
    args: dict[str, str] = {}
    for pair in text.split(";"):
        key, equals, value = pair.partition("=")
        if not key or not equals or "=" in value:
            raise InvalidEnvironment(
                f"CNI_ARGS holds {shown(pair)}, expected KEY=VALUE pairs separated by ;",
                f"CNI_ARGS is {shown(text)}",
            )
        args[key] = value
    unknown = [key for key in args if key not in KNOWN_ARGS]
    if unknown and not _truth(args.get("IgnoreUnknown", "false")):
        raise InvalidEnvironment(
            f"CNI_ARGS holds unknown keys: {shown(', '.join(unknown))}",
            f"known are {', '.join(KNOWN_ARGS)}; IgnoreUnknown=1 makes podwire ignore the others",
        )
    _truth(args.get("IgnoreUnknown", "false"))  # a wrong value is an error even when unused
    return {key: value for key, value in args.items() if key in KNOWN_ARGS}


def _truth(text: str) -> bool:
    folded = text.lower()
    if folded in _TRUE:
        return True
    if folded in _FALSE:
        return False
    raise InvalidEnvironment(
        f"CNI_ARGS holds IgnoreUnknown={shown(text)}, accepted: 1, true, 0, false"
    )
