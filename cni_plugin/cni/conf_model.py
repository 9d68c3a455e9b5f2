"""The pydantic model of podwire's plugin object: types, ranges and descriptions of every key.

Only `conf` and `conf_schema` import this: pydantic costs a cold interpreter over 100 ms. Values
are strict (true is no 1, "1500" is no 1500), as in the reference plugins, whose keys these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from cni_plugin.cni import bandwidth, parse
from cni_plugin.cni.names import (
    ID_ACCEPTED,
    IFNAME_ACCEPTED,
    TYPE_ACCEPTED,
    id_fault,
    ifname_fault,
    type_fault,
)
from cni_plugin.cni.problems import Problem, path_of
from ipam.values import IPAddress, IPNetwork

MTU_MIN = 68  # bytes, RFC 791 section 3.2
MTU_MIN_V6 = 1280  # bytes, RFC 8200 section 5
MTU_MAX = 65535  # bytes, ETH_MAX_MTU of linux/if_ether.h
VLAN_MAX = 4094  # IEEE 802.1Q; 4095 is reserved


def _text(fault: Callable[[str], str | None], accepted: str) -> PlainValidator:
    def check(value: object) -> str:
        if not isinstance(value, str) or fault(value):
            raise parse.Fault(accepted)
        return value

    return PlainValidator(check)


def _whole(low: int, high: int, accepted: str, also: int | None = None) -> PlainValidator:
    def check(value: object) -> int:
        # bool is an int in Python, and true is not a number in JSON.
        if type(value) is not int or not (low <= value <= high or value == also):
            raise parse.Fault(accepted)
        return value

    return PlainValidator(check)


def _resolver_fault(text: str) -> str | None:
    fine = text and text.isascii() and text.isprintable() and " " not in text
    return None if fine and len(text) <= 255 else "no"


_RESOLVER_ACCEPTED = "1 to 255 printable ASCII characters without spaces"
ResolverText = Annotated[
    str,
    _text(_resolver_fault, _RESOLVER_ACCEPTED),
    WithJsonSchema({"type": "string", "pattern": "^[!-~]{1,255}$"}),
]
DomainText = Annotated[
    str,
    _text(lambda text: text and _resolver_fault(text), f"empty, or {_RESOLVER_ACCEPTED}"),
    WithJsonSchema({"type": "string", "pattern": "^[!-~]{0,255}$"}),
]
Address = Annotated[
    IPAddress,
    PlainValidator(parse.address),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.53", "2001:db8::53"]}),
]
Network = Annotated[
    IPNetwork,
    PlainValidator(parse.network),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.0/24", "2001:db8::/64"]}),
]
NetworkName = Annotated[
    str,
    _text(id_fault, ID_ACCEPTED),
    WithJsonSchema({"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$"}),
]
PluginType = Annotated[
    str,
    _text(type_fault, TYPE_ACCEPTED),
    WithJsonSchema({"type": "string", "pattern": "^[a-zA-Z0-9_][a-zA-Z0-9_.+-]{0,254}$"}),
]
LinkName = Annotated[
    str,
    _text(ifname_fault, IFNAME_ACCEPTED),
    WithJsonSchema({"type": "string", "pattern": r"^[^/:%\s]{1,15}$"}),
]
MTU_ACCEPTED = f"0 (automatic) or a whole number of bytes, {MTU_MIN} to {MTU_MAX}"
Mtu = Annotated[
    int,
    _whole(MTU_MIN, MTU_MAX, MTU_ACCEPTED, also=0),
    WithJsonSchema(
        {"anyOf": [{"const": 0}, {"type": "integer", "minimum": MTU_MIN, "maximum": MTU_MAX}]}
    ),
]
Vlan = Annotated[
    int,
    _whole(0, VLAN_MAX, f"0 (none) or a VLAN id, 1 to {VLAN_MAX}"),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": VLAN_MAX}),
]
QUEUE_LENGTH_MAX = (1 << 31) - 1  # packets; the kernel's own limit
QueueLength = Annotated[
    int,
    _whole(0, QUEUE_LENGTH_MAX, f"a whole number of packets, 0 to {QUEUE_LENGTH_MAX}"),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": QUEUE_LENGTH_MAX}),
]


def _amount(highest: int) -> WithJsonSchema:
    low = {"type": "integer", "minimum": bandwidth.RATE_MIN, "maximum": highest}
    return WithJsonSchema({"anyOf": [{"const": 0}, low]})


Rate = Annotated[int, PlainValidator(bandwidth.rate), _amount(bandwidth.RATE_MAX)]
Burst = Annotated[int, PlainValidator(bandwidth.burst), _amount(bandwidth.BURST_MAX)]


class DnsModel(BaseModel):
    """SPEC 1.1.0, `dns`."""

    model_config = ConfigDict(strict=True, extra="allow", title="dns")

    nameservers: list[Address] = Field([], description="Addresses of name servers, best first.")
    domain: DomainText = Field("", description="The local domain for short host names.")
    search: list[ResolverText] = Field([], description="Search domains, best first.")
    options: list[ResolverText] = Field([], description="Options for the resolver.")

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, value: Any) -> Any:
        return without_null(value, ("nameservers", "search", "options"))


class PluginModel(BaseModel):
    """podwire's object in the `plugins` of a config list."""

    model_config = ConfigDict(strict=True, extra="allow", title="podwire plugin object")

    cniVersion: Any = Field(  # noqa: N815 - the SPEC's keys are the field names here
        None, description="CNI version of the config; the runtime copies it from the list."
    )
    name: NetworkName = Field(
        description="Name of the network; the runtime copies it from the list."
    )
    type: PluginType = Field(description="Name of the executable: podwire.")
    mode: Literal["bridge", "ptp"] = Field(
        "bridge",
        description="bridge: pods are ports of a bridge. ptp: each pod has a routed link.",
    )
    bridge: LinkName = Field("cni0", description="Name of the bridge, made when absent.")
    isGateway: bool = Field(  # noqa: N815
        False, description="Give the bridge the gateway's address."
    )
    isDefaultGateway: bool = Field(  # noqa: N815
        False, description="Also make it the pod's default route; implies isGateway."
    )
    forceAddress: bool = Field(  # noqa: N815
        False, description="Replace a different address that the bridge has."
    )
    ipMasq: bool = Field(  # noqa: N815
        False, description="Masquerade what leaves the pod network, through nftables."
    )
    ipMasqBackend: Literal["iptables", "nftables"] | None = Field(  # noqa: N815
        None, description="Accepted for compatibility; podwire always uses nftables."
    )
    nonMasqueradeCIDRs: list[Network] = Field(  # noqa: N815
        [], description="Destinations that are never masqueraded."
    )
    mtu: Mtu = Field(0, description="MTU of the pod's interface; 0: from the bridge or uplink.")
    hairpinMode: bool = Field(  # noqa: N815
        True,
        description="Let a pod reach itself through its Service; false by default with"
        " promiscMode.",
    )
    promiscMode: bool = Field(  # noqa: N815
        False, description="Make the bridge promiscuous; excludes hairpinMode."
    )
    vlan: Vlan = Field(0, description="VLAN id of the pod's port on the bridge; 0: none.")
    vlanTrunk: Any = Field(  # noqa: N815
        None, description="Not supported: a VLAN trunk on the pod's port."
    )
    preserveDefaultVlan: bool = Field(  # noqa: N815
        True, description="Keep the bridge's default VLAN on the pod's port."
    )
    macspoofchk: bool = Field(
        True, description="MAC anti-spoofing alone; overrides antiSpoofing for MACs."
    )
    antiSpoofing: bool = Field(  # noqa: N815
        True, description="Drop what a pod sends from a MAC or IP that it was not given."
    )
    portIsolation: bool = Field(  # noqa: N815
        False, description="Keep pods of the bridge from reaching each other directly."
    )
    enabledad: bool = Field(
        False, description="IPv6 duplicate address detection in the pod (costs 1-2 s a pod)."
    )
    disableContainerInterface: bool = Field(  # noqa: N815
        False, description="Leave the pod's interface down; excludes ipam."
    )
    stableMac: bool = Field(  # noqa: N815
        False, description="Derive the pod's MAC from its first address."
    )
    ingressRate: Rate = Field(  # noqa: N815
        0, description="Limit of what the pod gets, bits per second; 0: none."
    )
    ingressBurst: Burst = Field(  # noqa: N815
        0, description="How much the pod gets at once above the rate, bits; with ingressRate."
    )
    egressRate: Rate = Field(  # noqa: N815
        0, description="Limit of what the pod sends, bits per second; 0: none."
    )
    egressBurst: Burst = Field(  # noqa: N815
        0, description="How much the pod sends at once above the rate, bits; with egressRate."
    )
    unshapedSubnets: list[Network] = Field(  # noqa: N815
        [],
        description="Networks that the pod talks with unlimited; excludes shapedSubnets.",
        max_length=bandwidth.NETWORKS_MAX,
    )
    shapedSubnets: list[Network] = Field(  # noqa: N815
        [],
        description="The only networks with which the pod's talk is limited.",
        max_length=bandwidth.NETWORKS_MAX,
    )
    sysctl: dict[str, str] | None = Field(
        None,
        description="Settings below net in the pod's namespace; IFNAME stands for its interface.",
    )
    txqueuelen: QueueLength = Field(
        1000, description="Length of the pod's interface's queue, packets."
    )
    allmulti: bool = Field(False, description="The pod's interface takes every multicast frame.")
    promisc: bool = Field(False, description="The pod's interface takes every frame.")
    snat: bool = Field(
        True,
        description="Masquerade what comes back by a host port to where it came from: a pod's"
        " call of itself, or of a neighbour on its bridge.",
    )
    masqAll: Any = Field(  # noqa: N815
        None, description="Not supported: masquerading everybody who calls by a host port."
    )
    conditionsV4: Any = Field(  # noqa: N815
        None, description="Not supported: conditions for host ports, as iptables' arguments."
    )
    conditionsV6: Any = Field(  # noqa: N815
        None, description="Not supported: conditions for host ports, as iptables' arguments."
    )
    markMasqBit: Any = Field(  # noqa: N815
        None, description="Accepted for compatibility; podwire marks no packets."
    )
    externalSetMarkChain: Any = Field(  # noqa: N815
        None, description="Accepted for compatibility; podwire masquerades by itself."
    )
    dns: DnsModel | None = Field(None, description="Resolver settings for the result.")
    ipam: Any = Field(None, description="Address management; absent: layer 2 only.")
    capabilities: dict[str, bool] | None = Field(
        None, description="Capabilities that the runtime may fill into runtimeConfig."
    )
    runtimeConfig: Any = Field(  # noqa: N815
        None, description="Set by the runtime: the capabilities' values for one pod."
    )
    args: Any = Field(None, description="Arguments by convention: args.cni.ips, args.cni.mac.")
    prevResult: Any = Field(  # noqa: N815
        None, description="Set by the runtime: the result of the plugin before."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, value: Any) -> Any:
        # Go writes an unset list or map as null; for a number or text null is a mistake.
        return without_null(value, _MAY_BE_NULL)


