"""The `ipam` section as host-local reads it, plus our keys, validated strictly (pydantic).

The only module of ipam that imports pydantic. Keys that no model knows are kept in
`model_extra`, for the caller to warn about. A refused value is a ValueError whose text says
what is accepted; pydantic adds the path and the value.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ipam.errors import InvalidRanges
from ipam.ranges import canonical, faults, set_faults
from ipam.values import (
    DEFAULT_DATA_DIR,
    IPAddress,
    IpamConf,
    IPNetwork,
    RangeSet,
    Route,
)

# ruff: noqa: N815  # host-local's keys are the field names

COOLDOWN_MAX_S = 86400  # longer than that is a static assignment
UINT8_MAX = 255  # rtm_scope, linux/rtnetlink.h
UINT32_MAX = (1 << 32) - 1  # route attributes, linux/rtnetlink.h
_ADDRESS = "an IPv4 or IPv6 address such as 192.0.2.10 or 2001:db8::10"
_NETWORK = "a network such as 192.0.2.0/24 or 2001:db8::/64"
_TEXT_MAX = 49  # characters of the longest IPv6 address with a prefix length
_DATA_DIR = "an absolute path without '..', such as /var/lib/cni/networks"
_EXAMPLES = ["192.0.2.0/24", "2001:db8::/64"]


def _address(value: object) -> IPAddress:
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "%" in value:
        raise ValueError(_ADDRESS)
    try:
        return ip_address(value)
    except ValueError:
        raise ValueError(_ADDRESS) from None


def _interface(value: object) -> IPv4Interface | IPv6Interface:
    text, _slash, length = value.partition("/") if isinstance(value, str) else ("", "", "")
    # isdecimal alone takes the digits of every script, and ipaddress takes netmasks.
    if not (length.isascii() and length.isdecimal()) or length != str(int(length[:4])):
        raise ValueError(_NETWORK)
    try:
        return ip_interface((_address(text), int(length)))
    except ValueError:
        raise ValueError(_NETWORK) from None


def _network(value: object) -> IPNetwork:
    parsed = _interface(value)
    if parsed.ip != parsed.network.network_address:
        raise ValueError(f"a network without host bits, here {parsed.network}")
    return parsed.network


def _destination(value: object) -> IPNetwork:
    # host-local takes host bits here: its README has 3ffe:ffff:0:01ff::1/64 as a dst.
    return _interface(value).network


def _folder(value: object) -> str:
    """Normalised as host-local does (filepath.Join), but never out of where it seems to be."""
    if value == "":
        return DEFAULT_DATA_DIR
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError(_DATA_DIR)
    if ".." in value.split("/"):
        raise ValueError(_DATA_DIR)
    return "/" + os.path.normpath(value).lstrip("/")


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


def _whole(high: int, of: str = "") -> PlainValidator:
    """A whole number 0..high. bool is an int in Python and no number in JSON."""

    def check(value: object) -> int:
        if type(value) is not int or not 0 <= value <= high:
            raise ValueError(f"a whole number{of}, 0 to {high}")
        return value

    return PlainValidator(check)


def _sticky(value: object) -> str:
    if value is False or value == "":
        return ""
    if value != "pod":
        raise ValueError('"pod" or false')
    return "pod"


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a string")
    return value


def _none_is_empty(value: object) -> object:
    """Go writes an unset list as null."""
    return [] if value is None else value


Address = Annotated[IPAddress, PlainValidator(_address), _schema(type="string", format="ip")]
Network = Annotated[IPNetwork, PlainValidator(_network), _schema(type="string", examples=_EXAMPLES)]
Destination = Annotated[
    IPNetwork, PlainValidator(_destination), _schema(type="string", examples=_EXAMPLES)
]
Folder = Annotated[str, PlainValidator(_folder), _schema(type="string", pattern="^(/.*)?$")]
Number = Annotated[int, _whole(UINT32_MAX), _schema(type="integer", minimum=0, maximum=UINT32_MAX)]
Scope = Annotated[int, _whole(UINT8_MAX), _schema(type="integer", minimum=0, maximum=UINT8_MAX)]
Seconds = Annotated[
    int,
    _whole(COOLDOWN_MAX_S, " of seconds"),
    _schema(type="integer", minimum=0, maximum=COOLDOWN_MAX_S),
]
Sticky = Annotated[str, PlainValidator(_sticky), _schema(enum=["pod", "", False])]
Text = Annotated[str, PlainValidator(_text), _schema(type="string")]
Networks = Annotated[list[Network], BeforeValidator(_none_is_empty)]


class _RangeKeys(BaseModel):
    """The keys of a range. host-local takes them in `ranges` and, old style, in the section."""

    model_config = ConfigDict(strict=True, extra="allow")

    subnet: Network | None = Field(None, description="The subnet; no host bits.")
    rangeStart: Address | None = Field(None, description="First address; default the first host.")
    rangeEnd: Address | None = Field(None, description="Last address; default the last host.")
    gateway: Address | None = Field(None, description="Default the subnet's first address.")
    exclude: Networks = Field([], description="Networks inside the subnet never given (podwire).")

    @field_validator("subnet", "rangeStart", "rangeEnd", "gateway", "exclude", mode="after")
    @classmethod
    def _fits_subnet(cls, value: Any, info: ValidationInfo) -> Any:
        """Each key alone against the subnet, so that each fault is named with its key."""
        subnet = value if info.field_name == "subnet" else info.data.get("subnet")
        if subnet is None or value is None:
            return value
        found = faults(subnet, **_alone(info.field_name, value))
        if found:
            raise ValueError(found[0].accepted)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> _RangeKeys:
        found = faults(*_range_keys(self)) if self.subnet is not None else ()
        if found:
            raise ValueError("; ".join(map(str, found)))
        return self


class RangeModel(_RangeKeys):
    """One range of a range set."""

    subnet: Network = Field(description="The subnet; no host bits.")


class RouteModel(BaseModel):
    """A route for the pod, as in a CNI result."""

    model_config = ConfigDict(strict=True, extra="allow")

    dst: Destination = Field(description="Destination network.")
    gw: Address | None = Field(None, description="Next hop; default the range's gateway.")
    mtu: Number | None = Field(None, description="Path MTU in bytes.")
    advmss: Number | None = Field(None, description="TCP MSS to advertise, in bytes.")
    priority: Number | None = Field(None, description="Metric; lower wins.")
    table: Number | None = Field(None, description="Routing table.")
    scope: Scope | None = Field(None, description="Route scope.")

    @model_validator(mode="after")
    def _one_family(self) -> RouteModel:
        if self.gw is not None and self.gw.version != self.dst.version:
            raise ValueError(f"gw of the family of dst, IPv{self.dst.version}")
        return self


_Keys = tuple[
    IPNetwork, IPAddress | None, IPAddress | None, IPAddress | None, tuple[IPNetwork, ...]
]


def _not_empty(value: list[RangeModel]) -> list[RangeModel]:
    if not value:
        raise ValueError("an array of at least one range")
    return value


RangeSetModel = Annotated[list[RangeModel], AfterValidator(_not_empty)]


class IpamModel(_RangeKeys):
    """The `ipam` section for podwire-ipam and host-local."""

    type: Text = Field("podwire-ipam", description="podwire-ipam or host-local.")
    ranges: Annotated[list[RangeSetModel], BeforeValidator(_none_is_empty)] = Field(
        [], description="Range sets; a pod gets one address from each."
    )
    routes: Annotated[list[RouteModel], BeforeValidator(_none_is_empty)] = Field(
        [], description="Routes for the pod."
    )
    resolvConf: Text = Field("", description="Path of a resolv.conf to take dns from.")
    dataDir: Folder = Field(DEFAULT_DATA_DIR, description="Folder of the reservations.")
    cooldown: Seconds = Field(30, description="Seconds before an address is reused (podwire).")
    sticky: Sticky = Field("", description="pod: a pod's name keeps its address (podwire).")


def ipam_conf(model: IpamModel) -> IpamConf:
    """The section as a value. Raises InvalidRanges when there is no range or sets collide.

    The old style range comes before `ranges`, as in host-local. Ranges of the runtime
    (runtimeConfig.ipRanges) come before both: the caller puts them in.
    """
    old_style = (_range_set([model]),) if model.subnet is not None else ()
    range_sets = (*old_style, *map(_range_set, model.ranges))
    if not range_sets:
        raise InvalidRanges("at least one range set", "give ranges or subnet")
    found = set_faults(range_sets)
    if found:
        raise InvalidRanges("; ".join(map(str, found)))
    return IpamConf(
        type=model.type,
        range_sets=range_sets,
        routes=tuple(_route(route) for route in model.routes),
        resolv_conf=model.resolvConf,
        data_dir=model.dataDir,
        cooldown_s=model.cooldown,
        sticky=model.sticky,
    )


def _range_set(ranges: Sequence[_RangeKeys]) -> RangeSet:
    return tuple(canonical(*_range_keys(made)) for made in ranges)


def _range_keys(made: _RangeKeys) -> _Keys:
    if made.subnet is None:
        raise InvalidRanges("a range needs a subnet")
    return made.subnet, made.rangeStart, made.rangeEnd, made.gateway, tuple(made.exclude)


def _alone(key: str | None, value: Any) -> dict[str, Any]:
    """One key of a range as the keyword of `faults`."""
    keywords = {"rangeStart": "start", "rangeEnd": "end", "gateway": "gateway"}
    if key == "exclude":
        # Whether the excludes leave an address is a matter of all keys together.
        return {}
    return {keywords[key]: value} if key in keywords else {}


def _route(route: RouteModel) -> Route:
    return Route(
        dst=route.dst,
        gw=route.gw,
        mtu=route.mtu,
        advmss=route.advmss,
        priority=route.priority,
        table=route.table,
        scope=route.scope,
    )
