"""runtimeConfig, args.cni and CNI_ARGS: what one pod asks for on top of the network's config.

Apart from the model because it differs from pod to pod: the rest of a config is validated once
and kept (`conf_cache`), this is read at every call and must not need pydantic.
Precedence: runtimeConfig over args.cni over CNI_ARGS (CNI conventions, "Dynamic Plugin specific
Fields").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cni_plugin.cni import parse
from cni_plugin.cni.errors import InvalidEnvironment
from cni_plugin.cni.go_keys import as_documented
from cni_plugin.cni.names import shown
from cni_plugin.cni.problems import Problem, forgive, raise_problems
from cni_plugin.cni.values import Bandwidth, NetConf, PortMapping, RuntimeConf
from ipam.lean_typing import Any, NamedTuple, TypeVar
from ipam.values import IPInterface

T = TypeVar("T")
JsonObject = dict[str, Any]
TEXT_ACCEPTED = "1 to 255 printable ASCII characters without spaces"
_READ = ("ips", "mac", "ipRanges", "dns", "aliases", "bandwidth", "portMappings")
BANDWIDTH_IGNORED = "runtimeConfig.bandwidth is ignored: the network's config has limits of its own"
_DNS_FIELDS = {"servers": "nameservers", "searches": "search", "options": "options"}


class RuntimeReview(NamedTuple):
    """What the runtime asked for, in this document alone. dns holds only the fields it gave."""

    runtime: RuntimeConf = RuntimeConf()
    dns: Mapping[str, Any] = {}
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def review_runtime(document: Mapping[str, object]) -> RuntimeReview:
    """Read runtimeConfig and args.cni; ipRanges are the base config's and validated there."""
    problems: list[Problem] = []
    runtime = as_documented(_mapping(document.get("runtimeConfig"), "runtimeConfig", problems))
    args = _mapping(document.get("args"), "args", problems)
    cni = _mapping(args.get("cni"), "args.cni", problems)
    ips = _ips(runtime, "runtimeConfig", problems) or ()
    arg_ips = _ips(cni, "args.cni", problems) or ()
    mac = _mac(runtime, "runtimeConfig", problems)
    arg_mac = _mac(cni, "args.cni", problems)
    aliases = _texts(runtime.get("aliases"), "runtimeConfig.aliases", problems)
    limits, wrong = _bandwidth(runtime)
    problems += wrong
    mappings, wrong = _port_mappings(runtime)
    problems += wrong
    dns = _dns(runtime.get("dns"), problems)
    warnings = tuple(
        f"runtimeConfig.{shown(key)[1:-1]} is not a capability of podwire and is ignored"
        for key in runtime
        if key not in _READ
    )
    asked = RuntimeConf(ips or arg_ips, mac or arg_mac, aliases, limits, mappings)
    return RuntimeReview(asked, dns, tuple(problems), warnings)


def finish(
    base: NetConf | None,
    problems: Sequence[Problem],
    review: RuntimeReview,
    *,
    lenient: bool,
    warn: Callable[[str], None],
) -> NetConf:
    """The base config with what the runtime asked for.

    problems: the base's. lenient turns every problem into a warning; otherwise one error names
    all of them. Raises InvalidNetworkConfig or UnsupportedField.
    """
    for line in review.warnings:
        warn(line)
    found = [*problems, *review.problems, *_without_addresses(base, review.runtime)]
    if lenient:
        forgive(found, warn)
    else:
        raise_problems(found)
    if base is None:
        raise AssertionError("a review without a config has problems")
    if base.bandwidth.limits and review.runtime.bandwidth.limits:
        warn(BANDWIDTH_IGNORED)
    if review.runtime == base.runtime and not review.dns:
        return base  # the same object for every pod that asks for nothing
    return base._replace(runtime=review.runtime, dns=base.dns._replace(**review.dns))


def apply_args(
    conf: NetConf,
    args: Mapping[str, str],
    *,
    lenient: bool = False,
    warn: Callable[[str], None] = lambda _line: None,
) -> NetConf:
    """The config with IP and MAC of CNI_ARGS where nothing stronger asked for them.

    IP may be a list separated by commas, as the reference plugin `static` has it. lenient (DEL):
    a wrong value is a warning. Raises InvalidEnvironment naming the key.
    """
    try:
        ips = conf.runtime.ips or _arg_ips(args.get("IP", ""))
        mac = conf.runtime.mac or _arg_mac(args.get("MAC", ""))
    except InvalidEnvironment as error:
        if not lenient:
            raise
        warn(f"clean-up goes on without it: {error}")
        return conf
    runtime = conf.runtime._replace(ips=ips, mac=mac)
    return conf if runtime == conf.runtime else conf._replace(runtime=runtime)