_MAY_BE_NULL = (
    "nonMasqueradeCIDRs", "unshapedSubnets", "shapedSubnets", "sysctl", "capabilities", "dns",
    "ipam",
)  # fmt: skip


def without_null(value: Any, keys: tuple[str, ...]) -> Any:
    """The object without those of keys that are null; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if item is not None or key not in keys}


# What pydantic's own checks refuse, in words. The others raise parse.Fault with the phrase.
_ACCEPTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "string_type": "a string",
    "list_type": "an array",
    "too_long": bandwidth.NETWORKS_ACCEPTED,
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "missing": "a value",
}


def model_problems(error: ValidationError, prefix: str = "") -> list[Problem]:
    """pydantic's errors as problems; prefix is the path of the object that was validated."""
    return [_problem(dict(entry), prefix) for entry in error.errors(include_url=False)]


def _problem(entry: dict[str, Any], prefix: str) -> Problem:
    parts = [part for part in (prefix, *entry["loc"]) if part != ""]
    kind = entry["type"]
    context = entry.get("ctx", {})
    if kind == "value_error":
        accepted = str(context["error"])
    elif kind == "literal_error":
        accepted = str(context["expected"]).replace("'", '"')
    else:
        accepted = _ACCEPTED.get(kind, entry["msg"])
    missing = kind == "missing"
    if missing and parts[-1] in ("name", "type"):
        accepted = ID_ACCEPTED if parts[-1] == "name" else TYPE_ACCEPTED
    value = None if missing else entry["input"]
    return Problem(path_of(parts), value, accepted, missing=missing)
