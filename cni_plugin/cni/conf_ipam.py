"""The `ipam` section: podwire's own is validated by `ipam.conf`, a foreign one is let be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from cni_plugin.cni.conf_model import model_problems
from cni_plugin.cni.names import TYPE_ACCEPTED, type_fault
from cni_plugin.cni.problems import Problem, path_of, unknown_key
from ipam.errors import IpamError
from ipam.values import DEFAULT_DATA_DIR, IpamConf

OWN_TYPE = "podwire-ipam"
OWN_TYPES = (OWN_TYPE, "host-local")
# host-local's old form: one range whose keys stand in the ipam section itself.
_SINGLE_RANGE = ("subnet", "rangeStart", "rangeEnd", "gateway", "exclude")
# Counted before any is looked at, so that no list keeps DEL busy: a range takes about 0.1 ms.
RANGES_MAX = 1024
_SECTION = "an object; leave it out for layer 2 only"


class IpamReview(NamedTuple):
    """conf is None without ipam, and when there are problems."""

    conf: IpamConf | None = None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


def ipam_type(section: Mapping[str, object], *, ip_ranges: bool) -> str:
    """The section's type; podwire's own when none is given but ranges are; empty otherwise.

    ip_ranges: the runtime sent ranges. The answer need not be a valid type.
    """
    kind = section.get("type")
    if isinstance(kind, str) and kind:
        return kind
    if ip_ranges or section.get("ranges") or section.get("subnet"):
        return OWN_TYPE
    return ""


def review_ipam(document: Mapping[str, object]) -> IpamReview:
    """Read `ipam`, with `runtimeConfig.ipRanges` put before its ranges as host-local does."""
    section = document.get("ipam")
    if section is None or section == {}:
        return IpamReview()
    if not isinstance(section, dict):
        return IpamReview(problems=(Problem("ipam", section, _SECTION),))
    ip_ranges, problems = _ip_ranges(document)
    given = section.get("type", "")
    if not isinstance(given, str) or (given and type_fault(given)):
        return IpamReview(problems=(*problems, Problem("ipam.type", given, TYPE_ACCEPTED)))
    kind = ipam_type(section, ip_ranges=bool(ip_ranges))
    if not kind:
        accepted = "an IPAM plugin's name; or give podwire's own a subnet or ranges"
        return IpamReview(problems=(*problems, Problem("ipam.type", None, accepted, missing=True)))
    if kind not in OWN_TYPES:
        return IpamReview(None if problems else IpamConf(type=kind), tuple(problems))
    review = _review_own({**section, "type": kind}, ip_ranges)
    return review._replace(problems=(*problems, *review.problems))


def _ip_ranges(document: Mapping[str, object]) -> tuple[list[Any], list[Problem]]:
    runtime = document.get("runtimeConfig")
    ranges = runtime.get("ipRanges") if isinstance(runtime, dict) else None
    if ranges is None or isinstance(ranges, list):
        return ranges or [], []
    return [], [Problem("runtimeConfig.ipRanges", ranges, "an array of range sets")]


def _review_own(section: dict[str, Any], ip_ranges: list[Any]) -> IpamReview:
    from ipam.conf import IpamModel, ipam_conf

    merged, single = _merged(section, ip_ranges)
    count = _count(merged.get("ranges"))
    if count > RANGES_MAX:
        accepted = f"at most {RANGES_MAX} ranges in all range sets"
        return IpamReview(problems=(Problem("ipam.ranges", f"{count} ranges", accepted),))
    try:
        model = IpamModel.model_validate(merged)
    except ValidationError as error:
        found = model_problems(error, "ipam")
        return IpamReview(
            problems=tuple(
                problem._replace(path=_moved(problem.path, len(ip_ranges), single))
                for problem in found
            )
        )
    warnings = tuple(
        str(extra._replace(path=_moved(extra.path, len(ip_ranges), single)))
        for extra in extra_keys(model, "ipam")
    )
    try:
        return IpamReview(ipam_conf(model), warnings=warnings)
    except IpamError as error:
        accepted = f"{error.msg}; {error.details}" if error.details else error.msg
        shown_ranges = merged.get("ranges", merged.get("subnet"))
        return IpamReview(problems=(Problem("ipam.ranges", shown_ranges, accepted),))


def _count(range_sets: object) -> int:
    """How many ranges the sets hold, whatever they are worth."""
    if not isinstance(range_sets, list):
        return 0
    return sum(len(ranges) if isinstance(ranges, list) else 1 for ranges in range_sets)


def _merged(section: dict[str, Any], ip_ranges: list[Any]) -> tuple[dict[str, Any], bool]:
    """The section with the runtime's ranges first; and whether a single range moved behind them."""
    if not ip_ranges:
        return section, False
    single = {key: section[key] for key in _SINGLE_RANGE if key in section}
    rest = {key: value for key, value in section.items() if key not in single}
    listed = rest.get("ranges") or []
    if not isinstance(listed, list):
        return section, False  # the model refuses it under its own name
    return {**rest, "ranges": [*ip_ranges, *([[single]] if single else []), *listed]}, bool(single)


def _moved(path: str, count: int, single: bool) -> str:
    """The path that the user knows, when `count` ranges of the runtime came first."""
    head = "ipam.ranges["
    if not count or not path.startswith(head):
        return path
    number, _, tail = path[len(head) :].partition("]")
    index = int(number)
    if index < count:
        return f"runtimeConfig.ipRanges[{index}]{tail}"
    if single and index == count:
        return f"ipam{tail.removeprefix('[0]')}"
    return f"{head}{index - count - single}]{tail}"


class Extra(NamedTuple):
    """A key that no model reads: where its object is, the key, and what is read there."""

    path: str
    key: str
    known: tuple[str, ...]

    def __str__(self) -> str:
        return unknown_key(self.path, self.key, self.known)


def extra_keys(model: BaseModel, path: str) -> list[Extra]:
    """The keys that no model reads, at every depth."""
    fields = type(model).model_fields
    extra = model.model_extra or {}
    found = [Extra(path, key, tuple(fields)) for key in extra if not key.startswith("cni.dev/")]
    for name in fields:
        found += _extra_in(getattr(model, name), path_of([path, name] if path else [name]))
    return found


def _extra_in(value: object, path: str) -> list[Extra]:
    if isinstance(value, BaseModel):
        return extra_keys(value, path)
    if isinstance(value, list):
        nested = (_extra_in(item, f"{path}[{index}]") for index, item in enumerate(value))
        return [extra for extras in nested for extra in extras]
    return []


def lenient_ipam(document: Mapping[str, object]) -> IpamConf | None:
    """Enough of a broken section for DEL and GC: type and dataDir, which say where leases are.

    A foreign type is kept too: its plugin gets the DEL and may understand its own section.
    """
    section = document.get("ipam")
    if not isinstance(section, dict) or not section:
        return None
    kind = ipam_type(section, ip_ranges=bool(_ip_ranges(document)[0])) or OWN_TYPE
    if type_fault(kind):
        return None
    folder = _folder(section.get("dataDir")) if kind in OWN_TYPES else DEFAULT_DATA_DIR
    return IpamConf(type=kind, data_dir=folder)


def _folder(value: object) -> str:
    from ipam.conf import IpamModel

    if value is None:
        return DEFAULT_DATA_DIR
    try:
        return IpamModel.model_validate({"dataDir": value}).dataDir
    except ValidationError:
        return DEFAULT_DATA_DIR