def _arg_ips(text: str) -> tuple[IPInterface, ...]:
    if not text:
        return ()
    return tuple(_arg("IP", part.strip(), parse.requested) for part in text.split(","))


def _arg_mac(text: str) -> str:
    return _arg("MAC", text, parse.mac) if text else ""


def _arg(key: str, text: str, parser: Callable[[object], T]) -> T:
    try:
        return parser(text)
    except parse.Fault as fault:
        raise InvalidEnvironment(f"CNI_ARGS holds {key}={shown(text)}, accepted: {fault}") from None


def _mapping(value: object, path: str, problems: list[Problem]) -> JsonObject:
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    problems.append(Problem(path, value, "an object"))
    return {}


def _entries(value: object, path: str, problems: list[Problem]) -> list[tuple[str, object]]:
    if value is None:
        return []
    if isinstance(value, list):
        return [(f"{path}[{index}]", entry) for index, entry in enumerate(value)]
    problems.append(Problem(path, value, "an array"))
    return []


def _parsed(
    path: str, value: object, parser: Callable[[object], T], problems: list[Problem]
) -> T | None:
    try:
        return parser(value)
    except parse.Fault as fault:
        problems.append(Problem(path, value, str(fault)))
        return None


def _ips(source: Mapping[str, Any], path: str, problems: list[Problem]) -> tuple[IPInterface, ...]:
    entries = _entries(source.get("ips"), f"{path}.ips", problems)
    parsed = (_parsed(where, entry, parse.requested, problems) for where, entry in entries)
    return tuple(ip for ip in parsed if ip is not None)


def _mac(source: Mapping[str, Any], path: str, problems: list[Problem]) -> str:
    value = source.get("mac")
    if value is None or value == "":
        return ""
    return _parsed(f"{path}.mac", value, parse.mac, problems) or ""


def _texts(value: object, path: str, problems: list[Problem]) -> tuple[str, ...]:
    entries = _entries(value, path, problems)
    parsed = (_parsed(where, entry, _printable, problems) for where, entry in entries)
    return tuple(text for text in parsed if text is not None)


def _printable(value: object) -> str:
    # These end in resolv.conf and in DNS records: a newline would add a line of the pod's choice.
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise parse.Fault(TEXT_ACCEPTED)
    if not value.isascii() or not value.isprintable() or " " in value:
        raise parse.Fault(TEXT_ACCEPTED)
    return value


def _server(value: object) -> str:
    return str(parse.address(value))


def _dns(value: object, problems: list[Problem]) -> dict[str, tuple[str, ...]]:
    source = _mapping(value, "runtimeConfig.dns", problems)
    found: dict[str, tuple[str, ...]] = {}
    for key, field in _DNS_FIELDS.items():
        path = f"runtimeConfig.dns.{key}"
        parser = _server if key == "servers" else _printable
        entries = _entries(source.get(key), path, problems)
        parsed = (_parsed(where, entry, parser, problems) for where, entry in entries)
        if texts := tuple(text for text in parsed if text is not None):
            found[field] = texts
    return found


def _bandwidth(runtime: Mapping[str, Any]) -> tuple[Bandwidth, list[Problem]]:
    """What asks for nothing is nothing, whatever its shape: runtimes send it to every pod."""
    path = "runtimeConfig.bandwidth"
    problems: list[Problem] = []
    asked = runtime.get("bandwidth")
    source = _mapping(asked, path, problems) if _asks(asked) else {}
    if not source:
        return Bandwidth(), problems
    from cni_plugin.cni import bandwidth  # few pods ask for any

    limits, problems = bandwidth.review(source, path)
    return (Bandwidth() if problems else limits), problems


def _port_mappings(runtime: Mapping[str, Any]) -> tuple[tuple[PortMapping, ...], list[Problem]]:
    """An empty list asks for nothing: runtimes send it to every pod. So does null, as Go writes a
    list that nobody filled."""
    asked = runtime.get("portMappings")
    if asked is None or asked == []:
        return (), []
    from cni_plugin.cni import port_mappings  # few pods ask for any

    return port_mappings.review(asked, "runtimeConfig.portMappings")


def _without_addresses(base: NetConf | None, runtime: RuntimeConf) -> list[Problem]:
    """A port leads to an address, and without ipam podwire knows of none."""
    if base is None or base.ipam is not None or not runtime.port_mappings:
        return []
    count = len(runtime.port_mappings)
    accepted = "[], or absent, for a network without ipam: podwire knows no address of the pod"
    return [Problem("runtimeConfig.portMappings", f"{count} mappings", accepted)]


def _asks(value: object) -> bool:
    """False for what asks for nothing: null, [], {} and an object of nothing but zeros."""
    if isinstance(value, dict):
        return any(_asks(item) for item in value.values())
    return bool(value)
